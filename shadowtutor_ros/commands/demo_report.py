"""What a person looks at: the overlay video and the plot of a run."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.evaluation.plots import headless_pyplot


class OverlayVideo:
    """
    Writes the camera, the student without and the student with distillation side by side.

    :param path: of the .mp4 file.
    :param rate: frames a second.
    :raises ValueError: at the first frame, if the file cannot be written.
    """

    def __init__(self, path: Path, rate: float, classes: ClassTable):
        self._path = path
        self._classes = classes
        self._rate = rate
        self._writer: cv2.VideoWriter | None = None

    def add(
            self, frame: np.ndarray, wild: np.ndarray, tutored: np.ndarray,
            wild_caption: str, tutored_caption: str) -> np.ndarray:
        """
        Add a frame.

        :param frame: H×W×3 uint8, BGR.
        :param wild: H×W uint8, mask of the student without distillation.
        :param tutored: H×W uint8, mask of the student with it.
        :param wild_caption, tutored_caption: written above the two.
        :returns: the picture, H×3W×3 uint8, BGR.
        """
        rgb = np.ascontiguousarray(frame[:, :, ::-1])
        panels = [rgb.copy(), self._classes.overlay(rgb, wild),
                  self._classes.overlay(rgb, tutored)]
        for panel, caption in zip(panels, ('camera', wild_caption, tutored_caption)):
            _write_caption(panel, caption)
        picture = np.ascontiguousarray(np.hstack(panels)[:, :, ::-1])
        if self._writer is None:
            size = picture.shape[1], picture.shape[0]
            self._writer = cv2.VideoWriter(
                str(self._path), cv2.VideoWriter_fourcc(*'mp4v'), self._rate, size)
            if not self._writer.isOpened():
                raise ValueError(f"video '{self._path}' cannot be written: is the disk full?")
        self._writer.write(picture)
        return picture

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()


def _write_caption(panel: np.ndarray, caption: str) -> None:
    scale = panel.shape[0] / 720
    thickness = max(1, round(2 * scale))
    (width, height), below = cv2.getTextSize(caption, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    margin = height // 2
    band = panel[:height + below + 2 * margin, :width + 2 * margin]
    band[:] = band // 3
    cv2.putText(
        panel, caption, (margin, height + margin), cv2.FONT_HERSHEY_SIMPLEX, scale,
        (255, 255, 255), thickness, cv2.LINE_AA)


@dataclass
class RunCurves:
    """
    What happened in a run, frame by frame.

    :ivar title: for the plot.
    :ivar frames: indices of the frames that were measured.
    :ivar wild: mean IoU there without distillation, 0 to 1.
    :ivar tutored: mean IoU there with it.
    :ivar key_frames: indices of the key frames.
    :ivar bytes_up: of each key frame.
    :ivar updates: index of the key frame that each update answers.
    :ivar bytes_down: of each update.
    :ivar count: frames of the run.
    """

    title: str
    frames: list[int]
    wild: list[float]
    tutored: list[float]
    key_frames: list[int]
    bytes_up: list[int]
    updates: list[int]
    bytes_down: list[int]
    count: int


def plot_run(curves: RunCurves, path: Path) -> None:
    """Plot mean IoU, key frames, strides and bytes over the frames of a run, as a PNG."""
    plt = headless_pyplot()
    figure, (accuracy, stride, traffic) = plt.subplots(
        3, 1, sharex=True, figsize=(10, 8), gridspec_kw={'height_ratios': (3, 1, 1)},
        layout='constrained')
    figure.suptitle(curves.title)
    for values, color, name in (
            (curves.tutored, 'tab:blue', 'with distillation'),
            (curves.wild, 'tab:orange', 'without distillation')):
        accuracy.plot(
            curves.frames, values, color=color, label=f'{name}, mean {np.nanmean(values):.3f}')
    for index in curves.key_frames:
        accuracy.axvline(
            index, color='0.8', linewidth=1, zorder=0,
            label='key frame' if index == curves.key_frames[0] else None)
    accuracy.set(ylabel='mean IoU against the teacher', ylim=(0, 1))
    accuracy.legend(loc='lower right')
    edges = [*curves.key_frames, curves.count]
    strides = np.diff(edges)
    stride.step(
        edges, [*strides, strides[-1]] if curves.key_frames else [0], where='post',
        color='tab:green')
    stride.set(ylabel='frames to the\nnext key frame', ylim=(0, None))
    for indices, sizes, color, name in (
            (curves.key_frames, curves.bytes_up, 'tab:red', 'up'),
            (curves.updates, curves.bytes_down, 'tab:purple', 'down')):
        total = np.cumsum([0, *sizes]) / 1e3
        traffic.step(
            [0, *indices, curves.count], [*total, total[-1]], where='post', color=color,
            label=f'{name}, {total[-1]:.0f} kB')
    traffic.set(ylabel='kB in all', xlabel='frame', xlim=(0, curves.count), ylim=(0, None))
    traffic.legend(loc='upper left')
    for axes in (accuracy, stride, traffic):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)
