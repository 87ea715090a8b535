"""Watches the graph for students and teachers, and reaches them; all that the page has of ROS."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
import math
import time
from typing import Any

import cv2
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import Log, ParameterEvent, ParameterType, ParameterValue
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import (
    DescribeParameters, GetParameters, ListParameters, SetParametersAtomically)
from rclpy.qos import ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool, Trigger

from shadowtutor_ros.dashboard.model import Fleet, Parameter, SeenStudent, SeenTeacher
from shadowtutor_ros.msg import KeyFrame, TutorStatus, WeightUpdate
from shadowtutor_ros.nodes.graph import by_node, type_name
from shadowtutor_ros.nodes.images import to_bgr
from shadowtutor_ros.nodes.running import Observer, qos, steady_clock

#: Seconds between two looks at the graph.
POLL_PERIOD = 1.0

#: Seconds in which a service has to answer.
SERVICE_TIMEOUT = 5.0

#: Pictures that are wider are scaled down: they fill no more of a screen.
MAX_WIDTH = 960

_JPEG_QUALITY = 80

_STATUS, _KEY_FRAME, _UPDATE, _IMAGE, _FILE = map(
    type_name, (TutorStatus, KeyFrame, WeightUpdate, Image, CompressedImage))

_STATES = {getattr(TutorStatus, f'STATE_{name.upper()}'): name for name in (
    'waiting_for_images', 'waiting_for_teacher', 'tutored', 'update_overdue', 'no_masks',
    'refused', 'disabled')}

_LEVELS = {
    DiagnosticStatus.OK: 'ok', DiagnosticStatus.WARN: 'warning', DiagnosticStatus.ERROR: 'error',
    DiagnosticStatus.STALE: 'warning'}

_SERVICES = {'reset': 'std_srvs/srv/Trigger', 'request_key_frame': 'std_srvs/srv/Trigger',
             'enable': 'std_srvs/srv/SetBool'}

#: What is shown of a student, by the last part of the topic's name; 'mask' itself is black to the
#: eye.
_VIEWS = ('overlay', 'color_mask', 'confidence')

#: Of each type of parameter its name and the field that has the value.
_TYPES = {
    ParameterType.PARAMETER_BOOL: ('bool', 'bool_value'),
    ParameterType.PARAMETER_INTEGER: ('integer', 'integer_value'),
    ParameterType.PARAMETER_DOUBLE: ('double', 'double_value'),
    ParameterType.PARAMETER_STRING: ('string', 'string_value'),
    ParameterType.PARAMETER_STRING_ARRAY: ('string array', 'string_array_value')}


class ServiceError(Exception):
    """A service that is not there or does not answer, in one line."""


class Picture:
    """
    The newest picture of a topic.

    :ivar number: of the pictures that have come; each is another.
    """

    def __init__(self, kind: type):
        self._kind = kind
        self._message = b''
        self.number = 0

    def put(self, message: bytes) -> None:
        """Take a serialized message in the place of the last."""
        self._message, self.number = message, self.number + 1

    def encode(self) -> bytes:
        """
        Return the newest picture as JPEG, or as the file that it came as.

        :raises ImageMessageError: if it cannot be converted.
        """
        message = deserialize_message(self._message, self._kind)
        if self._kind is CompressedImage and message.data[:2].tobytes() == b'\xff\xd8':
            return message.data.tobytes()
        image = to_bgr(message)
        if image.shape[1] > MAX_WIDTH:
            height = max(1, round(image.shape[0] * MAX_WIDTH / image.shape[1]))
            image = cv2.resize(image, (MAX_WIDTH, height), interpolation=cv2.INTER_AREA)
        return cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()


class Watcher(Observer):
    """
    Looks at the graph and listens, in a thread of its own, from ``with`` to its end.

    What it sees it hands to a fleet, in the event loop's thread, where its own methods are to be
    called too.

    :param fleet: is told what is seen.
    :param loop: in whose thread the fleet lives.
    :param on_fresh: is called there with the names of nodes whose parameters have to be read.
    :param args: for ROS, from the command line.
    """

    def __init__(self, fleet: Fleet, loop: asyncio.AbstractEventLoop,
                 on_fresh: Callable[[list[str]], None], args: Sequence[str] = ()):
        super().__init__('dashboard', '/', args)
        self._fleet, self._loop, self._on_fresh = fleet, loop, on_fresh
        #: Subscriptions, and names of students, by topic of their status.
        self._statuses: dict[str, Any] = {}
        self._by_topic: dict[str, str] = {}
        #: Of services, by node, type and name.
        self._clients: dict[tuple[str, type, str], Any] = {}
        self._node.create_subscription(
            DiagnosticArray, '/diagnostics', self._on_diagnostics, **qos(depth=100))
        self._node.create_subscription(
            ParameterEvent, '/parameter_events', self._on_parameters, 100)
        self._node.create_subscription(Log, '/rosout', self._on_log, 100)
        self._node.create_timer(POLL_PERIOD, self._look, clock=steady_clock())

    # --- in the thread of ROS --------------------------------------------------------------------

    def _tell(self, function: Callable, *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop has ended
            pass

    def _look(self) -> None:
        try:
            self._look_at_graph()
        except Exception as error:  # it changes meanwhile; the next look may do better
            self._node.get_logger().error(
                f'the graph could not be read: {type(error).__name__}: {error}',
                throttle_duration_sec=10.0)

    def _look_at_graph(self) -> None:
        node = self._node
        topics = {name: set(types) for name, types in node.get_topic_names_and_types()}
        students = {}
        for topic in sorted(name for name, types in topics.items() if _STATUS in types):
            for name, ids in by_node(node.get_publishers_info_by_topic(topic)).items():
                if name:
                    students[name] = self._seen_student(name, ids, topic, topics)
        answered: dict[str, set[str]] = {}
        identities: dict[str, set] = {}
        for topic in (name for name, types in topics.items() if _UPDATE in types):
            for name, ids in by_node(node.get_publishers_info_by_topic(topic)).items():
                if name:
                    identities.setdefault(name, set()).update(ids)
        for topic in (name for name, types in topics.items() if _KEY_FRAME in types):
            for name in by_node(node.get_subscriptions_info_by_topic(topic)):
                # Who subscribes to key frames alone is a recorder.
                if name in identities:
                    answered.setdefault(name, set()).add(topic)
        teachers = [SeenTeacher(name, frozenset(identities[name]), tuple(sorted(answered[name])))
                    for name in answered]
        for topic in {student.status for student in students.values()} - self._statuses.keys():
            self._statuses[topic] = node.create_subscription(
                TutorStatus, topic,
                lambda status, topic=topic: self._on_status(topic, status), **qos())
        self._by_topic = {student.status: name for name, student in students.items()}
        for topic in self._statuses.keys() - self._by_topic.keys():
            node.destroy_subscription(self._statuses.pop(topic))
        self._tell(self._saw, list(students.values()), teachers)

    def _seen_student(self, name: str, ids: set, status: str, topics: dict) -> SeenStudent:
        space, _, short = name.rpartition('/')
        try:
            published = self._node.get_publisher_names_and_types_by_node(short, space or '/')
            subscribed = self._node.get_subscriber_names_and_types_by_node(short, space or '/')
            offered = self._node.get_service_names_and_types_by_node(short, space or '/')
        except RuntimeError:  # it has gone meanwhile
            published = subscribed = offered = []
        image = next((topic for topic, types in subscribed if {_IMAGE, _FILE} & set(types)), '')
        views = {}
        for topic, types in published:
            kind = topic.rpartition('/')[2]
            if _IMAGE in types and kind in _VIEWS:
                views[kind] = topic
        if image:
            views['camera'] = image
        for kind, topic in views.items():
            # A fraction of the bytes, where it is there.
            if _FILE in topics.get(f'{topic}/compressed', ()):
                views[kind] = f'{topic}/compressed'
        services = {}
        for service, types in offered:
            what = service.rpartition('/')[2]
            if _SERVICES.get(what) in types:
                services[what] = service
        return SeenStudent(
            name, frozenset(ids), status,
            next((topic for topic, types in published if _KEY_FRAME in types), ''),
            image, self._node.count_publishers(image) if image else 0,
            {kind: views[kind] for kind in ('overlay', 'camera', *_VIEWS[1:]) if kind in views},
            services)

    def _on_status(self, topic: str, message: TutorStatus) -> None:
        status = {field: getattr(message, field) for field in message.get_fields_and_field_types()}
        status['state'] = _STATES.get(message.state, 'unknown')
        if name := self._by_topic.get(topic):
            self._tell(self._fleet.add_status, name, status, time.monotonic())

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if ': ' in status.name:
                self._tell(
                    self._fleet.add_diagnostics, status.name, _LEVELS.get(status.level, 'warning'),
                    status.message, {pair.key: pair.value for pair in status.values},
                    time.monotonic())

    def _on_parameters(self, event: ParameterEvent) -> None:
        values = {one.name: _value(one.value)
                  for one in (*event.new_parameters, *event.changed_parameters)}
        self._tell(self._fleet.change_parameters, event.node, values)

    def _on_log(self, line: Log) -> None:
        if line.level >= 30:  # WARN; the constants are bytes until Jazzy
            level = 'error' if line.level >= 40 else 'warning'
            self._tell(self._fleet.add_line, '/' + line.name.replace('.', '/'), level, line.msg,
                       time.monotonic())

    # --- in the thread of the event loop ---------------------------------------------------------

    def _saw(self, students: list[SeenStudent], teachers: list[SeenTeacher]) -> None:
        fresh = self._fleet.see(students, teachers, time.monotonic())
        if fresh:
            self._on_fresh(fresh)
        for key in [key for key in self._clients if self._fleet.node(key[0]) is None]:
            self._executor.create_task(self._node.destroy_client, self._clients.pop(key))

    async def _in_ros(self, function: Callable, *arguments: Any) -> Any:
        """Call a function in the thread of ROS and return what it returns."""
        answer = self._loop.create_future()

        def call() -> None:
            result = function(*arguments)
            self._tell(lambda: answer.done() or answer.set_result(result))
        self._executor.create_task(call)
        return await answer

    async def subscribe(self, topic: str, on_picture: Callable[[], None]) -> tuple[Any, Picture]:
        """
        Subscribe to pictures.

        :param on_picture: is called in the event loop's thread whenever one has come.
        :returns: what :meth:`unsubscribe` takes, and where the newest is.
        """
        return await self._in_ros(self._subscribe, topic, on_picture)

    def _subscribe(self, topic: str, on_picture: Callable[[], None]) -> tuple[Any, Picture]:
        types = dict(self._node.get_topic_names_and_types()).get(topic, [])
        kind = CompressedImage if _FILE in types else Image
        picture = Picture(kind)

        def take(message: bytes) -> None:
            picture.put(message)
            self._tell(on_picture)
        # Best effort: who only looks must slow nobody down. Raw: those that nobody sees are not
        # converted.
        return self._node.create_subscription(
            kind, topic, take, raw=True, **qos(ReliabilityPolicy.BEST_EFFORT)), picture

    async def unsubscribe(self, subscription: Any) -> None:
        """End a subscription to pictures."""
        await self._in_ros(self._node.destroy_subscription, subscription)

    async def call(self, node: str, kind: type, name: str, request: Any) -> Any:
        """
        Call a service of a node.

        :param kind: of the service.
        :returns: its response.
        :raises ServiceError: if none comes in time.
        """
        client = self._clients.get((node, kind, name))
        if client is None:
            client = await self._in_ros(self._node.create_client, kind, name)
            self._clients[node, kind, name] = client
        end = self._loop.time() + SERVICE_TIMEOUT
        while not client.service_is_ready():
            if self._loop.time() > end:
                raise ServiceError(f'the service {name} is not there: has its node ended?')
            await asyncio.sleep(0.05)
        answer = self._loop.create_future()

        def call() -> None:
            future = client.call_async(request)
            future.add_done_callback(lambda done: self._tell(
                lambda: answer.done() or answer.set_result(done.result())))
        self._executor.create_task(call)
        try:
            return await asyncio.wait_for(answer, SERVICE_TIMEOUT)
        except asyncio.TimeoutError:
            raise ServiceError(
                f'the service {name} has not answered within {SERVICE_TIMEOUT:.0f} s') from None

    async def read_parameters(self, node: str) -> None:
        """
        Read all parameters of a node, with their descriptions, into the fleet.

        :raises ServiceError: if it does not answer.
        """
        listed = await self.call(
            node, ListParameters, f'{node}/list_parameters', ListParameters.Request())
        # Those that every node of ROS has are nobody's business here.
        names = [name for name in listed.result.names
                 if name != 'use_sim_time' and not name.startswith('qos_overrides.')]
        described = (await self.call(
            node, DescribeParameters, f'{node}/describe_parameters',
            DescribeParameters.Request(names=names))).descriptors
        values = (await self.call(
            node, GetParameters, f'{node}/get_parameters',
            GetParameters.Request(names=names))).values
        self._fleet.set_parameters(node, [
            _parameter(descriptor, value) for descriptor, value in zip(described, values)
            if value.type in _TYPES])

    async def set_parameters(self, node: str, values: Mapping[str, Any]) -> None:
        """
        Set parameters of a node, all or none.

        :param values: by name, of the types that the fleet has them with.
        :raises ServiceError: if it does not answer, or in its own words why it does not take them.
        """
        types = self._fleet.node(node).parameters
        request = SetParametersAtomically.Request(parameters=[
            ParameterMessage(name=name, value=_message(types[name].type, value))
            for name, value in values.items()])
        answer = await self.call(
            node, SetParametersAtomically, f'{node}/set_parameters_atomically', request)
        result = answer.result
        if not result.successful:
            raise ServiceError(result.reason or f'{node} did not take it')
        # The node says so to all, but that may come later.
        self._fleet.change_parameters(node, values)

    async def trigger(
            self, node: str, service: str, value: bool | None = None) -> tuple[bool, str]:
        """
        Call a service of a student.

        :param service: its full name.
        :param value: for a SetBool; None for a Trigger.
        :returns: whether it has done it, and its words.
        :raises ServiceError: if it does not answer.
        """
        kind, request = (Trigger, Trigger.Request()) if value is None else (
            SetBool, SetBool.Request(data=value))
        response = await self.call(node, kind, service, request)
        return response.success, response.message


def _value(message: ParameterValue) -> Any:
    field = _TYPES.get(message.type)
    value = getattr(message, field[1]) if field else None
    return list(value) if field and field[0] == 'string array' else value


def _message(type_name: str, value: Any) -> ParameterValue:
    kind, field = next((kind, field) for kind, (name, field) in _TYPES.items()
                       if name == type_name)
    return ParameterValue(type=kind, **{field: value})


def _parameter(descriptor: Any, value: ParameterValue) -> Parameter:
    ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
    low, high = (ranges[0].from_value, ranges[0].to_value) if ranges else (None, None)
    choices = ()
    # Where parameters.py puts them: ROS has no field for them.
    if descriptor.additional_constraints.startswith('one of '):
        choices = tuple(descriptor.additional_constraints.removeprefix('one of ').split(', '))
    if ranges and not (math.isfinite(low) and math.isfinite(high)):
        low = high = None
    return Parameter(
        descriptor.name, _TYPES[value.type][0], _value(value), descriptor.description, low, high,
        choices, descriptor.read_only)
