"""How far a scene has drifted from its last key frame, in the student's own features."""

import torch
import torch.nn.functional as F

#: Cells, rows by columns, that the features are averaged over: coarse, so that a small movement
#: of what is seen is no drift.
_GRID = 3, 4


class SceneDrift:
    """
    The distance between a frame and a reference frame, the last key frame.

    It is the Euclidean distance of their averaged features over the length of the reference's: 0
    for equal frames, about 1 where one has nothing to do with the other. It costs next to nothing,
    since inference computes the features anyway.
    """

    def __init__(self) -> None:
        self._reference: torch.Tensor | None = None
        #: Of the last frame.
        self.distance = 0.0

    def update(self, enc3: torch.Tensor, is_reference: bool) -> float:
        """
        Measure a frame.

        :param enc3: what the student's last encoder block made of it, 1×C×h×w.
        :param is_reference: whether it becomes the reference.
        :returns: its distance from the reference; 0 for the reference itself.
        """
        features = F.adaptive_avg_pool2d(enc3.float(), _GRID)
        if is_reference or self._reference is None or self._reference.shape != features.shape:
            self._reference = features
        difference = torch.linalg.vector_norm(features - self._reference)
        self.distance = float(difference / torch.linalg.vector_norm(self._reference))
        return self.distance
