"""The teacher node: labels key frames on the workstation and trains the robots' students."""

if __name__ == '__main__':
    # Before the imports below, which take seconds.
    from shadowtutor_ros.nodes.start import teacher_node
    raise SystemExit(teacher_node())

import math
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.exceptions import NameValidationException
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription
from std_msgs.msg import Header

from shadowtutor_ros.algorithms import SessionError
from shadowtutor_ros.algorithms.server import Server, ServerSettings
from shadowtutor_ros.algorithms.serving import Serving, Waiting
from shadowtutor_ros.memory import resident_bytes
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.inference import choose_device, cuda_is_lost, use_threads
from shadowtutor_ros.models.teachers import load_teacher
from shadowtutor_ros.msg import KeyFrame as KeyFrameMessage
from shadowtutor_ros.msg import TeacherStatus
from shadowtutor_ros.msg import WeightUpdate as WeightUpdateMessage
from shadowtutor_ros.nodes.diagnostics import (
    RobotRecord, teacher_diagnostics, teacher_status)
from shadowtutor_ros.nodes.messages import key_frame_from_message, plain, update_to_message
from shadowtutor_ros.nodes.parameters import ParameterError, ParameterNode, Parameters
from shadowtutor_ros.nodes.robot_watch import AUTO, is_pattern, POLL_PERIOD, RobotWatch
from shadowtutor_ros.nodes.running import fail, join, qos, run, steady_clock
from shadowtutor_ros.nodes.session_files import SessionFiles, state_folder
from shadowtutor_ros.nodes.teacher_parameters import TEACHER
from shadowtutor_ros.wire.key_frame import KeyFrameDecoder, KeyFrameError
from shadowtutor_ros.wire.weight_update import Status

#: Students on one robot's topics whose key frames may wait: one is right.
STUDENTS = 4


class Robot:
    """
    One robot's place at the teacher: its session, and its newest key frame.

    :param name: its namespace.
    :param server: its session.
    :param updates: publishes its weight updates.
    :param key_frames: the topic of its key frames.

    :ivar updates: None once the robot is gone; only with :attr:`publishing` held.
    """

    def __init__(self, name: str, server: Server, updates: Publisher, key_frames: str):
        self.name = name
        self.key_frames = key_frames
        self.server = server
        self.updates = updates
        #: Each student's newest key frame that is not answered yet, and when it came. One student
        #: is served; another must not push its key frames out.
        self.waiting: dict[int, tuple[KeyFrameMessage, float]] = {}
        self.record = RobotRecord(name)
        self.decoder = KeyFrameDecoder()
        self.subscription: Subscription | None = None
        self.publishing = threading.Lock()
        #: Whether its session has changed since it was saved last, and when that was, on the
        #: performance counter.
        self.changed = False
        self.saved = time.perf_counter()

    def put(self, message: KeyFrameMessage, arrival: float) -> None:
        """Let a key frame wait; the newest of a student takes its place."""
        self.waiting.pop(message.student_id, None)
        self.waiting[message.student_id] = message, arrival
        if len(self.waiting) > STUDENTS:
            del self.waiting[next(iter(self.waiting))]

    def as_waiting(self) -> Waiting:
        """Return the key frame that waits, as who serves it sees it."""
        message, arrival = next(iter(self.waiting.values()))
        return Waiting(self.key_frames, arrival, message.useful_seconds, self.record.metric)


class _Closing(BaseException):
    """The node ends while a key frame is answered."""


class TeacherNode(ParameterNode):
    """
    Answers key frames one at a time; each robot's newest one waits, for as long as is fair.

    Callbacks only hand over; one thread labels and trains.
    """

    def __init__(self, **kwargs):
        super().__init__('teacher', **kwargs)
        # First what destroy_node needs, should anything below fail.
        self.exit_status = 0
        self._robots: list[Robot] = []
        #: By the topics of their key frames; used by the teaching thread alone.
        self._serving = Serving()
        #: Those among them that were found in the graph, by their namespaces.
        self._found: dict[str, Robot] = {}
        #: Those whose topics could not be had; rights hold as long as the process.
        self._refused: set[str] = set()
        #: Robots that are gone, whose sessions are to be saved.
        self._gone: list[Robot] = []
        self._work = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._student: Student | None = None

        self.settings = ServerSettings()
        self.parameters = Parameters(self, TEACHER, self._fault, self._apply)
        names = self.parameters['robots']
        if len(set(names)) != len(names):
            raise ParameterError(f'robots is {names}: expected each namespace once')
        use_threads(self.parameters['threads'])
        device = choose_device(self.parameters['device'])
        student = self._student = Student.load(self.parameters['weights'])
        if problem := self._fault(self.parameters.values):
            raise ParameterError(problem)
        self.get_logger().info(f"loading the teacher {self.parameters['teacher']} on {device}")
        teacher = load_teacher(
            self.parameters['teacher'], self.parameters['teacher_weights'], device,
            *(None if (value := self.parameters[f'{what}_threshold']) < 0 else value
              for what in ('score', 'mask')))
        known = teacher.vocabulary
        self.get_logger().info('it knows ' + (
            'any phrase' if known is None else f'{len(known)} names: {", ".join(known)[:200]}'))

        folder = state_folder(self.parameters['state_folder'])
        self._files = SessionFiles(folder) if folder else None
        self._make_server = lambda: Server(
            student, teacher, self.settings, time.perf_counter, device,
            name=self.get_fully_qualified_name())
        patterns = [name for name in names if is_pattern(name)]
        for name in names:
            if name not in patterns:
                self._add_robot(name)
        if AUTO in patterns and '' not in names:  # at once, since it is known without a look
            self._add_robot('')
        self._watch = RobotWatch(self, patterns)
        if patterns:
            self.create_timer(POLL_PERIOD, self._look_for_robots, clock=steady_clock())
        self._status = self.create_publisher(TeacherStatus, '~/status', **qos())
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 1)
        self.create_timer(
            self.parameters['status_period'], self._publish_status, clock=steady_clock())
        self._thread = threading.Thread(
            target=self._answer_key_frames, name='teaching', daemon=True)
        self._thread.start()

    def destroy_node(self) -> None:
        """Stop teaching and destroy the node."""
        with self._work:
            self._closed = True
            self._work.notify()
        if self._thread is not None:
            join([self._thread])
        super().destroy_node()

    def _add_robot(self, name: str) -> Robot:
        """
        Serve a robot from now on.

        :param name: its namespace.
        :raises ParameterError: if it is none, or is served already.
        """
        prefix = f"{name.rstrip('/')}/" if name else ''
        try:
            updates = self.create_publisher(
                WeightUpdateMessage, f'{prefix}weight_updates', **qos())
        except NameValidationException as error:
            raise ParameterError(
                f"robots holds '{name}', which is no namespace such as /robot1 "
                f"({' '.join(str(error).split())})") from None
        if updates.topic_name in (other.updates.topic_name for other in self._robots):
            raise ParameterError(
                f"robots is {self.parameters['robots']}: two of them have the topic "
                f'{updates.topic_name}')
        robot = Robot(
            name, self._make_server(), updates, self.resolve_topic_name(f'{prefix}key_frames'))
        self._restore(robot)
        robot.subscription = self.create_subscription(
            KeyFrameMessage, f'{prefix}key_frames',
            lambda message: self._on_key_frame(robot, message), **qos())
        with self._work:
            self._robots.append(robot)
        self.get_logger().info(f'answering {robot.key_frames}')
        return robot

    def _look_for_robots(self) -> None:
        """Serve the robots that have come, and forget those that are gone."""
        there, gone = self._watch.poll(time.monotonic())
        served = {robot.key_frames for robot in self._robots}
        for namespace in there:
            if (f"{namespace.rstrip('/')}/key_frames" in served
                    or namespace in self._refused):
                continue
            if len(self._robots) >= self.parameters['max_robots']:
                self.get_logger().warning(
                    f'{namespace} is not served, as {len(self._robots)} robots are, the most that '
                    'max_robots allows: raise it, or start another teacher and tell each which '
                    'robots are its own', throttle_duration_sec=30.0)
                break
            try:
                self._found[namespace] = self._add_robot(namespace)
            except RuntimeError as error:  # of rcl
                self._refused.add(namespace)
                self.get_logger().error(
                    f'{namespace} is not served, since its topics cannot be had: {error}; where '
                    'security is on, the policy has to name that robot: docs/security.md')
        self._refused.difference_update(gone)
        for namespace in gone:
            if namespace in self._found:
                self._remove_robot(self._found.pop(namespace))

    def _remove_robot(self, robot: Robot) -> None:
        self.destroy_subscription(robot.subscription)
        # What is answered just now is published by the other thread.
        with robot.publishing:
            self.destroy_publisher(robot.updates)
            robot.updates = None
        self.get_logger().info(f'{robot.name} is gone')
        with self._work:
            self._robots.remove(robot)
            self._gone.append(robot)
            robot.saved = -math.inf  # so that it is due
            self._work.notify()

    def _restore(self, robot: Robot) -> None:
        """Let a robot go on where it was before the teacher was started again, or it was gone."""
        if self._files is None:
            return
        path = self._files.path(robot.key_frames)
        try:
            if (kept := self._files.load(robot.key_frames)) is None:
                return
            robot.server.restore(*kept)
        except (SessionError, OSError) as error:
            self.get_logger().warning(
                f"{robot.name or 'robot'} begins anew, since its session in {path} cannot be gone "
                f'on from: {error}')
            return
        session = robot.server.session
        self.get_logger().info(
            f"{robot.name or 'robot'}: goes on after key frame {session.last_number} of session "
            f'{session.id}, from {path}')

    def _save(self, robot: Robot) -> None:
        """Save a robot's session; by the teaching thread."""
        robot.changed, robot.saved = False, time.perf_counter()
        try:
            self._files.save(robot.key_frames, *robot.server.export())
        except Exception as error:  # of the disk, or of a GPU; robots are served all the same
            self.get_logger().error(
                f'sessions cannot be saved in {self._files.folder} ({type(error).__name__}: '
                f'{error}): a restarted teacher will begin anew; make room, or set state_folder',
                throttle_duration_sec=600.0)

    def _save_due(self, period: float) -> float | None:
        """
        Save the sessions that have changed for some time, and those of robots that are gone.

        :param period: seconds from one time to the next.
        :returns: seconds until the next is due; None where none has changed.
        """
        with self._work:
            changed = [robot for robot in (*self._gone, *self._robots)
                       if robot.changed and self._files]
            self._gone = []
        now = time.perf_counter()
        due = [robot for robot in changed if now - robot.saved >= period]
        for robot in due:
            self._save(robot)
        return min((robot.saved + period - now for robot in changed if robot not in due),
                   default=None)

    def _apply(self, values: dict) -> None:
        # Not all settings are parameters: the seed is none.
        for name in vars(self.settings).keys() & values.keys():
            setattr(self.settings, name, values[name])
        # ROS cannot write an empty list down: it stands as [''].
        self.settings.always_offered = tuple(filter(None, values['always_offered']))

    def _fault(self, values: dict) -> str | None:
        if self._student is not None:
            try:
                self._student.blocks_of(values['scope'])
            except ValueError as error:
                return str(error)
        return None

    def _on_key_frame(self, robot: Robot, message: KeyFrameMessage) -> None:
        arrival = time.perf_counter()
        # Those of a robot that follows another teacher; alone, this one answers all.
        if (message.teacher_id not in (0, robot.server.teacher_id)
                and self.count_publishers(robot.updates.topic_name) > 1):
            self.get_logger().info(
                f"{robot.name or 'robot'}: '{plain(message.student)}' follows another teacher",
                once=True)
            return
        with self._work:
            robot.put(message, arrival)
            self._work.notify()

    def _publish_status(self) -> None:
        with self._work:
            robots = sorted(self._robots, key=lambda robot: robot.name)
            for robot in robots:
                robot.record.waiting = len(robot.waiting)
        try:
            memory = resident_bytes()
        except OSError:  # not Linux
            memory = 0
        records = [robot.record for robot in robots]
        teacher, header = self.parameters['teacher'], Header(stamp=self.get_clock().now().to_msg())
        self._status.publish(teacher_status(records, teacher, memory, header))
        self._diagnostics.publish(teacher_diagnostics(
            records, self.get_fully_qualified_name(), teacher, memory, header))

    def _next(self, timeout: float | None) -> tuple[Robot, KeyFrameMessage, float] | None:
        """
        Wait for a key frame.

        :param timeout: seconds to wait at most.
        :returns: None at the end, after the timeout, and where a robot is gone.
        """
        with self._work:
            self._work.wait_for(lambda: self._closed or self._gone or any(
                robot.waiting for robot in self._robots), timeout)
            robots = {robot.key_frames: robot for robot in self._robots if robot.waiting}
            if self._closed or self._gone or not robots:
                return None
            chosen = self._serving.choose(
                (robot.as_waiting() for robot in robots.values()), time.perf_counter())
            robot = robots[chosen.robot]
            message, arrival = robot.waiting.pop(next(iter(robot.waiting)))
            return robot, message, arrival

    def _go_on(self) -> None:
        """Break training off when the node ends."""
        if self._closed or not self.context.ok():
            raise _Closing

    def _answer_key_frames(self) -> None:
        try:
            # Here, so that robots find the teacher meanwhile.
            self._make_server().warm_up(360, 640)
        except Exception as error:  # out of memory, say; key frames may do better
            if cuda_is_lost(error):
                return fail(self, f'{type(error).__name__}: {error}')
            self.get_logger().error(
                f'the teacher could not be warmed up: {type(error).__name__}: {error}')
        due = None
        while not self._closed:
            try:
                if (item := self._next(due)) is not None:
                    self._serve(*item)
            except _Closing:
                break
            except Exception as error:  # that nobody thought of; the next key frame may do better
                if cuda_is_lost(error):
                    return fail(self, f'{type(error).__name__}: {error}')
                self.get_logger().error(
                    f'a key frame could not be answered: {type(error).__name__}: {error}',
                    throttle_duration_sec=5.0)
            due = self._save_due(self.parameters['save_period'])
        self._save_due(0.0)

    def _serve(self, robot: Robot, message: KeyFrameMessage, arrival: float) -> None:
        """Answer a key frame, and keep account of the time that this takes."""
        begin = time.perf_counter()
        robot.record.waiting_seconds = begin - arrival
        try:
            self._answer(robot, message, arrival)
        finally:
            now = time.perf_counter()
            self._serving.served(robot.key_frames, now - begin, now)
            robot.record.share = self._serving.share(robot.key_frames, now)

    def _answer(self, robot: Robot, message: KeyFrameMessage, arrival: float) -> None:
        name, record = robot.name or 'robot', robot.record
        record.student = plain(message.student)
        try:
            update = robot.server.on_key_frame(
                key_frame_from_message(message, robot.decoder), self._go_on,
                time.perf_counter() - arrival,
                alone=self.count_publishers(robot.key_frames) == 1)
        except KeyFrameError as error:
            if error.__cause__ is not None and cuda_is_lost(error.__cause__):
                fail(self, str(error))
                raise _Closing from error
            update = robot.server.refuse(
                message.session_id, message.key_frame_number, plain(message.model_id), error)
            record.refused = {
                **record.refused, error.reason: record.refused.get(error.reason, 0) + 1}
            self.get_logger().error(
                f'{name}: key frame {message.key_frame_number} was refused: {error}',
                throttle_duration_sec=5.0)
        self._go_on()
        if update is None:  # it was answered before
            return
        total = time.perf_counter() - arrival
        with robot.publishing:
            if robot.updates is None:  # it is gone
                return
            robot.updates.publish(update_to_message(update, message.header, total))
        record.total_seconds = total
        if update.status == Status.REFUSED:
            return
        session = robot.server.session
        robot.changed = True
        record.answered += 1
        record.classes, record.memory_bytes = session.classes.names, session.trainer.memory_bytes
        record.metric = update.metric_after
        record.teacher_seconds = update.teacher_seconds
        record.training_seconds = update.training_seconds
        self.get_logger().info(
            f'{name}: key frame {update.key_frame_number}: mIoU '
            f'{update.metric_before:.2f} → {update.metric_after:.2f} in {update.steps} steps; '
            f'{len(message.image.data) / 1e3:.0f} kB in, {len(update.tensors.blob) / 1e3:.0f} kB '
            f'out; {update.teacher_seconds * 1e3:.0f} ms teacher, '
            f'{update.training_seconds * 1e3:.0f} ms training, {total * 1e3:.0f} ms in all')


def main(args: list[str] | None = None) -> int:
    """Run the teacher node."""
    return run(TeacherNode, args)
