"""The teacher of the built-in scene: ground truth, found by the timecode in the frame itself."""

from functools import lru_cache

import numpy as np

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.world.scenes import read_timecode, Scene
from shadowtutor_ros.world.things import VOCABULARY


class SceneTeacher:
    """
    Reads a frame's timecode and renders that frame's label anew, at the frame's own size.

    There is no other channel: the frame may come from a camera node, a file or a bag, compressed
    or resized, as long as its bottom edge is there and its proportions are kept.

    A pixel is of the class of what is seen there, such as a wheel, or, where the table has none
    for that, of what it belongs to: the car, or the vehicle. The houses of a street differ with
    the size that it is rendered at, so that a frame which was resized has others than its label.
    """

    def __init__(self) -> None:
        self.vocabulary = VOCABULARY
        # A robot is in one scene; to make one takes as long as many frames of it.
        self._scene = lru_cache(maxsize=16)(Scene)

    def __call__(self, frame: np.ndarray, classes: ClassTable) -> TeacherPrediction:
        """
        Label a frame.

        :param frame: H×W×3 uint8, BGR, at least 32×24.
        :param classes: that it is labelled with.
        :raises ValueError: if the frame carries no timecode that can be read.
        """
        code = read_timecode(frame)
        height, width = frame.shape[:2]
        if code is None:
            raise ValueError(
                f'a frame of {width}x{height} carries no readable timecode; the teacher "scene" '
                'labels only frames of the built-in scene, with their bottom edge and no stronger '
                'compression than JPEG at quality 50: choose another teacher for other video')
        truth = self._scene(code.seed, code.look, width, height).render(code.index, classes)
        return TeacherPrediction(truth.label, truth.boxes)
