"""The command `shadowtutor` and its subcommands."""

#: Help of the option that every command has which lets a student learn.
CLASSES_HELP = (
    "what is to be seen: 'lvs', 'coco', a YAML file, or names separated by commas; with unions by "
    'semicolons, as in "person; auto: car, bus" (default: those of the weights)')


class CommandError(ValueError):
    """What keeps a command from doing its work, in one line."""
