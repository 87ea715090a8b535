"""A teacher's labels of a video, kept on disk so that it labels a video once."""

import hashlib
import os
from pathlib import Path
from typing import Callable, Iterable
import zipfile

import numpy as np

from shadowtutor_ros.models.teachers.base import Teacher, TeacherPrediction


def default_folder() -> Path:
    """Return the folder of the cache: ``$XDG_CACHE_HOME/shadowtutor/labels`` or in ~/.cache."""
    return Path(os.environ.get('XDG_CACHE_HOME', Path.home() / '.cache')) / 'shadowtutor/labels'


def _describe(path: str) -> str:
    """Identify a file by its place, size and time; anything else by its name."""
    file = Path(path)
    if not file.is_file():
        return path
    stat = file.stat()
    return f'{file.resolve()} {stat.st_size} {stat.st_mtime_ns}'


def label_video(
        frames: Iterable[np.ndarray], teacher: Callable[[], Teacher], video: str,
        teacher_names: tuple[str, ...], key: str, folder: Path,
        on_label: Callable[[int], None] = lambda count: None) -> list[TeacherPrediction]:
    """
    Label the frames of a video, or read the labels that were made before.

    :param frames: H×W×3 uint8, BGR; not read where the labels are in the cache.
    :param teacher: makes the teacher; not called where the labels are in the cache.
    :param video: path or name of the video.
    :param teacher_names: what the teacher is made from: its name, the paths of its weights.
    :param key: whatever else the labels depend on: the frames' size, their number, their rate.
    :param folder: of the cache.
    :param on_label: is told the number of frames labelled.
    :returns: a label for every frame.
    """
    identity = '\n'.join([_describe(video), *map(_describe, teacher_names), key])
    path = folder / f'{hashlib.sha256(identity.encode()).hexdigest()[:24]}.npz'
    try:
        with np.load(path, allow_pickle=False) as saved:
            splits = np.split(saved['boxes'], np.cumsum(saved['box_counts'])[:-1])
            labels = list(map(TeacherPrediction, saved['labels'], splits))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # not there, or cut short
        pass
    else:
        on_label(len(labels))
        return labels
    ask = teacher()
    labels = []
    for frame in frames:
        labels.append(ask(frame))
        on_label(len(labels))
    folder.mkdir(parents=True, exist_ok=True)
    # Renamed when whole, so that an interrupted run leaves no half of it.
    partial = path.with_suffix('.partial.npz')
    np.savez_compressed(
        partial, labels=np.stack([label.label for label in labels]),
        boxes=np.concatenate([label.boxes.reshape(-1, 4) for label in labels]),
        box_counts=[len(label.boxes) for label in labels])
    partial.replace(path)
    return labels
