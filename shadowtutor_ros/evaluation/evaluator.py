"""What an evaluation consists of, as tasks for :func:`parallel.run_tasks`: labellings, trials."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
from PIL import Image

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.evaluation.label_cache import label_video, Labels
from shadowtutor_ros.evaluation.profile import Link, Profile
from shadowtutor_ros.evaluation.simulate import Method, Run, Simulation
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.teachers import load_teacher
from shadowtutor_ros.models.teachers.base import Teacher, TeacherPrediction
from shadowtutor_ros.sources.videos import Clip


@dataclass(frozen=True)
class Labelling:
    """
    A clip that a teacher labels.

    :ivar name: of the clip, for people.
    :ivar clip: the frames.
    :ivar teacher, teacher_weights: as for :func:`load_teacher`.
    :ivar device: of PyTorch.
    :ivar cache: folder that labels are kept in.
    :ivar classes: that it is labelled with.
    :ivar save: folder for frames and labels as images; None: they are not written.
    """

    name: str
    clip: Clip
    teacher: str
    teacher_weights: str
    device: str
    cache: Path
    classes: ClassTable
    save: Path | None = None

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f'{self.name} teacher'

    @property
    def parts(self) -> tuple['Labelling', ...]:
        """The clips that it is made of, in the order of playing."""
        return self,

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.clip.open().rate

    def load_teacher(self) -> Teacher:
        """Load the teacher."""
        return load_teacher(self.teacher, self.teacher_weights, self.device)

    def delivered(self) -> Iterable[np.ndarray]:
        """Open the frames as the camera delivers them to the student."""
        return self.clip.delivered()

    def labels(self, on_label: Callable[[int], None] = lambda count: None) -> Labels:
        """Label the clip, or read the labels that are in the cache."""
        # The weights of a teacher are looked for at its name where it has none of its own.
        weights = () if self.teacher_weights == 'DEFAULT' else (self.teacher_weights,)
        source = self.clip.open()
        return label_video(
            source, self.load_teacher, self.clip.video, (self.teacher, *weights),
            f'{self.clip.width} {self.clip.fps:g}', self.cache, self.classes, self.clip.frames,
            on_label)


@dataclass(frozen=True)
class Playlist(Labelling):
    """
    Clips that are played one after the other, as one long video.

    :ivar items: the clips, in that order; their labels are in the cache.
    :ivar played_rate: frames a second, of all of them.
    """

    items: tuple[Labelling, ...] = ()
    played_rate: float = 0.0

    @property
    def parts(self) -> tuple[Labelling, ...]:
        """The clips that it is made of, in the order of playing."""
        return self.items

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.played_rate

    def delivered(self) -> Iterator[np.ndarray]:
        """Open the frames as the camera delivers them to the student."""
        for item in self.items:
            yield from item.delivered()

    def labels(
            self, on_label: Callable[[int], None] = lambda count: None
    ) -> Iterator[TeacherPrediction]:
        """Read the labels that are in the cache, clip by clip."""
        for item in self.items:
            yield from item.labels()


@dataclass(frozen=True)
class Trial:
    """
    A method on a labelled clip.

    :ivar labelling: the clip, the teacher.
    :ivar student: path of the weights to begin with; empty for those of the package.
    :ivar method: what is simulated.
    :ivar profile: what things take on the virtual clock.
    :ivar scored: classes that accuracy is measured with; None: those of the labels.
    :ivar save: folder for the predictions as images; None: they are not written.
    :ivar real_time: whether the clip plays at its own rate, as a camera; else each frame comes
        when the last one is done.
    """

    labelling: Labelling
    student: str
    method: Method
    profile: Profile
    scored: ClassTable | None = None
    save: Path | None = None
    real_time: bool = False

    @property
    def title(self) -> str:
        """What it is, for people."""
        link = self.profile.link
        network = Link.describe(link.bandwidth_up / 1e6, link.bandwidth_down / 1e6)
        return f'{self.labelling.name} {self.method.label}' + (
            f' {network}' if self.method.on_network else '')


@dataclass(frozen=True)
class Advance:
    """How many frames of the task of a title are done."""

    title: str
    done: int


@dataclass(frozen=True)
class Finished:
    """A trial is done."""

    trial: Trial
    run: Run


def label(labelling: Labelling, emit: Callable[[Advance], None]) -> None:
    """Label a clip, so that its labels are in the cache, and write them where that is wanted."""
    labels = labelling.labels(lambda count: emit(Advance(labelling.title, count)))
    if labelling.save is None:
        return
    for folder in ('images', 'labels'):
        (labelling.save / folder).mkdir(parents=True, exist_ok=True)
    for index, (frame, known) in enumerate(zip(labelling.clip.open(), labels)):
        cv2.imwrite(str(labelling.save / 'images' / f'{index:06}.png'), frame)
        save_mask(
            known.label, labelling.classes, labelling.save / 'labels' / f'{index:06}.png')


def simulate(trial: Trial, emit: Callable[[Advance | Finished], None]) -> None:
    """Simulate a method on a clip whose labels are in the cache."""
    labelling = trial.labelling
    labels = labelling.labels()
    simulation = Simulation(
        trial.method, Student.load(trial.student), trial.profile, _teacher(trial),
        labelling.device, labelling.classes, trial.scored,
        labelling.rate if trial.real_time else 0.0)
    minute = round(60 * labelling.rate)
    health = []
    if trial.save is not None:
        trial.save.mkdir(parents=True, exist_ok=True)

    def on_frame(index: int, mask: np.ndarray) -> None:
        if trial.save is not None:
            save_mask(mask, simulation.client.classes, trial.save / f'{index:06}.png')
        if (index + 1) % minute == 0:
            health.append(simulation.health())
        emit(Advance(trial.title, index + 1))

    run = simulation.run(labelling.delivered(), labels, on_frame)
    run.health = health
    emit(Finished(trial, run))


def _teacher(trial: Trial) -> Teacher | None:
    """Return the teacher of key frames that the codec changes; of others the label is at hand."""
    method = trial.method
    reduced = 0 < method.max_width < trial.labelling.clip.width
    if not method.distils or (method.image_format in ('raw', 'png') and not reduced):
        return None
    return trial.labelling.load_teacher()


def save_mask(mask: np.ndarray, classes: ClassTable, path: Path) -> None:
    """
    Write a mask as a PNG whose pixels are ids and whose palette shows them in colours.

    :param mask: H×W uint8 places in the table.
    :param classes: the table.
    :param path: of the file; Pillow reads the ids back as they are.
    """
    image = Image.fromarray(classes.published(mask), 'L')
    # 256 colours, as Pillow packs the ids of fewer into fewer bits; what is ignored is white.
    palette = np.full((256, 3), 255, np.uint8)
    palette[list(classes.ids)] = classes.colors
    image.putpalette(palette.tobytes())
    image.save(path)
