"""The teacher node: labels key frames on the workstation and trains the robots' students."""

if __name__ == '__main__':
    # Before the imports below, which take seconds.
    from shadowtutor_ros.nodes.start import teacher_node
    raise SystemExit(teacher_node())

from dataclasses import dataclass
from functools import partial
import secrets
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.exceptions import NameValidationException
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription
from std_msgs.msg import Header

from shadowtutor_ros.algorithms.server import refusal, ServerSettings
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
from shadowtutor_ros.nodes.session_keeper import SessionKeeper
from shadowtutor_ros.nodes.teacher_parameters import TEACHER
from shadowtutor_ros.wire.key_frame import KeyFrame, KeyFrameDecoder, KeyFrameError
from shadowtutor_ros.wire.weight_update import Status
from shadowtutor_ros.workers.base import Answer, Cluster, Task, Workers
from shadowtutor_ros.workers.local import LocalWorkers
from shadowtutor_ros.workers.ray_workers import RayWorkers

#: Students on one robot's topics whose key frames may wait: one is right.
STUDENTS = 4


class Robot:
    """
    One robot's place at the teacher: its newest key frame, and what was done for it.

    :param name: its namespace.
    :param updates: publishes its weight updates.
    :param key_frames: the topic of its key frames.

    :ivar teacher_id: that its updates are signed with.
    :ivar updates: None once the robot is gone; only with :attr:`publishing` held.
    :ivar served: whether a key frame of its is being answered.
    """

    def __init__(self, name: str, updates: Publisher, key_frames: str):
        self.name = name
        self.key_frames = key_frames
        self.teacher_id = secrets.randbits(63) + 1
        self.updates = updates
        self.served = False
        #: Each student's newest key frame that is not answered yet, and when it came. One student
        #: is served; another must not push its key frames out.
        self.waiting: dict[int, tuple[KeyFrameMessage, float]] = {}
        self.record = RobotRecord(name)
        self.decoder = KeyFrameDecoder()
        self.subscription: Subscription | None = None
        self.publishing = threading.Lock()

    @property
    def title(self) -> str:
        """What it is called in the log."""
        return self.name or 'robot'

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


@dataclass(frozen=True, eq=False)
class Job:
    """A key frame that is being answered: whose it is, and when it came."""

    robot: Robot
    message: KeyFrameMessage
    arrival: float


class _Closing(BaseException):
    """The node ends while a key frame is answered."""


class TeacherNode(ParameterNode):
    """
    Has key frames answered; each robot's newest one waits, for as long as is fair.

    Callbacks only hand over; one thread decodes, and lets the workers label and train.
    """

    def __init__(self, **kwargs):
        super().__init__('teacher', **kwargs)
        # First what destroy_node needs, should anything below fail.
        self.exit_status = 0
        self._robots: list[Robot] = []
        #: By the topics of their key frames; only with the condition below held.
        self._serving = Serving()
        #: Those among them that were found in the graph, by their namespaces.
        self._found: dict[str, Robot] = {}
        #: Those whose topics could not be had; rights hold as long as the process.
        self._refused: set[str] = set()
        self._work = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._student: Student | None = None
        self._workers: Workers | None = None
        self._keeper: SessionKeeper | None = None

        self.settings = ServerSettings()
        self.parameters = Parameters(self, TEACHER, self._fault, self._apply)
        names = self.parameters['robots']
        if len(set(names)) != len(names):
            raise ParameterError(f'robots is {names}: expected each namespace once')
        use_threads(self.parameters['threads'])
        self._student = Student.load(self.parameters['weights'])
        if problem := self._fault(self.parameters.values):
            raise ParameterError(problem)
        self._workers = self._make_workers()
        known = self._workers.vocabulary
        self.get_logger().info('it knows ' + (
            'any phrase' if known is None else f'{len(known)} names: {", ".join(known)[:200]}'))
        folder = state_folder(self.parameters['state_folder'])
        self._keeper = SessionKeeper(
            SessionFiles(folder) if folder else None, self._workers,
            lambda: self.parameters['save_period'], self.get_logger())
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
        if self._keeper is not None:
            self._keeper.close()
            join([*filter(None, [self._thread]), self._keeper.thread])
        if self._workers is not None:
            self._workers.close()
        super().destroy_node()

    def _make_workers(self) -> Workers:
        values, name = self.parameters, self.get_fully_qualified_name()
        teacher = (values['teacher'], values['teacher_weights'])
        thresholds = (None if (value := values[f'{what}_threshold']) < 0 else value
                      for what in ('score', 'mask'))
        if values['workers'] == 'ray':
            self.get_logger().info(
                f"loading {values['teachers']} times the teacher {teacher[0]} on a Ray cluster")
            return RayWorkers(
                self._student, (*teacher, *thresholds), self.settings, name, Cluster(
                    values['teachers'], values['teacher_batch'], values['teacher_gpus'],
                    values['session_gpus'], values['device'], values['threads']))
        device = choose_device(values['device'])
        self.get_logger().info(f'loading the teacher {teacher[0]} on {device}')
        return LocalWorkers(
            self._student, load_teacher(*teacher, device, *thresholds), self.settings, device,
            name, values['teacher_batch'])

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
        robot = Robot(name, updates, self.resolve_topic_name(f'{prefix}key_frames'))
        robot.subscription = self.create_subscription(
            KeyFrameMessage, f'{prefix}key_frames',
            lambda message: self._on_key_frame(robot, message), **qos())
        self._keeper.add(robot.title, robot.key_frames, robot.teacher_id)
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
        self._keeper.remove(robot.teacher_id)

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
        if (message.teacher_id not in (0, robot.teacher_id)
                and self.count_publishers(robot.updates.topic_name) > 1):
            self.get_logger().info(
                f"{robot.title}: '{plain(message.student)}' follows another teacher",
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

    def _go_on(self) -> None:
        """Break training off when the node ends."""
        if self._closed or not self.context.ok():
            raise _Closing

    def _answer_key_frames(self) -> None:
        try:
            # Here, so that robots find the teacher meanwhile.
            self._workers.warm_up()
        except Exception as error:  # out of memory, say; key frames may do better
            if cuda_is_lost(error):
                return fail(self, f'{type(error).__name__}: {error}')
            self.get_logger().error(
                f'the teacher could not be warmed up: {type(error).__name__}: {error}')
        while not self._closed:
            jobs = self._next()
            try:
                self._answer(jobs)
            except _Closing:
                return
            except Exception as error:  # that nobody thought of; the next key frame may do better
                for job in jobs:
                    self._finish(job)
                if cuda_is_lost(error):
                    return fail(self, f'{type(error).__name__}: {error}')
                self.get_logger().error(
                    f'a key frame could not be answered: {type(error).__name__}: {error}',
                    throttle_duration_sec=5.0)

    def _next(self) -> list[Job]:
        """Wait for key frames, and choose whose are answered next; none at the end."""
        with self._work:
            self._work.wait_for(lambda: self._closed or self._workers.room and any(
                robot.waiting and not robot.served for robot in self._robots))
            if self._closed:
                return []
            robots = {robot.key_frames: robot for robot in self._robots
                      if robot.waiting and not robot.served}
            now, jobs = time.perf_counter(), []
            for chosen in self._serving.choose_together(
                    [robot.as_waiting() for robot in robots.values()], now, self._workers.room):
                robot = robots[chosen.robot]
                message, arrival = robot.waiting.pop(next(iter(robot.waiting)))
                robot.served = True
                robot.record.student = plain(message.student)
                jobs.append(Job(robot, message, arrival))
            return jobs

    def _answer(self, jobs: list[Job]) -> None:
        """Let key frames be answered; what cannot be read is refused here."""
        tasks, by_robot = [], {}
        for job in jobs:
            robot, begin = job.robot, time.perf_counter()
            try:
                key_frame: KeyFrame = key_frame_from_message(job.message, robot.decoder)
            except KeyFrameError as error:
                update = refusal(
                    robot.teacher_id, self.get_fully_qualified_name(), job.message.session_id,
                    job.message.key_frame_number, plain(job.message.model_id), error)
                self._on_answer(job, 0.0, Answer(update, time.perf_counter() - begin))
                continue
            tasks.append(Task(robot.teacher_id, key_frame, job.arrival,
                              self.count_publishers(robot.key_frames) == 1))
            by_robot[robot.teacher_id] = partial(
                self._on_answer, job, time.perf_counter() - begin)
        if tasks:
            self._workers.answer(
                tasks, lambda task, answer: by_robot[task.robot](answer), self._go_on)

    def _on_answer(self, job: Job, reading_seconds: float, answer: Answer) -> None:
        """Publish an answer, and keep account of the time that it has taken; by any thread."""
        robot, record, update = job.robot, job.robot.record, answer.update
        seconds = reading_seconds + answer.seconds
        self._finish(job, seconds)
        if self._closed or not self.context.ok():
            return
        if answer.error:
            self.get_logger().error(
                f'{robot.title}: key frame {job.message.key_frame_number} could not be answered: '
                f'{answer.error}', throttle_duration_sec=5.0)
        if update is None:  # it was answered before
            return
        total = time.perf_counter() - job.arrival
        with robot.publishing:
            if robot.updates is None:  # it is gone
                return
            robot.updates.publish(update_to_message(update, job.message.header, total))
        # For others that came before, and for those that it was labelled with.
        record.total_seconds, record.waiting_seconds = total, max(0.0, total - seconds)
        if update.status == Status.REFUSED:
            record.refused = {
                **record.refused, update.refusal: record.refused.get(update.refusal, 0) + 1}
            self.get_logger().error(
                f'{robot.title}: key frame {update.key_frame_number} was refused: {update.text}',
                throttle_duration_sec=5.0)
            return
        self._keeper.note(robot.teacher_id)
        record.answered += 1
        record.classes, record.memory_bytes = answer.classes, answer.memory_bytes
        record.metric = update.metric_after
        record.teacher_seconds = update.teacher_seconds
        record.training_seconds = update.training_seconds
        self.get_logger().info(
            f'{robot.title}: key frame {update.key_frame_number}: mIoU '
            f'{update.metric_before:.2f} → {update.metric_after:.2f} in {update.steps} steps; '
            f'{len(job.message.image.data) / 1e3:.0f} kB in, '
            f'{len(update.tensors.blob) / 1e3:.0f} kB out; '
            f'{update.teacher_seconds * 1e3:.0f} ms teacher, '
            f'{update.training_seconds * 1e3:.0f} ms training, {total * 1e3:.0f} ms in all')

    def _finish(self, job: Job, seconds: float = 0.0) -> None:
        """Let a robot's next key frame be answered."""
        now, robot = time.perf_counter(), job.robot
        with self._work:
            robot.served = False
            self._serving.served(robot.key_frames, seconds, now)
            robot.record.share = self._serving.share(robot.key_frames, now)
            self._work.notify()


def main(args: list[str] | None = None) -> int:
    """Run the teacher node."""
    return run(TeacherNode, args)
