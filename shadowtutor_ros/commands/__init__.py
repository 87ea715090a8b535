"""The command `shadowtutor` and its subcommands."""


class CommandError(ValueError):
    """What keeps a command from doing its work, in one line."""
