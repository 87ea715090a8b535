"""The built-in world: streets that are painted, with exact labels."""
