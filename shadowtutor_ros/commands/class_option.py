"""The option of several commands that says what is to be seen."""

from shadowtutor_ros.classes import ClassTable, load_classes

#: Help of the option that every command has which lets a student learn.
CLASSES_HELP = (
    "what is to be seen: 'lvs', 'coco', a YAML file, or names separated by commas; with unions by "
    'semicolons, as in "person; auto: car, bus" (default: those of the weights)')


def classes_of(text: str) -> ClassTable | None:
    """Return the classes of such an option; None where it is left out."""
    return load_classes(text) if text else None
