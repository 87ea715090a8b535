"""Runs of several methods on one video, as one task that can be given to a process."""

from collections.abc import Iterator
from dataclasses import dataclass
import math
from pathlib import Path
from typing import Callable

import numpy as np

from shadowtutor_ros.evaluation.label_cache import label_video
from shadowtutor_ros.evaluation.profile import Profile
from shadowtutor_ros.evaluation.simulate import Method, Run, Simulation
from shadowtutor_ros.evaluation.videos import open_source, Source
from shadowtutor_ros.models.student import Student
from shadowtutor_ros.models.teachers import load_teacher
from shadowtutor_ros.models.teachers.base import TeacherPrediction


@dataclass(frozen=True)
class Clip:
    """
    The frames of a video that are evaluated.

    :ivar video: a source, as for :func:`open_source`.
    :ivar width: that frames are brought to; the height follows.
    :ivar frames: stop after this many; 0: all.
    :ivar fps: frames a second that are taken of it; 0: all.
    """

    video: str
    width: int
    frames: int = 0
    fps: float = 0.0

    def open(self) -> Source:
        """
        Open the source, at its size and with the rate and the number of frames of the clip.

        :raises SourceError: if it cannot be read.
        """
        height, width = next(iter(open_source(self.video))).shape[:2]
        # A multiple of 8, as in the first implementation's figures.
        source = open_source(self.video, (self.width, 8 * round(height * self.width / width / 8)))
        rate = min(self.fps or source.rate, source.rate)
        count = source.count and math.ceil(source.count * rate / source.rate - 1e-9)
        if self.frames:
            count = min(self.frames, count or self.frames)
        return Source(source.name, rate, count, lambda: _sample(source, rate, self.frames))


def _sample(source: Source, rate: float, frames: int) -> Iterator[np.ndarray]:
    """Read frames at a rate, up to a number."""
    due, count = 0.0, 0
    for index, frame in enumerate(source):
        if index / source.rate < due - 1e-9:
            continue
        due += 1 / rate
        yield frame
        count += 1
        if count == frames:
            return


@dataclass(frozen=True)
class Job:
    """
    What is to be done with a video.

    :ivar clip: the frames.
    :ivar name: of the video, for people.
    :ivar methods: what is simulated on it.
    :ivar profile: what things take.
    :ivar teacher: as for :func:`load_teacher`.
    :ivar student: path of the weights to begin with; empty for those of the package.
    :ivar cache: folder of the teacher's labels.
    """

    clip: Clip
    name: str
    methods: tuple[Method, ...]
    profile: Profile
    teacher: str
    student: str
    cache: Path


@dataclass(frozen=True)
class Advance:
    """So many frames of something are done; ``total`` is None where the number is unknown."""

    what: str
    done: int
    total: int | None


@dataclass(frozen=True)
class Finished:
    """A run is done."""

    job: Job
    method: Method
    run: Run


def evaluate(job: Job, emit: Callable[[Advance | Finished], None]) -> None:
    """
    Label a video, or read its labels from the cache, and simulate the methods on it.

    :param emit: is handed what there is to tell.
    """
    source = job.clip.open()
    what = f'{job.name} teacher'
    labels = label_video(
        source, lambda: load_teacher(job.teacher), job.clip.video, (job.teacher,),
        f'{job.clip.width} {job.clip.frames} {job.clip.fps}', job.cache,
        lambda count: emit(Advance(what, count, source.count)))
    emit(Advance(what, len(labels), len(labels)))
    student = Student.load(job.student)
    for method in job.methods:
        simulation = Simulation(method, student, job.profile, _teacher(job, method))
        what = f'{job.name} {method.label}'
        run = simulation.run(source, labels, lambda index, mask: emit(
            Advance(what, index + 1, len(labels))))
        emit(Finished(job, method, run))


def _teacher(job: Job, method: Method) -> Callable[[np.ndarray], TeacherPrediction] | None:
    """Return the teacher of key frames that the codec changes; of others the label is known."""
    unchanged = method.image_format in ('raw', 'png') and not (
        0 < method.max_width < job.clip.width)
    if unchanged or method.name in ('wild', 'naive'):
        return None
    return load_teacher(job.teacher)
