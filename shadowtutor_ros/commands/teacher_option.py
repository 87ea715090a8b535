"""The option of several commands that says who labels, where it may be left out."""

from collections.abc import Iterable

#: Help of the option.
TEACHER_HELP = (
    'as the parameter teacher of the teacher node (default: scene for the scene, else '
    'maskrcnn_resnet50_fpn)')


def teacher_for(videos: Iterable[str]) -> str:
    """Return the teacher of videos where the option is left out."""
    return 'scene' if set(videos) == {'scene'} else 'maskrcnn_resnet50_fpn'
