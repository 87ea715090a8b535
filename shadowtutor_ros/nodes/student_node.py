"""The student node: segments every camera frame on the robot, tutored by a teacher node."""

if __name__ == '__main__':
    # Before the imports below, which take seconds.
    from shadowtutor_ros.nodes.start import student_node
    raise SystemExit(student_node())

from collections import deque
from dataclasses import asdict, fields
import math
from pathlib import Path
import secrets
from statistics import median
import threading
import time

import cv2
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.publisher import Publisher
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from shadowtutor_ros.algorithms import SessionError
from shadowtutor_ros.algorithms.client import Client, ClientSettings, PATIENCE
from shadowtutor_ros.classes import ClassesError, ClassTable, load_classes
from shadowtutor_ros.limits import MIN_SIDE
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.inference import (
    choose_device, cuda_is_lost, InferenceEngine, use_threads)
from shadowtutor_ros.msg import KeyFrame as KeyFrameMessage
from shadowtutor_ros.msg import TutorStatus
from shadowtutor_ros.msg import WeightUpdate as WeightUpdateMessage
from shadowtutor_ros.nodes.costs import CostMeter
from shadowtutor_ros.nodes.diagnostics import to_diagnostics
from shadowtutor_ros.nodes.image_subscription import ImageSubscription
from shadowtutor_ros.nodes.image_topics import CameraInfoPublisher, ImagePublisher
from shadowtutor_ros.nodes.images import to_bgr
from shadowtutor_ros.nodes.label_info import LabelInfoPublisher
from shadowtutor_ros.nodes.mailbox import Mailbox
from shadowtutor_ros.nodes.messages import key_frame_to_message, update_from_message
from shadowtutor_ros.nodes.parameters import ParameterNode, Parameters
from shadowtutor_ros.nodes.running import fail, join, qos, run, seconds, steady_clock
from shadowtutor_ros.nodes.session_files import state_folder
from shadowtutor_ros.nodes.student_parameters import STUDENT
from shadowtutor_ros.nodes.teacher_watch import Change, POLL_PERIOD, TeacherWatch
from shadowtutor_ros.nodes.weights_files import WeightsFiles, WeightsKeeper
from shadowtutor_ros.wire.image_messages import ImageMessageError
from shadowtutor_ros.wire.key_frame import (
    AUTO, format_fault, KeyFrame, KeyFrameEncoder, VIDEO)
from shadowtutor_ros.wire.weight_update import Status, UpdateRejected, WeightUpdate

#: Seconds without an image after which the node says what it waits for, and says it again.
SILENCE = 5.0


class StudentNode(ParameterNode):
    """
    Publishes a mask for every frame that it processes, and never waits for the network.

    Callbacks only hand over. One thread infers: frames and updates meet in it and nowhere else.
    Another encodes and sends key frames, so that this delays no mask; a third writes weights.
    """

    def __init__(self, **kwargs):
        super().__init__('student', **kwargs)
        # First what destroy_node needs, should anything below fail.
        self.exit_status = 0
        self._frames: Mailbox[tuple[Image | CompressedImage, float]] = Mailbox()
        self._updates: deque[tuple[WeightUpdate, float, float]] = deque(maxlen=8)
        #: Those that were refused at sight, which must not take the place of others.
        self._refused: deque[UpdateRejected] = deque(maxlen=100)
        self._update_came = threading.Condition()
        self._key_frames: Mailbox[tuple[KeyFrame, Header]] = Mailbox()
        self._key_frame_encoder = KeyFrameEncoder()
        self._format_said = ''
        self._threads: list[threading.Thread] = []
        self.client: Client | None = None
        self._key_frame: Publisher | None = None
        self._keeper: WeightsKeeper | None = None

        self.settings = ClientSettings()
        self.parameters = Parameters(self, STUDENT, _fault, self._apply)
        use_threads(self.parameters['threads'])
        self._student = Student.load(self.parameters['weights'])
        self._device = choose_device(self.parameters['device'])
        self._label_info = LabelInfoPublisher(self)
        #: Number and payload bytes of the last key frames that were sent.
        self._sent: deque[tuple[int, int]] = deque(maxlen=8)
        #: The same in all sessions, so that the teacher can tell a reset from another student.
        self._student_id = secrets.randbits(64)
        self._begin_session()
        self._said: set[str] = set()
        if folder := state_folder(self.parameters['state_folder']):
            files = WeightsFiles(folder, self.get_fully_qualified_name(), self._student)
            if self.parameters['resume']:
                self._resume(files)
            self._keeper = WeightsKeeper(
                files, self.parameters['resume'], lambda: self.parameters['save_period'],
                self._say_kept, self.client.export())
        #: What of it the keeper has: the session, the version of its weights, their classes.
        self._kept = self._running()
        #: The session, its masks and the time at the last status.
        self._last_status = self.client, 0, time.monotonic()
        self._reset = threading.Event()
        self._key_frame_requested = threading.Event()
        self._enabled = True
        #: Whether the teacher that was followed or asked is another now, or gone.
        self._teacher_changed = threading.Event()
        self._header = Header()
        self._last_image = time.monotonic()
        #: When the first image came since the last mask; None where there was none.
        self._unmasked_since: float | None = None
        self._costs = CostMeter()
        self._latencies: deque[float] = deque(maxlen=1000)

        self._mask = ImagePublisher(self, 'segmentation/mask', 'mono8', 'png')
        self._confidence = ImagePublisher(self, 'segmentation/confidence', 'mono8', 'png')
        self._color_mask = ImagePublisher(self, 'segmentation/color_mask', 'rgb8', 'png')
        self._overlay = ImagePublisher(self, 'segmentation/overlay', 'rgb8', 'jpeg')
        self._camera_info = CameraInfoPublisher(self)
        self._status = self.create_publisher(TutorStatus, '~/status', **qos())
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 1)
        self._key_frame = self._make_key_frame_publisher()
        self._weight_updates = self.create_subscription(
            WeightUpdateMessage, 'weight_updates', self._on_update, **qos())
        self._images = ImageSubscription(
            self, self.parameters['image_transport'] == 'compressed', self._on_image)
        self.create_timer(
            self.parameters['status_period'], self._publish_status, clock=steady_clock())
        self._teachers = TeacherWatch(
            self, self._key_frame.topic_name, self._weight_updates.topic_name, time.monotonic())
        self.create_timer(POLL_PERIOD, self._watch_teachers, clock=steady_clock())
        self.create_service(Trigger, '~/reset', self._on_reset)
        self.create_service(Trigger, '~/request_key_frame', self._on_request_key_frame)
        self.create_service(SetBool, '~/enable', self._on_enable)
        # A group of its own: while it awaits the disk the others go on.
        self.create_service(
            Trigger, '~/save_weights', self._on_save_weights,
            callback_group=MutuallyExclusiveCallbackGroup())

        self._threads = [
            threading.Thread(target=self._infer_frames, name='inference', daemon=True),
            threading.Thread(target=self._send_key_frames, name='key frames', daemon=True)]
        if self._keeper:
            self._threads.append(self._keeper.thread)
        for thread in self._threads:
            thread.start()
        self.get_logger().info(
            f'session {self.client.session_id}: segmenting {self._images.topic} '
            f'on {self._device}')

    def _begin_session(self) -> None:
        """Begin a session with the weights of the weights file."""
        engine = InferenceEngine(
            self._student, self.parameters['inference.precision'], self._device)
        self._set_up(engine)
        engine.warm_up(360, 640)
        connected = self.client is not None and self.client.connected
        self.client = Client(
            engine, self._send, self.settings, student_id=self._student_id,
            name=self.get_fully_qualified_name())
        self.client.connected = connected
        self._set_up(engine)  # they may have been changed while the engine was made
        self._images_received = self._images_dropped = 0
        self._bytes_up = self._bytes_down = 0
        self._sent.clear()

    def _resume(self, files: WeightsFiles) -> None:
        """Go on with the weights that this node ran before it was started again."""
        try:
            if (kept := files.load()) is None:
                return
            self.client.restore(*kept)
        except (SessionError, OSError) as error:
            self.get_logger().warning(
                f'begins with its weights file, since what is kept in {files.path} cannot be gone '
                f'on with: {error}')
            return
        self.get_logger().info(
            f'goes on with weights that were changed {self.client.weights_version} times, from '
            f'{files.path}')

    def _running(self) -> tuple:
        client = self.client
        return client, client.weights_version, client.classes

    def _set_up(self, engine: InferenceEngine) -> None:
        engine.width = self.parameters['inference.width']
        engine.enlarge = self.parameters['mask_size'] == 'camera'

    def _longest_use(self) -> float:
        """Return the seconds after which no answer to a key frame is of use in any case."""
        return PATIENCE * self.settings.update_timeout

    def _make_key_frame_publisher(self) -> Publisher:
        """Make the publisher of key frames, which keeps none that no answer is of use to."""
        self._lifespan = self._longest_use()
        return self.create_publisher(
            KeyFrameMessage, 'key_frames', **qos(lifespan=seconds(self._lifespan)))

    def destroy_node(self) -> None:
        """Stop the threads and destroy the node."""
        for mailbox in (self._frames, self._key_frames):
            mailbox.close()
        with self._update_came:
            self._update_came.notify_all()
        if self._keeper:
            self._keeper.close()
        join(self._threads)
        super().destroy_node()

    # --- callbacks: they hand over and return ----------------------------------------------------

    def _apply(self, values: dict) -> None:
        for field in fields(self.settings):
            setattr(self.settings, field.name, values[field.name])
        self._classes = _classes_of(values)
        if self.client is not None:
            self._set_up(self.client.engine)
        if self._key_frame is not None and self._lifespan != self._longest_use():
            before, self._key_frame = self._key_frame, self._make_key_frame_publisher()
            self.destroy_publisher(before)

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._images_received += 1
        self._last_image = time.monotonic()
        if self._unmasked_since is None:
            self._unmasked_since = self._last_image
        if self._frames.put((message, self._last_image)):
            self._images_dropped += 1

    def _on_update(self, message: WeightUpdateMessage) -> None:
        arrival = time.monotonic()
        self._bytes_down += len(message.blob) + len(message.label)
        try:
            # Of what is too large or for somebody else nothing is copied or read.
            self.client.screen(
                message.session_id, message.key_frame_number, len(message.tensors),
                len(message.blob), len(message.label), len(message.classes))
        except UpdateRejected as rejected:
            self._refused.append(rejected)
            return
        with self._update_came:
            self._updates.append((update_from_message(message), message.total_seconds, arrival))
            self._update_came.notify()

    def _watch_teachers(self) -> None:
        events = self._teachers.poll(time.monotonic())
        client = self.client
        for event in events:
            if event.change is Change.APPEARED:
                concerned = client.overdue  # whom it asked is silent
            else:
                concerned = client.teacher in (event.name, '')
            if concerned:
                self._teacher_changed.set()
        client.connected = self._teachers.present
        if events:
            with self._update_came:  # nobody waits for a teacher that is gone
                self._update_came.notify()

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._reset.set()
        response.success = True
        response.message = 'a new session begins with the next image'
        return response

    def _on_request_key_frame(
            self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self.client.connected and self._enabled
        if response.success:
            self._key_frame_requested.set()
            response.message = 'the next image that no answer is awaited at is a key frame'
        else:
            response.message = ('there is no teacher to send a key frame to' if self._enabled else
                                'no image is taken: enable the node first')
        return response

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        if request.data:
            self._last_image = time.monotonic()
            self._images.resume()
        else:
            self._images.pause()
            self._frames.clear()
            self._unmasked_since = None
        response.success = True
        response.message = ('images are segmented' if request.data else
                            'no image is taken; session and weights are kept')
        self.get_logger().info(response.message)
        return response

    async def _on_save_weights(
            self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._keeper is None:
            response.message = "there is no folder to write to: set state_folder, which is ''"
            return response
        saved = Future(executor=self.executor)
        self._keeper.save_as_new(saved.set_result)
        result = await saved
        response.success = isinstance(result, Path)
        response.message = str(result) if response.success else (
            f'the weights cannot be written ({type(result).__name__}: {result}): make room, or '
            'set state_folder')
        self.get_logger().info(f'~/save_weights: {response.message}')
        return response

    def _publish_status(self) -> None:
        now = time.monotonic()
        silent = now - self._last_image
        if silent >= SILENCE and self._enabled:
            self._images.say_what_is_missing(silent)
        client, counters = self.client, self.client.counters
        status = TutorStatus(header=Header(stamp=self.get_clock().now().to_msg()))
        status.state = self._state(now, silent)
        status.session_id = client.session_id
        status.images_received = self._images_received
        status.images_dropped = self._images_dropped
        status.images_lost = self._images.images_lost
        status.masks_published = counters.frames
        status.key_frames_sent = counters.key_frames_sent
        status.teacher = client.teacher
        status.classes, status.classes_on_offer = client.names
        status.classes_refused = client.classes_refused
        status.updates_applied = counters.updates_applied
        status.updates_declined = counters.updates_declined
        status.updates_lost = counters.updates_lost
        refused = dict(counters.key_frames_refused)
        status.key_frames_refused = sum(refused.values())
        status.refusal_reasons = list(refused)
        status.refusal_counts = list(refused.values())
        rejected = dict(counters.updates_rejected)
        status.updates_rejected = sum(rejected.values())
        status.rejection_reasons = list(rejected)
        status.rejection_counts = list(rejected.values())
        status.weights_version = client.weights_version
        status.stride = client.stride
        status.frames_since_key_frame = client.frames_since_key_frame
        update = client.last_update
        for field in ('metric_before', 'metric_after', 'teacher_seconds', 'training_seconds'):
            setattr(status, field, getattr(update, field) if update else math.nan)
        status.steps = update.steps if update else 0
        last_client, masks, last_time = self._last_status
        masks = counters.frames - (masks if last_client is client else 0)
        status.mask_rate = masks / (now - last_time)
        self._last_status = client, counters.frames, now
        status.latency_seconds = _drain_median(self._latencies)
        status.round_trip_seconds = math.nan if client.round_trip is None else client.round_trip
        status.bytes_up, status.bytes_down = self._bytes_up, self._bytes_down
        for name, value in asdict(self._costs.costs()).items():
            setattr(status, name, value)
        status.min_stride, status.max_stride = self.settings.min_stride, self.settings.max_stride
        status.max_updates = self._costs.max_updates
        throughput, traffic = self._costs.bounds(self.settings)
        status.throughput_lower, status.throughput_upper = throughput.lower, throughput.upper
        status.traffic_lower, status.traffic_upper = traffic.lower, traffic.upper
        self._status.publish(status)
        self._diagnostics.publish(to_diagnostics(status, self.get_fully_qualified_name()))

    def _state(self, now: float, silent: float) -> int:
        client, unmasked_since = self.client, self._unmasked_since
        if not self._enabled:
            return TutorStatus.STATE_DISABLED
        if silent < SILENCE and unmasked_since is not None and now - unmasked_since >= SILENCE:
            return TutorStatus.STATE_NO_MASKS
        if silent >= SILENCE or not client.counters.frames:
            return TutorStatus.STATE_WAITING_FOR_IMAGES
        if client.connected and client.refused:
            return TutorStatus.STATE_REFUSED
        if not client.connected or not client.counters.updates_applied:
            return TutorStatus.STATE_WAITING_FOR_TEACHER
        return TutorStatus.STATE_UPDATE_OVERDUE if client.overdue else TutorStatus.STATE_TUTORED

    # --- the inference thread --------------------------------------------------------------------

    def _infer_frames(self) -> None:
        while not self._frames.closed:
            try:
                self._wait_for_update()
                self._keep_changes()  # no frame need follow
                if (item := self._frames.get()) is None:
                    return
                if self._reset.is_set():
                    self._reset.clear()
                    self._begin_session()
                    self._images.restart()
                    self.get_logger().info(f'session {self.client.session_id}: begun by a reset')
                self._infer(*item)
                self._keep_changes()
            except ImageMessageError as error:
                self.get_logger().warning(str(error), throttle_duration_sec=10.0)
            except Exception as error:  # a frame that fails must not end the masks
                if not self.context.ok():
                    return
                if cuda_is_lost(error):
                    return fail(self, f'{type(error).__name__}: {error}')
                self.get_logger().error(
                    f'a frame could not be processed: {type(error).__name__}: {error}',
                    throttle_duration_sec=5.0)

    def _keep_changes(self) -> None:
        """Hand what is run now to the thread that keeps it, where it has changed."""
        if self._keeper and self._kept != self._running():
            self._kept = self._running()
            self._keeper.put(self.client.export())

    def _wait_for_update(self) -> None:
        """Wait as the paper's client does at MIN_STRIDE, where late_update is 'wait'."""
        self._apply_updates()
        while not self._frames.closed:
            until = self.client.wait_until()
            remaining = 0.0 if until is None else until - time.monotonic()
            if remaining <= 0:
                return
            self._unmasked_since = None  # it is meant to be so
            with self._update_came:
                # At most a second, so that a parameter changed meanwhile takes effect.
                self._update_came.wait_for(
                    lambda: self._updates or self._frames.closed
                    or self._teacher_changed.is_set() or not self.client.connected,
                    min(remaining, 1.0))
            self._apply_updates()

    def _apply_updates(self) -> None:
        client = self.client
        if self._teacher_changed.is_set():
            self._teacher_changed.clear()
            client.forget_teacher()
            self._key_frame_encoder.no_video = False
        while self._refused:
            rejected = self._refused.popleft()
            client.counters.reject(rejected)
            self._say_rejected(rejected)
        while self._updates:
            update, total_seconds, arrival = self._updates.popleft()
            try:
                client.on_update(update, arrival)
            except UpdateRejected as rejected:
                self._say_rejected(rejected)
                continue
            if update.refusal_reason == 'classes':
                self.get_logger().error(
                    f"the teacher '{update.teacher}' refused the classes: {update.text}; the "
                    f"masks keep {', '.join(client.classes.names)[:300]}")
                continue
            if update.refusal_reason == 'format':
                self._key_frame_encoder.no_video = True
            if update.status == Status.REFUSED:
                self._say_once(
                    f'refused {update.refusal_reason}',
                    f"the teacher '{update.teacher}' refused a key frame: {update.text}")
                continue
            size = dict(self._sent).get(update.key_frame_number)
            if size:
                self._costs.add_key_frame(update, client.round_trip, total_seconds, size)

    def _say_rejected(self, rejected: UpdateRejected) -> None:
        self._say_once(rejected.reason, f'a weight update was not applied: {rejected}')

    def _infer(self, message: Image | CompressedImage, arrival: float) -> None:
        frame = to_bgr(message)
        self._apply_updates()
        self._header = message.header
        client = self.client
        client.want(self._classes or self._student.classes)
        if self._key_frame_requested.is_set():
            self._key_frame_requested.clear()
            client.request_key_frame()
        client.engine.with_confidence = bool(self._confidence.subscribers)
        begin, stamp = time.monotonic(), message.header.stamp
        mask = client.on_frame(frame, begin, (stamp.sec + stamp.nanosec / 1e9) or None)
        end = time.monotonic()
        self._label_info.publish(client.classes, message.header)
        self._mask.publish(client.classes.published(mask), message.header)
        self._camera_info.publish(frame.shape[:2], mask.shape, message.header)
        self._unmasked_since = None
        self._costs.add_frame(end - begin)
        self._latencies.append(time.monotonic() - arrival)
        self._paint(frame, mask, message.header)

    def _paint(self, frame: np.ndarray, mask: np.ndarray, header: Header) -> None:
        engine, classes = self.client.engine, self.client.classes
        if engine.confidence is not None:
            self._confidence.publish(engine.confidence, header)
        if self._color_mask.subscribers:
            self._color_mask.publish(classes.colorize(mask), header)
        if self._overlay.subscribers:
            if frame.shape[:2] != mask.shape:
                frame = cv2.resize(frame, mask.shape[::-1], interpolation=cv2.INTER_AREA)
            self._overlay.publish(classes.overlay(
                frame[:, :, ::-1], mask, self.parameters['overlay_opacity']), header)

    def _send(self, key_frame: KeyFrame) -> None:
        self._key_frames.put((key_frame, self._header))

    # --- the key-frame thread --------------------------------------------------------------------

    def _send_key_frames(self) -> None:
        while (item := self._key_frames.get()) is not None:
            key_frame, header = item
            try:
                message = key_frame_to_message(
                    key_frame, header, self.parameters['key_frame.format'],
                    self.parameters['key_frame.quality'], self.parameters['key_frame.max_width'],
                    self._key_frame_encoder)
                if self.parameters['key_frame.format'] == AUTO:
                    self._say_format(message.image.format.partition(';')[0])
                self._bytes_up += len(message.image.data)
                self._sent.append((key_frame.number, len(message.image.data)))
                self._publish_key_frame(message)
            except Exception as error:  # one that fails counts as lost, after its time-out
                if not self.context.ok():
                    return
                self.get_logger().error(
                    f'a key frame could not be sent: {type(error).__name__}: {error}',
                    throttle_duration_sec=5.0)

    def _publish_key_frame(self, message: KeyFrameMessage) -> None:
        self._key_frame.publish(message)

    def _say_format(self, image_format: str) -> None:
        """Say what 'auto' has come to, wherever that is something else."""
        if image_format == self._format_said:
            return
        self._format_said = image_format
        why = format_fault(VIDEO) or 'the teacher cannot read video'
        self.get_logger().info(f'key frames go as {image_format}' + (
            '' if image_format == VIDEO else f': {why}'))

    # --- the thread that writes weights ----------------------------------------------------------

    def _say_kept(self, error: Exception | None) -> None:
        if error is None:
            self._said.discard('kept')
            return
        self._say_once(
            'kept', f'the weights cannot be kept in '
            f"{self.parameters['state_folder']} ({type(error).__name__}: {error}): started again "
            'the node will go on with older ones; make room, or set state_folder')

    def _say_once(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self.get_logger().warning(f'{text} (said once)')


def _fault(values: dict) -> str | None:
    if values['min_stride'] > values['max_stride']:
        return (f"min_stride {values['min_stride']} is above max_stride {values['max_stride']}: "
                'change both at once, or the other first')
    if values['resume'] and not values['state_folder']:
        return "resume is true and state_folder is '': give the folder to keep weights in"
    for name in ('inference.width', 'key_frame.max_width'):
        if 0 < values[name] < MIN_SIDE:
            return f'{name} is {values[name]}: expected 0, or {MIN_SIDE} at least'
    if fault := format_fault(values['key_frame.format']):
        return f"key_frame.format is '{values['key_frame.format']}': {fault}"
    try:
        _classes_of(values)
    except ClassesError as error:
        return str(error)
    return None


def _classes_of(values: dict) -> ClassTable | None:
    """Return the classes that are asked for; None: those of the weights file."""
    # ROS cannot write an empty list down: it stands as [''].
    names = [name for name in values['classes'] if name.strip()]
    if names and values['classes_file']:
        raise ClassesError(
            "classes and classes_file are both given: leave one at its default, [''] or ''")
    if names:
        return load_classes(names)
    return load_classes(values['classes_file']) if values['classes_file'] else None


def _drain_median(samples: deque) -> float:
    """Return the median of the samples, and forget them."""
    values = list(samples)
    samples.clear()
    return median(values) if values else math.nan


def main(args: list[str] | None = None) -> int:
    """Run the student node."""
    return run(StudentNode, args)
