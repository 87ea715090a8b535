"""
Serves the page, and speaks with it over one WebSocket a browser.

The server says how all do, as JSON, and sends pictures, as bytes: the length of the robot's name
and of the view, both, and the file. A browser says what it looks at, says when it has shown a
picture, which asks for the next, and asks for changes.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
import ipaddress
import json
from pathlib import Path
import socket
import time
from typing import Any

import tornado.httpserver
import tornado.netutil
import tornado.web
import tornado.websocket

from shadowtutor_ros.classes import ClassesError, is_file, load_classes
from shadowtutor_ros.dashboard.model import Fleet, Parameter, SERIES, shown, Student
from shadowtutor_ros.dashboard.watcher import Picture, ServiceError, Watcher
from shadowtutor_ros.wire.image_messages import ImageMessageError

#: Seconds between two reports to the browsers.
REPORT_PERIOD = 0.5

#: Pictures a second of one view, at most.
PICTURE_RATE = 15.0

#: Browsers at a time, and bytes of what one of them says.
MAX_BROWSERS, MAX_MESSAGE = 32, 65536

_PAGE = Path(__file__).with_name('page')

_HEADERS = {
    # Nothing but what this server has, and nothing of it in somebody else's page.
    'Content-Security-Policy': (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'no-referrer',
    'Cache-Control': 'no-cache'}


class RequestError(ValueError):
    """What a browser asked for and does not get, in one line that it shows."""


class View:
    """
    A view that somebody looks at: subscribed to as long as that is so.

    :param topic: of its pictures.
    """

    def __init__(self, topic: str):
        self.topic = topic
        self.changed = asyncio.Event()
        self.task: asyncio.Task | None = None


class Dashboard:
    """
    The robots, and the browsers that look at them; lives in one event loop.

    :param read_only: whether nothing may be changed.
    :param host: that it is bound to.
    :param args: for ROS, from the command line.
    """

    def __init__(self, read_only: bool, host: str, args: list[str]):
        self.fleet = Fleet()
        self.read_only = read_only
        self.hosts = own_names(host)
        self.browsers: set[Browser] = set()
        self._views: dict[tuple[str, str], View] = {}
        self._pool = ThreadPoolExecutor(2, 'pictures')
        self._tasks: set[asyncio.Task] = set()
        self._watcher = Watcher(self.fleet, asyncio.get_running_loop(), self._read, args)

    async def run(self, sockets: list[socket.socket], end: asyncio.Event) -> None:
        """
        Serve until the end.

        :param sockets: to listen at.
        """
        application = tornado.web.Application([
            (r'/live', Browser, {'dashboard': self}),
            (r'/(.*)', _File, {
                'dashboard': self, 'path': str(_PAGE), 'default_filename': 'index.html'}),
        ], websocket_ping_interval=10, websocket_max_message_size=MAX_MESSAGE)
        server = tornado.httpserver.HTTPServer(application)
        with self._watcher:
            server.add_sockets(sockets)
            while not end.is_set():
                now = time.monotonic()
                report = None
                for browser in list(self.browsers):
                    if browser.ready_for_report:
                        report = report or self.fleet.report(now)
                        browser.report(report, now)
                try:
                    await asyncio.wait_for(end.wait(), REPORT_PERIOD)
                except asyncio.TimeoutError:
                    pass
            server.stop()
            for browser in list(self.browsers):
                browser.close(1001, 'the dashboard has ended')
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown(wait=False)

    def start(self, work: Any) -> asyncio.Task:
        """Run work beside, to the end of the dashboard at most."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _read(self, names: list[str]) -> None:
        for name in names:
            self.start(self._read_parameters(name))

    async def _read_parameters(self, name: str) -> None:
        while (node := self.fleet.node(name)) is not None and node.gone_since is None:
            try:
                return await self._watcher.read_parameters(name)
            except ServiceError:  # it may be busy as it starts
                await asyncio.sleep(1.0)

    # --- pictures --------------------------------------------------------------------------------

    def look(self) -> None:
        """Begin and end views, by what the browsers look at."""
        wanted = {key for browser in self.browsers for key in browser.looks}
        for key in wanted:
            topic = self.fleet.topic(*key)
            view = self._views.get(key)
            if view is not None and view.topic != topic:
                view.task.cancel()
                view = None
            if view is None and topic is not None:
                view = self._views[key] = View(topic)
                view.task = self.start(self._show(key, view))
        for key in self._views.keys() - wanted:
            self._views.pop(key).task.cancel()

    def seen(self, key: tuple[str, str]) -> None:
        """Let a view know that a browser is ready for its next picture."""
        if key in self._views:
            self._views[key].changed.set()

    async def _show(self, key: tuple[str, str], view: View) -> None:
        subscribing = asyncio.ensure_future(
            self._watcher.subscribe(view.topic, view.changed.set))
        try:
            _, picture = await asyncio.shield(subscribing)
            while True:
                await view.changed.wait()
                view.changed.clear()
                waiting = [browser for browser in self.browsers
                           if browser.looks.get(key, picture.number) < picture.number]
                if waiting:
                    begun = asyncio.get_running_loop().time()
                    await self._send(key, picture, waiting)
                    spent = asyncio.get_running_loop().time() - begun
                    await asyncio.sleep(max(0.0, 1 / PICTURE_RATE - spent))
        finally:
            # Whenever it is cancelled, the robot must not go on painting.
            subscription, _ = await subscribing
            await self._watcher.unsubscribe(subscription)

    async def _send(self, key: tuple[str, str], picture: Picture,
                    browsers: list['Browser']) -> None:
        number = picture.number
        try:
            data = await asyncio.get_running_loop().run_in_executor(self._pool, picture.encode)
        except Exception as error:  # one that fails must not end the view
            known = isinstance(error, ImageMessageError)
            text = str(error) if known else f'{type(error).__name__}: {error}'
            for browser in browsers:
                browser.say({'type': 'no picture', 'student': key[0], 'view': key[1],
                             'text': shown(text)})
            return
        names = [name.encode() for name in key]
        message = bytes(map(len, names)) + b''.join(names) + data
        for browser in browsers:
            browser.show(key, number, message)

    # --- changes ---------------------------------------------------------------------------------

    async def change(self, request: dict[str, Any]) -> str:
        """
        Do what a browser asks for.

        :returns: what was done, in words.
        :raises RequestError: if it is not done.
        """
        if self.read_only:
            raise RequestError('this dashboard only shows: it was started with --read-only')
        node = self.fleet.node(str(request.get('node')))
        if node is None or node.gone_since is not None:
            raise RequestError(f"there is no {shown(request.get('node'))}")
        try:
            if request['do'] == 'set':
                parameter = node.parameters.get(str(request.get('parameter')))
                if parameter is None or parameter.read_only:
                    raise RequestError('there is no such parameter that can be changed')
                value = converted(parameter, request.get('value'))
                await self._watcher.set_parameters(node.name, {parameter.name: value})
                return f'{parameter.name} is {shown(value)} now'
            if request['do'] == 'see':
                values = wanted_classes(node, str(request.get('text')))
                await self._watcher.set_parameters(node.name, values)
                return 'asked for: the masks change as soon as a teacher has answered'
            if request['do'] == 'call':
                service = node.seen.services.get(str(request.get('service'))) if isinstance(
                    node, Student) else None
                if service is None:
                    raise RequestError(f'{node.name} has no such service')
                value = bool(request.get('value')) if request['service'] == 'enable' else None
                done, words = await self._watcher.trigger(node.name, service, value)
                if not done:
                    raise RequestError(shown(words))
                return shown(words)
        except (ClassesError, ServiceError) as error:
            raise RequestError(shown(str(error))) from None
        raise RequestError('that is not known here')


class _Checked:
    """Lets nobody in who came here by somebody else's name."""

    def check_host(self) -> bool:
        """Refuse a request to a host that is not this one; tells whether it may go on."""
        host = self.request.host_name.strip('[]').lower()
        if is_address(host) or host in self.dashboard.hosts:
            return True
        # A page of another site may let its own name point here (DNS rebinding).
        self.set_status(403)
        self.finish(f"This dashboard does not go by the name '{shown(host, 100)}': use its "
                    'address, or start it with --host and this name.\n')
        return False


class _File(_Checked, tornado.web.StaticFileHandler):
    """The files of the page."""

    def initialize(self, dashboard: Dashboard, **options: Any) -> None:
        """Take the dashboard, and what Tornado needs to find the files."""
        self.dashboard = dashboard
        super().initialize(**options)

    def prepare(self) -> None:
        """Refuse who came by another name."""
        self.check_host()

    def set_extra_headers(self, path: str) -> None:
        """Say what the page may do."""
        for name, value in _HEADERS.items():
            self.set_header(name, value)


class Browser(_Checked, tornado.websocket.WebSocketHandler):
    """
    A browser that has the page open.

    Tornado itself refuses what another site's page opens: its Origin is not the Host.

    :ivar looks: the number of the last picture shown, by student and view; infinite while one is
        on its way.
    """

    def initialize(self, dashboard: Dashboard) -> None:
        """Take the dashboard."""
        self.dashboard = dashboard
        self.looks: dict[tuple[str, str], float] = {}
        self._sent: dict[tuple[str, str], float] = {}
        self._version = -1
        self._samples: dict[str, int] = {}
        self._writing: asyncio.Future | None = None

    def prepare(self) -> None:
        """Refuse who came by another name, or one too many."""
        if self.check_host() and len(self.dashboard.browsers) >= MAX_BROWSERS:
            self.set_status(503)
            self.finish(f'{MAX_BROWSERS} browsers look at this dashboard already.\n')

    def open(self) -> None:
        """Say all that is known."""
        self.dashboard.browsers.add(self)
        self.say({'type': 'hello', 'read_only': self.dashboard.read_only, 'series': SERIES})
        now = time.monotonic()
        self.report(self.dashboard.fleet.report(now), now)

    def on_close(self) -> None:
        """Look at nothing any more."""
        self.dashboard.browsers.discard(self)
        self.dashboard.look()

    def on_message(self, message: str | bytes) -> None:
        """Do what the browser asks for; one that speaks nonsense is shown out."""
        try:
            request = json.loads(message)
            what = request['do']
            if what == 'look':
                keys = [(str(student), str(view)) for student, view in request['views'][:100]]
                self.looks = {key: self.looks.get(key, -1) for key in keys}
                self.dashboard.look()
            elif what == 'seen':
                key = str(request['student']), str(request['view'])
                if key in self.looks and key in self._sent:
                    self.looks[key] = self._sent.pop(key)
                    self.dashboard.seen(key)
            else:
                self.dashboard.start(self._change(request))
        except (ValueError, TypeError, KeyError, AttributeError):
            self.close(1003, 'this is not understood')

    async def _change(self, request: dict[str, Any]) -> None:
        try:
            done, text = True, await self.dashboard.change(request)
        except RequestError as error:
            done, text = False, str(error)
        # First what is so now, which a control goes back to where its value was refused.
        self._say_nodes()
        self.say({'type': 'answer', 'id': request.get('id'), 'done': done, 'text': text})

    @property
    def ready_for_report(self) -> bool:
        """Whether the last report has gone out: a browser that sleeps is told no more."""
        return self._writing is None or self._writing.done()

    def report(self, report: dict[str, Any], now: float) -> None:
        """Say how all do, with what is new since the last time."""
        fleet = self.dashboard.fleet
        self._say_nodes()
        samples = {}
        for name, student in fleet.students.items():
            if new := student.samples_after(self._samples.get(name, 0)):
                samples[name] = [values for _, values in new]
                self._samples[name] = new[-1][0]
        self._writing = self.say({'type': 'report', 'now': now, 'samples': samples, **report})

    def _say_nodes(self) -> None:
        """Say what seldom changes, if it has."""
        fleet = self.dashboard.fleet
        if self._version != fleet.version:
            self._version = fleet.version
            self.say({'type': 'nodes', **fleet.describe()})
            self.dashboard.look()  # a view may be there now, or on another topic

    def show(self, key: tuple[str, str], number: int, message: bytes) -> None:
        """Send a picture."""
        if key in self.looks:
            self.looks[key], self._sent[key] = float('inf'), number
            self._write(message)

    def say(self, message: dict[str, Any]) -> asyncio.Future | None:
        """Send words; returns what is done when they have gone out."""
        return self._write(json.dumps(message))

    def _write(self, message: str | bytes) -> asyncio.Future | None:
        try:
            written = self.write_message(message, isinstance(message, bytes))
        except tornado.websocket.WebSocketClosedError:
            return None
        # It may close while this goes out; that is no error.
        written.add_done_callback(lambda done: done.cancelled() or done.exception())
        return written


def converted(parameter: Parameter, value: Any) -> Any:
    """
    Turn what a browser sent into a value of a parameter.

    :raises RequestError: if it is of another kind or out of its range; what else a value has to
        be, the node knows.
    """
    wanted = {'bool': 'true or false', 'integer': 'a whole number', 'double': 'a number'}.get(
        parameter.type, 'text')
    try:
        found = _as_type(parameter.type, value)
    except (ValueError, TypeError, OverflowError):
        raise RequestError(
            f"{parameter.name} is '{shown(value, 80)}': expected {wanted}") from None
    if parameter.low is not None and not parameter.low <= found <= parameter.high:
        raise RequestError(f'{parameter.name} is {found}: expected {wanted} from {parameter.low} '
                           f'to {parameter.high}')
    return found


def _as_type(kind: str, value: Any) -> Any:
    if kind == 'bool' and isinstance(value, bool):
        return value
    if kind in ('integer', 'double') and not isinstance(value, bool):
        number = float(value)
        if kind == 'double':
            return number
        if number == int(number) and abs(number) < 2 ** 63:
            return int(number)
    if kind == 'string' and isinstance(value, str):
        return value
    if kind == 'string array' and isinstance(value, str):
        # ROS cannot write an empty list down: it stands as [''].
        separator = ';' if ';' in value or ':' in value else ','
        return [one.strip() for one in value.split(separator) if one.strip()] or ['']
    raise ValueError


def wanted_classes(node: Any, text: str) -> dict[str, Any]:
    """
    Return the parameters of a student that is to see what somebody typed.

    :param text: as the option ``--classes`` has it: names, or a class table's file on the robot;
        empty: what its weights have.
    :raises RequestError: if it is no student.
    :raises ClassesError: if the names cannot be.
    """
    if not {'classes', 'classes_file'} <= node.parameters.keys():
        raise RequestError(f'{node.name} takes no classes')
    text = text.strip()
    if not text or is_file(text):
        return {'classes': [''], 'classes_file': text}
    table = load_classes(text)
    background = table.names[table.background]
    entries = [entry for entry in table.entries if entry != background]
    return {'classes': entries, 'classes_file': ''}


def is_address(host: str) -> bool:
    """Tell whether a host is named by its address."""
    try:
        return bool(ipaddress.ip_address(host.partition('%')[0]))
    except ValueError:
        return False


def own_names(host: str) -> set[str]:
    """Return the names that this computer goes by."""
    name = socket.gethostname().lower()
    return {'localhost', host.lower(), name, f'{name}.local', socket.getfqdn().lower()}
