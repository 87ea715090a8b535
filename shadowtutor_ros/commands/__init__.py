"""The command `shadowtutor` and its subcommands."""
