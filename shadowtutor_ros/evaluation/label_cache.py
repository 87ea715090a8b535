"""A teacher's labels of a video, kept on disk so that it labels a video once."""

from collections.abc import Sequence
import hashlib
import importlib.util
import os
from pathlib import Path
import tempfile
import time
from typing import Callable, Iterable
import zipfile

import cv2
import numpy as np

from shadowtutor_ros.classes import ClassTable, LVS
from shadowtutor_ros.files import replacing
from shadowtutor_ros.models.teachers.base import Teacher, TeacherPrediction
from shadowtutor_ros.sources.bags import split_topic
from shadowtutor_ros.sources.videos import images_of

#: Seconds after which the labels so far are saved, for the case that the process is killed.
_SAVE_PERIOD = 60.0

_ADVICE = 'set XDG_CACHE_HOME to a folder that can be written to'


class LabelCacheError(ValueError):
    """A place where no labels can be kept."""


def default_folder() -> Path:
    """
    Return the folder of the cache: ``$XDG_CACHE_HOME/shadowtutor/labels`` or in ~/.cache.

    :raises LabelCacheError: if there is neither.
    """
    # As its specification has it, a path that is empty or relative is as good as none.
    folder = Path(os.environ.get('XDG_CACHE_HOME', ''))
    try:
        return (folder if folder.is_absolute() else Path.home() / '.cache') / 'shadowtutor/labels'
    except RuntimeError as error:
        raise LabelCacheError(
            f'there is no folder to keep labels in ({error}): {_ADVICE}') from None


def prepare_folder(folder: Path) -> None:
    """
    Make the folder of the cache.

    :raises LabelCacheError: if labels cannot be kept there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise LabelCacheError(
            f"labels cannot be kept in '{folder}' ({error.strerror}): {_ADVICE}") from None


class Labels(Sequence[TeacherPrediction]):
    """Labels of the frames of a video from the first on, held as PNG: a few kB each."""

    def __init__(self):
        #: Whether they reach to the end of the video.
        self.whole = False
        self._images: list[bytes] = []
        self._boxes: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> TeacherPrediction:
        image = np.frombuffer(self._images[index], np.uint8)
        return TeacherPrediction(
            cv2.imdecode(image, cv2.IMREAD_GRAYSCALE), self._boxes[index])

    def append(self, prediction: TeacherPrediction) -> None:
        """Add the label of the next frame."""
        self._images.append(cv2.imencode('.png', prediction.label)[1].tobytes())
        self._boxes.append(prediction.boxes.reshape(-1, 4))

    def first(self, count: int) -> 'Labels':
        """Return the labels of the first ``count`` frames."""
        labels = Labels()
        labels._images, labels._boxes = self._images[:count], self._boxes[:count]
        return labels

    def save(self, path: Path) -> None:
        """Write them; the file is there as a whole or not at all."""
        with replacing(path) as new, new.open('wb') as file:
            np.savez(
                file, images=np.frombuffer(b''.join(self._images), np.uint8),
                image_sizes=list(map(len, self._images)), boxes=np.concatenate(self._boxes),
                box_counts=list(map(len, self._boxes)), whole=self.whole)

    @classmethod
    def load(cls, path: Path) -> 'Labels':
        """Read a file of :meth:`save`; none is left of one that is not there or not whole."""
        labels = cls()
        try:
            with np.load(path, allow_pickle=False) as saved:
                data, ends = saved['images'].tobytes(), np.cumsum(saved['image_sizes'])
                boxes = np.split(saved['boxes'], np.cumsum(saved['box_counts'])[:-1])
                labels.whole = bool(saved['whole'])
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return labels
        labels._images = [data[begin:end] for begin, end in zip([0, *ends[:-1]], ends)]
        labels._boxes = boxes
        return labels


def fingerprint(*names: str) -> str:
    """
    Return 24 hex digits that change with the files that are named.

    :param names: paths of files and folders, which stand for their place, size and time; the scene
        and somebody's own teacher, which stand for their code; or anything else, for itself.
    """
    return hashlib.sha256('\n'.join(map(_describe, names)).encode()).hexdigest()[:24]


def label_video(
        frames: Iterable[np.ndarray], teacher: Callable[[], Teacher], video: str,
        teacher_names: tuple[str, ...], key: str, folder: Path, classes: ClassTable,
        count: int = 0,
        on_label: Callable[[int], None] = lambda count: None) -> Labels:
    """
    Label the frames of a video, or read the labels that were made before.

    :param frames: H×W×3 uint8, BGR, ``count`` of them; not read where the labels are in the cache.
    :param teacher: makes the teacher; not called where the labels are in the cache.
    :param video: path or name of the video.
    :param teacher_names: what the teacher is made from: its name, the paths of its weights.
    :param key: whatever else the labels depend on: the frames' size, their rate.
    :param folder: of the cache.
    :param classes: that they are labelled with.
    :param count: frames, from the first on; 0: to the end.
    :param on_label: is told the number of frames that have labels.
    :returns: a label for every frame.
    """
    # LVS goes without saying, as it did in the caches of earlier versions.
    table = () if classes.digest == LVS.digest else (f'{classes.digest:016x}',)
    path = folder / f'{fingerprint(video, *teacher_names, key, *table)}.npz'
    labels = Labels.load(path)
    known = len(labels)
    if not (labels.whole or 0 < count <= known):
        # Where they cannot be kept that is better known before the work.
        prepare_folder(folder)
        ask = teacher()
        saved = time.monotonic()
        try:
            for index, frame in enumerate(frames):
                if index >= known:
                    labels.append(ask(frame, classes))
                on_label(index + 1)
                if time.monotonic() > saved + _SAVE_PERIOD:
                    labels.save(path)
                    saved = time.monotonic()
            labels.whole = not count or len(labels) < count
        finally:
            # What an interrupted run has made is kept too.
            if labels:
                labels.save(path)
    labels = labels.first(count) if count else labels
    on_label(len(labels))
    return labels


def _describe(name: str) -> str:
    """
    Identify a file or the files of a folder by place, size and time; the scene by its code.

    Somebody's own teacher, 'package.module:Class', is identified by its module's file.
    """
    if name == 'scene':
        folder = Path(importlib.util.find_spec('shadowtutor_ros.world').origin).parent
        code = b''.join(file.read_bytes() for file in sorted(folder.glob('*.py')))
        return f'scene {hashlib.sha256(code).hexdigest()}'
    if name.startswith('hf:'):
        return '+'.join(map(_describe, name.removeprefix('hf:').split('+')))
    path, topic = split_topic(name)
    if topic:
        return f'{_describe(path)}\n{topic}'
    path = Path(name)
    if path.suffix.lower() == '.onnx' and path.is_file():
        # Names and pixel statistics may lie beside it.
        beside = [path.with_suffix('.txt'), path.with_suffix('.json'),
                  path.with_name('config.json'), path.with_name('preprocessor_config.json')]
        return '\n'.join(map(_stat, filter(Path.is_file, [path, *beside])))
    if path.is_dir():
        # Images in the order in which they are played.
        return '\n'.join(map(_stat, images_of(path) or sorted(path.iterdir())))
    if path.is_file():
        return _stat(path)
    module, colon, _ = name.partition(':')
    if colon:
        try:
            spec = importlib.util.find_spec(module)
        except Exception:  # a package may raise anything; it is said where the teacher is made
            return name
        if spec is not None and spec.has_location:
            return f'{name} {_stat(Path(spec.origin))}'
    return name


def _stat(path: Path) -> str:
    stat = path.stat()
    return f'{path.resolve()} {stat.st_size} {stat.st_mtime_ns}'
