"""
The system on a virtual clock over a modelled network.

The same :class:`Client` and :class:`Server` that the nodes drive run here on real frames; only
time is made up: what an inference, a training step, the teacher and the network take is given.
"""

from dataclasses import dataclass, field, replace
from typing import Callable, Iterable

import numpy as np

from shadowtutor_ros.algorithms import analytic_model
from shadowtutor_ros.algorithms.analytic_model import Bounds, Costs
from shadowtutor_ros.algorithms.client import (
    analytic_strides, Client, ClientSettings, LONGEST_TIMEOUT, PATIENCE)
from shadowtutor_ros.algorithms.server import Server, ServerSettings
from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.evaluation.profile import Profile
from shadowtutor_ros.memory import resident_bytes
from shadowtutor_ros.metrics import mean_iou, mean_iou_present
from shadowtutor_ros.models.student.base import Student, Weights
from shadowtutor_ros.models.student.inference import InferenceEngine
from shadowtutor_ros.models.teachers.base import Teacher, TeacherPrediction
from shadowtutor_ros.wire.key_frame import (
    DEFAULT_FORMAT, DEFAULT_QUALITY, encode_image, KeyFrame, KeyFrameDecoder, KeyFrameEncoder,
    KeyFrameError)
from shadowtutor_ros.wire.weight_update import UpdateRejected, WeightUpdate

#: The student alone; every frame to the teacher; distillation of the whole student; of the blocks
#: in the scope that is set.
METHODS = ('wild', 'naive', 'full', 'partial')


@dataclass(frozen=True)
class Method:
    """
    What is simulated.

    :ivar name: one of :data:`METHODS`.
    :ivar update_delay: frames after its key frame at which an update takes effect; None: when it
        arrives over the network of the profile.
    :ivar client: of the robot.
    :ivar server: of the workstation; 'full' has the scope full, 'partial' that of the settings.
    :ivar image_format, quality, max_width: how key frames are coded.
    """

    name: str
    update_delay: int | None = None
    client: ClientSettings = field(default_factory=ClientSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    image_format: str = DEFAULT_FORMAT
    quality: int = DEFAULT_QUALITY
    max_width: int = 0

    @property
    def label(self) -> str:
        """Its name with the delay, such as 'partial-8', as the paper's P-8."""
        return self.name if self.update_delay is None else f'{self.name}-{self.update_delay}'

    @property
    def distils(self) -> bool:
        """Whether the student is trained."""
        return self.name in ('full', 'partial')

    @property
    def on_network(self) -> bool:
        """Whether the profile's network and times have a say in the run."""
        return self.name == 'naive' or (self.distils and self.update_delay is None)


@dataclass
class KeyFrameRecord:
    """
    One key frame: its index, when it was sent (virtual seconds), and what came of it.

    :ivar round_trip: virtual seconds from then until its update was applied; None: it was not.
    """

    frame: int
    seconds: float
    metric_before: float
    metric_after: float
    steps: int
    bytes_up: int
    bytes_down: int
    lost: bool = False
    next_stride: int | None = None
    round_trip: float | None = None


@dataclass(frozen=True)
class Health:
    """
    How a long run is, at one time.

    :ivar resident_megabytes: of the process, robot and workstation together.
    :ivar norms: the Euclidean norm of all weights of the robot over that of the weights to begin
        with; NaN or infinite where a weight is.
    :ivar known: whether the server knows what the robot runs, by its checksum.
    """

    resident_megabytes: float
    norms: float
    known: bool


@dataclass
class Run:
    """
    What a simulated run gave.

    :ivar frames: frames in all.
    :ivar dropped: of these, for which a newer one was taken, and no mask made.
    :ivar seconds: on the virtual clock.
    :ivar miou_by_frame: over classes whose union is not empty, 0 to 1; NaN: dropped, or no pixel
        counts.
    :ivar miou_present_by_frame: over classes in the teacher's label, likewise.
    :ivar key_frames: each of them.
    :ivar throughput_bounds: frames a second, of the analytic model; None where it has none: where
        the network has no say, where messages were lost or given up, and where a camera sets the
        pace.
    :ivar traffic_bounds: bit/s, likewise.
    :ivar health: every minute of the video.
    """

    frames: int = 0
    dropped: int = 0
    seconds: float = 0.0
    miou_by_frame: list[float] = field(default_factory=list)
    miou_present_by_frame: list[float] = field(default_factory=list)
    key_frames: list[KeyFrameRecord] = field(default_factory=list)
    throughput_bounds: Bounds | None = None
    traffic_bounds: Bounds | None = None
    health: list[Health] = field(default_factory=list)

    @property
    def miou(self) -> float:
        """Mean over the frames, over classes whose union is not empty."""
        return float(np.nanmean(self.miou_by_frame))

    @property
    def miou_present(self) -> float:
        """Mean over the frames, over classes in the teacher's label."""
        return float(np.nanmean(self.miou_present_by_frame))

    @property
    def cycle_throughput(self) -> float:
        """Frames a second from the first key frame to the last: what the bounds are for."""
        last = self.key_frames[-1] if self.key_frames else None
        return last.frame / last.seconds if last and last.seconds else float('nan')

    @property
    def cycle_traffic(self) -> float:
        """Bit/s, likewise."""
        sent = sum(record.bytes_up + record.bytes_down for record in self.key_frames[:-1])
        last = self.key_frames[-1] if self.key_frames else None
        return 8 * sent / last.seconds if last and last.seconds else float('nan')


class _CachedTeacher:
    """Answers for the frame at hand: with its known label, or by asking where it was changed."""

    def __init__(self, teacher: Teacher | None):
        self._teacher = teacher
        self.vocabulary = getattr(teacher, 'vocabulary', None)
        self.known: TeacherPrediction | None = None

    def __call__(self, frame: np.ndarray, classes: ClassTable) -> TeacherPrediction:
        return self.known if self._teacher is None else self._teacher(frame, classes)


class Simulation:
    """
    One method on one video.

    :param method: what is simulated.
    :param student: the weights to begin with.
    :param profile: what things take on the virtual clock.
    :param teacher: labels key frames as the codec delivers them; None takes the labels of the
        original frames, which is the same where key frames are raw.
    :param device: of PyTorch.
    :param classes: that the robot asks for, and of the labels; None: those of the student.
    :param scored: that accuracy is measured with, by the names of others; None: the same.
    :param rate: frames a second that the camera delivers; where the robot is slower it drops all
        but the newest, as the node does. 0: each comes when the last one is done, as in the paper.
    """

    def __init__(
            self, method: Method, student: Student, profile: Profile,
            teacher: Teacher | None = None, device: str = 'cpu',
            classes: ClassTable | None = None, scored: ClassTable | None = None,
            rate: float = 0.0):
        #: Seconds from frame to frame, of the camera.
        self._period = 1 / rate if rate else profile.t_si
        self._has_camera = rate > 0
        self._classes = classes or student.classes
        self._scored = scored or self._classes
        if method.name not in METHODS:
            raise ValueError(
                f"method '{method.name}' is unknown: choose from {', '.join(METHODS)}")
        self._method = method
        self._profile = profile
        self._now = 0.0
        self._teacher = _CachedTeacher(teacher)
        settings = replace(method.server, scope='full') if method.name == 'full' else method.server
        self._t_sd = profile.step_seconds(settings.scope)
        #: Seconds of all training so far, by the profile.
        self._trained = 0.0
        self._server = Server(student, self._teacher, settings, lambda: self._trained, device)
        client = method.client if method.update_delay is None else replace(
            # An update that comes after so many frames is not overdue, however slow they are.
            method.client, update_timeout=np.inf)
        self.client = Client(
            InferenceEngine(student, device=device), self._on_key_frame, client, session_id=1)
        self.client.connected = method.name != 'wild'
        self.client.want(self._classes)
        self._first_norm = _norm(student.weights())
        self._frame = 0
        self._encoder, self._decoder = KeyFrameEncoder(), KeyFrameDecoder()
        #: When the link is free, either way, and the server.
        self._up_free = self._down_free = self._server_free = 0.0
        #: When updates arrive, and the key frames that they answer; in the order of sending.
        self._in_flight: list[tuple[float, WeightUpdate, KeyFrameRecord]] = []
        self._loss = np.random.default_rng(0)
        self.key_frames: list[KeyFrameRecord] = []

    def run(
            self, frames: Iterable[np.ndarray], labels: Iterable[TeacherPrediction],
            on_frame: Callable[[int, np.ndarray], None] = lambda index, mask: None) -> Run:
        """
        Simulate.

        :param frames: H×W×3 uint8, BGR.
        :param labels: what the teacher says of each.
        :param on_frame: is handed each frame's index and mask.
        """
        run = Run()
        for index, (frame, label) in enumerate(zip(frames, labels)):
            self._frame, self._teacher.known = index, label
            if not self._take():
                run.dropped += 1
                run.miou_by_frame.append(np.nan)
                run.miou_present_by_frame.append(np.nan)
                continue
            if self._method.name == 'naive':
                mask, classes = self._offload(frame, label), self._classes
            else:
                mask, classes = self._step(frame), self.client.classes
            scored = self._score(mask, classes), self._score(label.label, self._classes)
            run.miou_by_frame.append(mean_iou(*scored, len(self._scored)))
            run.miou_present_by_frame.append(mean_iou_present(*scored, len(self._scored)))
            on_frame(index, mask)
        run.frames, run.seconds = len(run.miou_by_frame), self._now
        if self._has_camera:  # the last frame lasts as long as any
            run.seconds = max(run.seconds, run.frames * self._period)
        run.key_frames = self.key_frames
        lost = self.client.counters.updates_lost or any(record.lost for record in self.key_frames)
        if self._method.distils and self._method.on_network and not lost and not self._has_camera:
            self._bound(run)
        return run

    def health(self) -> Health:
        """Look at the weights and the memory."""
        student, session = self.client.engine.student, self._server.session
        known = session is None or session.known(student.weights_checksum()) is not None
        return Health(
            resident_bytes() / 1e6, _norm(student.weights()) / self._first_norm, known)

    def _score(self, label: np.ndarray, classes: ClassTable) -> np.ndarray:
        """Give a label or mask the classes that are scored."""
        if classes.digest == self._scored.digest:
            return label
        return self._scored.translated(label, classes.names)

    def _offload(self, frame: np.ndarray, label: TeacherPrediction) -> np.ndarray:
        """Send a frame to the teacher and wait for its label: naive offloading."""
        before = len(self.key_frames)
        sent = len(self._encode(KeyFrame(
            1, before + 1, self._frame, '', 0, 0, 0, frame, answered=before))[1])
        # The label comes back as PNG, which is what a robot would be sent.
        received = len(encode_image(label.label, 'png')[1])
        link = self._profile.link
        self._now += link.time_up(sent) + self._profile.t_ti + link.time_down(received)
        self.key_frames.append(KeyFrameRecord(self._frame, self._now, 1.0, 1.0, 0, sent, received))
        return label.label

    def _take(self) -> bool:
        """Wait for an update where the client does, then for the frame; tell if it is taken."""
        if self._method.on_network:
            self._deliver()
            until = self.client.wait_until()
            if until is not None:
                # It waits for the last one; whichever was late comes before it.
                arrival = self._in_flight[-1][0] if self._in_flight else np.inf
                self._now = max(self._now, min(arrival, until))
        if self._has_camera:
            if self._now >= (self._frame + 1) * self._period:  # the next one is there
                return False
            self._now = max(self._now, self._frame * self._period)
        self._deliver()
        return True

    def _step(self, frame: np.ndarray) -> np.ndarray:
        """Do as the student node's inference thread does with a frame."""
        # The camera's clock does not stand where the client waits.
        mask = self.client.on_frame(frame, self._now, self._frame * self._period)
        self._now += self._profile.t_si
        return mask

    def _deliver(self) -> None:
        """Hand the updates that have arrived to the client."""
        while self._in_flight and self._in_flight[0][0] <= self._arrival_clock():
            _, update, record = self._in_flight.pop(0)
            try:
                self.client.on_update(update, self._now)
            except UpdateRejected:
                continue
            record.next_stride = self.client.stride
            record.round_trip = self._now - record.seconds

    def _arrival_clock(self) -> float:
        """Return the time that arrivals are told in: frames where the delay is in frames."""
        return self._now if self._method.update_delay is None else self._frame

    def _encode(self, key_frame: KeyFrame) -> tuple[str, np.ndarray]:
        return self._encoder(
            key_frame, self._method.image_format, self._method.quality, self._method.max_width)

    def _on_key_frame(self, key_frame: KeyFrame) -> None:
        """Do as the network and the teacher node do with a key frame."""
        image_format, data = self._encode(key_frame)
        link, on_network = self._profile.link, self._method.on_network
        # One message after another crosses the link, and one that is lost takes its time too.
        received = max(self._now, self._up_free) + link.time_up(len(data))
        expires = on_network and self._method.client.update_timeout <= LONGEST_TIMEOUT
        # As the publisher of the student node has it.
        lifespan = PATIENCE * self._method.client.update_timeout
        expired = expires and received > self._now + lifespan
        self._up_free = self._now + lifespan if expired else received - link.latency
        if self._loss.random() < link.loss or expired:
            self.key_frames.append(KeyFrameRecord(
                self._frame, self._now, np.nan, np.nan, 0, len(data), 0, lost=True))
            return
        begin = max(received, self._server_free)
        try:
            received_frame, image = self._decoder(
                key_frame.session_id, key_frame.number, image_format, data)
            update = self._server.on_key_frame(
                replace(key_frame, frame=received_frame, image=image), self._on_step,
                waited=begin - received if on_network else 0.0)
            self._server_free = begin + self._profile.t_ti + update.steps * self._t_sd
        except KeyFrameError as error:
            update = self._server.refuse(
                key_frame.session_id, key_frame.number, key_frame.model_id, error)
            self._server_free = begin
        record = KeyFrameRecord(
            self._frame, self._now, update.metric_before, update.metric_after, update.steps,
            len(data), len(update.tensors.blob) + len(update.label),
            lost=self._loss.random() < link.loss)
        self.key_frames.append(record)
        arrival = max(self._server_free, self._down_free) + link.time_down(record.bytes_down)
        self._down_free = arrival - link.latency
        if not on_network:
            arrival = self._frame + self._method.update_delay
        if not record.lost:
            self._in_flight.append((arrival, update, record))

    def _on_step(self) -> None:
        self._trained += self._t_sd

    def _bound(self, run: Run) -> None:
        """Add the bounds of the analytic model, for the cheapest and the dearest whole cycle."""
        cycles = run.key_frames[:-1]
        if not cycles or self._method.client.stride_rate:
            # The model does not know strides that go on while the client waits.
            return
        profile, link = self._profile, self._profile.link
        settings, strides = self._server.settings, self._method.client
        costs = [Costs(
            profile.t_si, self._t_sd, profile.t_ti,
            link.time_up(record.bytes_up) + link.time_down(record.bytes_down),
            record.bytes_up + record.bytes_down) for record in cycles]
        options = [{**limits, 'max_updates': settings.max_updates}
                   for limits in analytic_strides(strides, profile.t_si)]
        run.throughput_bounds, run.traffic_bounds = (
            Bounds.around(bounds(cost, **option) for cost in costs for option in options)
            for bounds in (analytic_model.throughput_bounds, analytic_model.traffic_bounds))
        if strides.late_update == 'continue':
            run.throughput_bounds = Bounds(1 / profile.t_si, 1 / profile.t_si)


def _norm(weights: Weights) -> float:
    return float(sum(tensor.double().square().sum() for tensor in weights.values())) ** 0.5
