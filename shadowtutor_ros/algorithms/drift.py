"""
How the scene has changed since its last key frame: as a whole, and region by region.

As a whole in the student's own features (:class:`SceneDrift`), where another scene is far away and
a small thing hides; region by region in the image itself (:class:`SceneWatch`), where a small
thing shows and no weights have a say.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from shadowtutor_ros.models.student.inference import InferenceEngine


class SceneDrift:
    """
    The distance between a frame and a reference frame, the last key frame.

    It is the Euclidean distance of their averaged features over the length of the reference's: 0
    for equal frames, about 1 where one has nothing to do with the other. It costs next to nothing,
    since inference computes the features anyway; only where an update has changed the encoder the
    reference is inferred again, as features of other weights cannot be compared.
    """

    #: Cells, rows by columns, that the features are averaged over: coarse, so that a small
    #: movement of what is seen is no drift.
    GRID = 3, 4

    def __init__(self) -> None:
        #: The reference and the last frame: features and image.
        self._reference: tuple[torch.Tensor, np.ndarray] | None = None
        self._last: tuple[torch.Tensor, np.ndarray] | None = None
        self._encoder_version = 0
        #: Of the last frame.
        self.distance = 0.0

    def update(self, engine: InferenceEngine, frame: np.ndarray, is_reference: bool) -> float:
        """
        Measure a frame.

        :param engine: has just inferred it; where an update has changed the encoder it infers the
            reference next.
        :param frame: H×W×3 uint8, BGR; must not be written to later.
        :param is_reference: whether it becomes the reference.
        :returns: its distance from the reference; 0 for the reference itself.
        """
        features = self._features(engine)
        self._last = features, frame
        if (is_reference or self._reference is None
                or self._reference[0].shape != features.shape):
            self._encoder_version = engine.encoder_version
            self.refer()
            return self.distance
        if engine.encoder_version != self._encoder_version:
            self._encoder_version = engine.encoder_version
            engine(self._reference[1])
            self._reference = self._features(engine), self._reference[1]
        reference = self._reference[0]
        difference = torch.linalg.vector_norm(features - reference)
        self.distance = float(difference / torch.linalg.vector_norm(reference))
        return self.distance

    @property
    def features(self) -> torch.Tensor:
        """The averaged features of the last frame."""
        return self._last[0]

    def refer(self) -> None:
        """Make the last frame the reference."""
        self._reference = self._last
        self.distance = 0.0

    def _features(self, engine: InferenceEngine) -> torch.Tensor:
        return F.adaptive_avg_pool2d(engine.features.float(), self.GRID)


class SceneWatch:
    """
    Watches the regions of an otherwise still scene for what was not in its last key frames.

    The image is reduced to cells, and each compared with those of the last :data:`VIEWS` key
    frames, times the gain that most cells have in common: the exposure. It has changed if it
    differs from all of them by more than noise, than a trembling camera would make of its
    surroundings, and than several times what is usual over the frame at hand: where everything
    moves, nothing stands out. What somebody who leaves uncovers has been seen before.

    Changed cells that touch make a region, and a region that moves is the same from one frame to
    the next where it overlaps itself. What had changed in a key frame is known from then on,
    wherever it goes, until it has kept still for :data:`MEMORY`; but less than :data:`WHOLE`, and
    what has grown by :data:`GROWTH` since, was the head of what was coming.

    :ivar changed: whether a region has differed from the last key frames for :data:`STAY`.
    :ivar entered: whether there is such a region of something that is not known.
    """

    #: Cells, rows by columns. What covers 0.5 % of the frame covers a dozen.
    GRID = 36, 64
    #: Key frames that are remembered.
    VIEWS = 10
    #: A region is at least so many of them, 0.25 % of the frame: the darker half of somebody may
    #: look like what is behind.
    LEAST = 6
    #: What has to be so large at least in a key frame to be known, 0.5 % of the frame.
    WHOLE = 12
    #: A known thing that moves changes where it was and where it is: twice its size.
    GROWTH = 3.0
    #: Seconds that a region has to be there: a flash, or a bird that flies past, is not.
    STAY = 0.5
    #: Seconds that a known thing may keep still before it counts as new when it moves again.
    MEMORY = 2.0

    #: Grey levels, of 255: cells of a camera at night and of a strongly compressed video differ by
    #: some 6 from frame to frame.
    _NOISE = 10.0
    #: Of the contrast with the cells around, for a camera that trembles by a tenth of a cell.
    _TREMBLE = 0.1
    #: Of the frame's median difference.
    _USUAL = 4.0
    #: Share of the frame above which what has changed is the whole of it.
    _MOST = 0.25
    #: Grey levels that are added before gains are taken, so that black cells have one too.
    _BLACK = 16.0
    _SQUARE = np.ones((3, 3), np.uint8)

    def __init__(self) -> None:
        self.changed = self.entered = False
        self._time = 0.0
        #: 3×36×64 float32, grey levels.
        self._cells: np.ndarray | None = None
        #: Cells of the last key frames, the newest first, at the exposure of the newest, and what
        #: their contrast adds to the limit, 36×64.
        self._views: list[tuple[np.ndarray, np.ndarray]] = []
        #: For each cell the seconds for which a region has been there, those for which what is
        #: there stays known, and of how many cells that was in the key frame.
        self._age = np.zeros(self.GRID, np.float32)
        self._known = np.zeros(self.GRID, np.float32)
        self._size = np.zeros(self.GRID, np.float32)
        #: Of the last frame: where, 36×64 bool, and of how many changed cells.
        self._regions: list[tuple[np.ndarray, int]] = []

    def update(self, frame: np.ndarray, now: float) -> None:
        """
        Look at a frame; the first one counts as a key frame.

        :param frame: H×W×3 uint8, BGR.
        :param now: seconds of the camera's clock, which may jump.
        """
        # Of every row a cell has all pixels, of every so many rows one: a few dozen to average.
        rows = frame[::max(1, frame.shape[0] // (5 * self.GRID[0]))]
        cells = cv2.resize(rows, self.GRID[::-1], interpolation=cv2.INTER_AREA)
        # Planes, which NumPy computes with many times as fast as with pixels of three values.
        self._cells = np.moveaxis(cells, 2, 0).astype(np.float32, 'C') + self._BLACK
        if not self._views:
            self.refer()
        elapsed, self._time = min(max(0.0, now - self._time), self.MEMORY), now
        self._regions = self._find_regions()
        age, self._age = self._age, np.maximum(self._age - elapsed, 0)
        self._known = np.maximum(self._known - elapsed, 0)
        self._size[self._known == 0] = 0
        self.changed = self.entered = False
        for region, cells in self._regions:
            before = age[region].max()
            # A moment for what is seen for the first time.
            self._age[region] = seconds = before + elapsed if before else 1e-3
            size = self._size[region].max()
            is_known = cells <= self.GROWTH * size
            if is_known:
                self._known[region], self._size[region] = self.MEMORY, size
            if seconds >= self.STAY:
                self.changed = True
                self.entered |= not is_known and cells <= self._MOST * region.size

    def refer(self) -> None:
        """Remember the last frame, if there was one, as a key frame."""
        if self._cells is None:
            return
        for region, cells in self._regions:
            if cells >= self.WHOLE:
                self._known[region], self._size[region] = self.MEMORY, cells
        contrast = [cv2.morphologyEx(plane, cv2.MORPH_GRADIENT, self._SQUARE)
                    for plane in self._cells]
        if self._views:
            gain = self._gain()
            self._views = [(gain * view, tolerance) for view, tolerance in self._views]
        view = self._cells, self._TREMBLE * np.max(contrast, axis=0)
        self._views = [view, *self._views][:self.VIEWS]
        self._age[:] = 0
        self._regions = []
        self.changed = self.entered = False

    def _gain(self) -> np.ndarray:
        """Return the exposure of the last frame over that of the newest view, by channel."""
        ratios = (self._cells / self._views[0][0]).reshape(3, -1)
        middle = ratios.shape[1] // 2
        # The median, in a fraction of the time of NumPy's own.
        return np.partition(ratios, middle)[:, middle].reshape(3, 1, 1)

    def _find_regions(self) -> list[tuple[np.ndarray, int]]:
        """Find what has changed; where it is has a margin of one cell."""
        gain, white = self._gain(), 255 + self._BLACK
        difference = np.minimum.reduce([
            np.abs(self._cells - np.minimum(gain * view, white)).max(0) - tolerance
            for view, tolerance in self._views])
        limit = max(self._NOISE, self._USUAL * float(np.median(difference)))
        changed = (difference > limit).astype(np.uint8)
        total = np.count_nonzero(changed)
        if total > self._MOST * changed.size:
            return [(np.ones(self.GRID, bool), total)]
        # Grown, so that the parts of a thing that is striped make one region.
        count, labels = cv2.connectedComponents(cv2.dilate(changed, self._SQUARE))
        cells = np.bincount(labels[changed > 0], minlength=count)
        return [(labels == number, int(cells[number]))
                for number in range(1, count) if cells[number] >= self.LEAST]
