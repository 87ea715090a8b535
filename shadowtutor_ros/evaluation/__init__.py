"""Measuring the system: the built-in scene and what it shows."""
