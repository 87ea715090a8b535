"""The dashboard's server, with browsers that are WebSockets and without robots."""

import asyncio
import json
import math
import re

import cv2
import numpy as np
import pytest
from shadowtutor_ros.classes import ClassesError
from shadowtutor_ros.dashboard.model import Parameter, SeenStudent

tornado = pytest.importorskip('tornado', reason='tornado is not installed')
from shadowtutor_ros.dashboard import server  # noqa: E402
from shadowtutor_ros.dashboard.server import (  # noqa: E402
    converted, Dashboard, RequestError, wanted_classes)
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest  # noqa: E402
from tornado.netutil import bind_sockets  # noqa: E402
from tornado.websocket import websocket_connect  # noqa: E402

ROBOT = SeenStudent(
    '/r1/student', 1, '/r1/student/status', '/r1/key_frames', '/r1/image', 1,
    {'overlay': '/r1/overlay', 'camera': '/r1/image'},
    {'reset': '/r1/student/reset', 'enable': '/r1/student/enable'})
PARAMETERS = [
    Parameter('drift', 'double', 0.3, low=0.0, high=10.0),
    Parameter('device', 'string', 'cpu', read_only=True),
    Parameter('classes', 'string array', ['']), Parameter('classes_file', 'string', '')]


class StubPicture:
    """A picture that counts how often it is encoded."""

    def __init__(self):
        self.number = self.encoded = 0

    def encode(self):
        self.encoded += 1
        return b'\xff\xd8' + self.number.to_bytes(4, 'big')


class StubWatcher:
    """Stands in for ROS, and notes what is asked of it."""

    def __init__(self, fleet, loop, on_fresh, args):
        self.pictures, self.asked, self.subscribing = {}, [], 0

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    async def subscribe(self, topic, on_picture):
        self.subscribing += 1
        made = asyncio.get_running_loop().create_future()

        def make():  # as ROS does in its thread, whether or not somebody still waits
            self.pictures[topic] = StubPicture(), on_picture
            made.done() or made.set_result((topic, self.pictures[topic][0]))
        asyncio.get_running_loop().call_later(0.05, make)
        return await made

    async def unsubscribe(self, topic):
        del self.pictures[topic]

    async def set_parameters(self, node, values):
        self.asked.append((node, values))

    async def trigger(self, node, service, value=None):
        self.asked.append((service, value))
        return value is not False, 'these are its words'

    def come(self, topic):
        """Let a picture come."""
        picture, on_picture = self.pictures[topic]
        picture.number += 1
        on_picture()


class Visit:
    """A dashboard with one robot, and what visits it."""

    def __init__(self, dashboard, port):
        self.dashboard, self.port = dashboard, port
        self.watcher = dashboard._watcher

    async def get(self, path='', **headers):
        return await AsyncHTTPClient().fetch(HTTPRequest(
            f'http://127.0.0.1:{self.port}/{path}', headers=headers))

    async def browser(self, **headers):
        return await websocket_connect(HTTPRequest(
            f'ws://127.0.0.1:{self.port}/live', headers=headers))

    async def answer(self, browser, **request):
        """Ask for a change and return whether it was done, and the words."""
        browser.write_message(json.dumps({'id': 5, **request}))
        message = await self.next(browser, 'answer')
        assert message['id'] == 5
        return message['done'], message['text']

    async def next(self, browser, kind):
        """Return the next message of a kind; 'picture' is one in bytes."""
        while (message := await browser.read_message()) is not None:
            if isinstance(message, bytes):
                if kind == 'picture':
                    return message
            elif (content := json.loads(message))['type'] == kind:
                return content


def visit(monkeypatch, scenario, read_only=False, host='127.0.0.1'):
    """Run a dashboard with one robot, and a scenario against it."""
    async def run():
        dashboard = Dashboard(read_only, host, [])
        dashboard.fleet.see([ROBOT], [], 0.0)
        dashboard.fleet.set_parameters('/r1/student', PARAMETERS)
        sockets, end = bind_sockets(0, '127.0.0.1'), asyncio.Event()
        served = asyncio.ensure_future(dashboard.run(sockets, end))
        try:
            await asyncio.wait_for(
                scenario(Visit(dashboard, sockets[0].getsockname()[1])), 60)
        finally:
            end.set()
            await served
    monkeypatch.setattr(server, 'Watcher', StubWatcher)
    asyncio.run(run())


async def until(condition):
    """Wait until a condition holds."""
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError('not true after 30 s')


def test_the_page_is_served_whole_from_here(monkeypatch):
    async def scenario(visit):
        page = (await visit.get()).body.decode()
        for name in (
                'page.js', 'plot.js', 'parameters.js', 'style.css', 'dark.css', 'icon.svg'):
            response = await visit.get(name)
            assert "default-src 'none'" in response.headers['Content-Security-Policy']
            # The name of SVG's language is no address that is loaded.
            text = response.body.decode().replace('http://www.w3.org/2000/svg', '')
            assert not re.search(r'//\w', text), f'{name} has an address'
        assert not re.search(r'//\w', page)
        assert 'innerHTML' not in (await visit.get('page.js')).body.decode()
        for path in ('../server.py', 'nothing'):
            with pytest.raises(HTTPClientError, match='40[34]'):
                await visit.get(path)
    visit(monkeypatch, scenario)


def test_only_its_own_names_and_addresses_are_answered(monkeypatch):
    async def scenario(visit):
        for host in ('localhost:1', '127.0.0.1', '[::1]:80', '192.168.1.5', 'robot.lab'):
            assert (await visit.get(Host=host)).code == 200
        for host in ('evil.example', 'localhost.evil.example', '127.0.0.1.evil.example'):
            for ask in visit.get, visit.browser:
                with pytest.raises(HTTPClientError, match='403'):
                    await ask(Host=host)
    visit(monkeypatch, scenario, host='robot.lab')


def test_pages_of_other_sites_cannot_connect(monkeypatch):
    async def scenario(visit):
        for origin in ('http://evil.example', f'http://127.0.0.1:{visit.port + 1}', 'null'):
            with pytest.raises(HTTPClientError, match='403'):
                await visit.browser(Origin=origin)
        assert await visit.browser(Origin=f'http://127.0.0.1:{visit.port}')
    visit(monkeypatch, scenario)


def test_changes_reach_the_robot_and_are_answered_in_words(monkeypatch):
    async def scenario(visit):
        browser, asked = await visit.browser(), visit.watcher.asked
        node = {'node': '/r1/student'}
        assert await visit.answer(browser, do='set', parameter='drift', value=0.5, **node) == (
            True, 'drift is 0.5 now')
        assert asked.pop() == ('/r1/student', {'drift': 0.5})
        assert (await visit.answer(browser, do='see', text='dog; auto: car, bus', **node))[0]
        assert asked.pop() == (
            '/r1/student', {'classes': ['dog', 'auto: car, bus'], 'classes_file': ''})
        assert await visit.answer(browser, do='call', service='reset', **node) == (
            True, 'these are its words')
        assert asked.pop() == ('/r1/student/reset', None)
        assert await visit.answer(
            browser, do='call', service='enable', value=False, **node) == (
            False, 'these are its words')
        assert asked.pop() == ('/r1/student/enable', False)
        for request, words in (
                ({'do': 'set', 'parameter': 'drift', 'value': 'much'}, 'expected a number'),
                ({'do': 'set', 'parameter': 'device', 'value': 'cuda'}, 'no such parameter'),
                ({'do': 'set', 'parameter': ['drift'], 'value': 1}, 'no such parameter'),
                ({'do': 'see', 'text': 'dog, dog'}, 'there twice'),
                ({'do': 'call', 'service': 'shutdown'}, 'no such service'),
                ({'do': 'call', 'service': 'request_key_frame'}, 'no such service'),
                ({'do': 'dance'}, 'not known here'),
                ({'do': 'set', 'node': '/r2/student'}, 'there is no /r2/student')):
            done, text = await visit.answer(browser, **{**node, **request})
            assert not done
            assert words in text
        assert asked == []
    visit(monkeypatch, scenario)


def test_read_only_changes_nothing_whatever_is_sent(monkeypatch):
    async def scenario(visit):
        browser = await visit.browser()
        assert (await visit.next(browser, 'hello'))['read_only'] is True
        for request in ({'do': 'set', 'parameter': 'drift', 'value': 0.5},
                        {'do': 'see', 'text': 'dog'}, {'do': 'call', 'service': 'reset'}):
            done, text = await visit.answer(browser, node='/r1/student', **request)
            assert not done
            assert 'only shows' in text
        assert visit.watcher.asked == []
    visit(monkeypatch, scenario, read_only=True)


@pytest.mark.parametrize('message', [
    'no JSON', '[]', '{"do": "look", "views": 5}', '{"do": "look", "views": [1]}', b'\xff', '{}',
    '{"do": "seen"}'])
def test_who_speaks_nonsense_is_shown_out(monkeypatch, message):
    async def scenario(visit):
        browser, other = await visit.browser(), await visit.browser()
        browser.write_message(message, isinstance(message, bytes))
        assert await visit.next(browser, 'nothing that comes') is None
        assert browser.close_code == 1003
        assert (await visit.answer(other, do='call', service='reset', node='/r1/student'))[0]
    visit(monkeypatch, scenario)


def test_pictures_are_taken_while_somebody_looks_and_encoded_once(monkeypatch):
    async def scenario(visit):
        first, second = await visit.browser(), await visit.browser()
        watcher = visit.watcher
        await visit.next(first, 'report')
        assert watcher.pictures == {}
        look = json.dumps({'do': 'look', 'views': [
            ['/r1/student', 'overlay'], ['/r1/student', 'nothing'], ['/r9/student', 'overlay']]})
        for browser in first, second:
            browser.write_message(look)
        await until(lambda: len(watcher.pictures) == 1 and all(
            browser.looks for browser in visit.dashboard.browsers))
        watcher.come('/r1/overlay')
        for browser in first, second:
            assert await visit.next(browser, 'picture') == (
                b'\x0b\x07/r1/studentoverlay\xff\xd8\0\0\0\x01')
        assert watcher.pictures['/r1/overlay'][0].encoded == 1
        # Who has not shown the last one gets no other; then the newest.
        first.write_message(json.dumps(
            {'do': 'seen', 'student': '/r1/student', 'view': 'overlay'}))
        for number in range(5):
            watcher.come('/r1/overlay')
        assert (await visit.next(first, 'picture')).endswith(b'\0\0\0\x06')
        watcher.come('/r1/overlay')
        await asyncio.sleep(3 / server.PICTURE_RATE)
        assert watcher.pictures['/r1/overlay'][0].encoded == 2
        second.write_message(json.dumps(
            {'do': 'seen', 'student': '/r1/student', 'view': 'overlay'}))
        assert (await visit.next(second, 'picture')).endswith(b'\0\0\0\x07')
        first.write_message(json.dumps({'do': 'look', 'views': []}))
        watcher.come('/r1/overlay')
        assert len(watcher.pictures) == 1  # the other still looks
        second.close()
        await until(lambda: not watcher.pictures)
    visit(monkeypatch, scenario)


def test_who_looks_away_before_the_subscription_is_made_leaves_none(monkeypatch):
    async def scenario(visit):
        browser = await visit.browser()
        browser.write_message(json.dumps({'do': 'look', 'views': [['/r1/student', 'overlay']]}))
        await until(lambda: visit.watcher.subscribing)
        browser.write_message(json.dumps({'do': 'look', 'views': [['/r1/student', 'camera']]}))
        await until(lambda: '/r1/image' in visit.watcher.pictures)
        await until(lambda: set(visit.watcher.pictures) == {'/r1/image'})
        await asyncio.sleep(0.2)
        assert set(visit.watcher.pictures) == {'/r1/image'}
    visit(monkeypatch, scenario)


def test_a_view_follows_its_topic(monkeypatch):
    async def scenario(visit):
        browser = await visit.browser()
        browser.write_message(json.dumps({'do': 'look', 'views': [['/r1/student', 'overlay']]}))
        await until(lambda: '/r1/overlay' in visit.watcher.pictures)
        moved = SeenStudent(**{**vars(ROBOT), 'views': {'overlay': '/r1/other'}})
        visit.dashboard.fleet.see([moved], [], 1.0)
        await until(lambda: set(visit.watcher.pictures) == {'/r1/other'})
    visit(monkeypatch, scenario)


def test_every_browser_gets_the_whole_past_and_then_what_is_new(monkeypatch):
    async def scenario(visit):
        student = visit.dashboard.fleet.students['/r1/student']
        for number in range(1, 4):
            student.samples.append((number, (float(number),)))
        browser = await visit.browser()
        report = await visit.next(browser, 'report')
        assert report['samples'] == {'/r1/student': [[1.0], [2.0], [3.0]]}
        student.samples.append((4, (4.0,)))
        while not (report := await visit.next(browser, 'report'))['samples']:
            pass
        assert report['samples'] == {'/r1/student': [[4.0]]}
    visit(monkeypatch, scenario)


def test_browsers_are_bounded(monkeypatch):
    async def scenario(visit):
        browsers = [await visit.browser() for _ in range(2)]
        with pytest.raises(HTTPClientError, match='503'):
            await visit.browser()
        browsers[0].close()
        await until(lambda: len(visit.dashboard.browsers) == 1)
        assert await visit.browser()
    monkeypatch.setattr(server, 'MAX_BROWSERS', 2)
    visit(monkeypatch, scenario)


@pytest.mark.parametrize('kind, value, wanted', [
    ('bool', True, True), ('integer', 8, 8), ('integer', '8', 8), ('integer', 8.0, 8),
    ('double', 8, 8.0), ('double', '1e-3', 1e-3), ('string', 'fp16', 'fp16'),
    ('string array', 'a, b', ['a', 'b']), ('string array', 'a: b, c; d', ['a: b, c', 'd']),
    ('string array', ' ', ['']),
])
def test_values_of_the_page_become_those_of_the_parameter(kind, value, wanted):
    found = converted(Parameter('one', kind, None), value)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize('kind, value', [
    ('bool', 1), ('bool', 'true'), ('integer', 8.5), ('integer', True), ('integer', '1e30'),
    ('integer', math.inf), ('integer', None), ('double', False), ('double', ''), ('double', []),
    ('string', 5), ('string array', ['a']), ('bytes', 'a'),
])
def test_values_of_another_kind_are_refused(kind, value):
    with pytest.raises(RequestError, match="one is '"):
        converted(Parameter('one', kind, None), value)


@pytest.mark.parametrize('value', [-0.1, 10.1, math.inf, math.nan])
def test_a_value_out_of_range_is_refused_with_the_range(value):
    with pytest.raises(RequestError, match='expected a number from 0.0 to 10.0'):
        converted(PARAMETERS[0], value)


def test_what_is_typed_becomes_classes():
    class Node:
        name, parameters = '/r1/student', {'classes': 1, 'classes_file': 1}
    for text, classes, file in (
            ('dog , cat', ['dog', 'cat'], ''), ('background, dog', ['dog'], ''), (' ', [''], ''),
            ('coco', [''], 'coco'), ('/data/mine.yaml', [''], '/data/mine.yaml')):
        assert wanted_classes(Node, text) == {'classes': classes, 'classes_file': file}
    for text in ('dog, dog', 'x' * 300, 'auto: car, car'):
        with pytest.raises(ClassesError):
            wanted_classes(Node, text)
    Node.parameters = {}
    with pytest.raises(RequestError, match='takes no classes'):
        wanted_classes(Node, 'dog')


@pytest.mark.parametrize('width, shown', [(640, 640), (1921, 960)])
def test_a_picture_is_a_jpeg_that_a_screen_can_show(width, shown):
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image
    from shadowtutor_ros.dashboard.watcher import Picture
    from shadowtutor_ros.nodes.images import to_message
    from std_msgs.msg import Header
    image = np.full((360, width, 3), (200, 100, 50), np.uint8)
    picture = Picture(Image)
    picture.put(serialize_message(to_message(image, 'rgb8', Header())))
    decoded = cv2.imdecode(np.frombuffer(picture.encode(), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape[1] == shown
    assert np.abs(decoded[0, 0].astype(int) - (50, 100, 200)).max() < 5


def test_a_picture_that_came_as_jpeg_goes_on_as_it_is():
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import CompressedImage
    from shadowtutor_ros.dashboard.watcher import Picture
    image = np.zeros((48, 64, 3), np.uint8)
    for extension, same in (('.jpg', True), ('.png', False)):
        data = cv2.imencode(extension, image)[1].tobytes()
        picture = Picture(CompressedImage)
        picture.put(serialize_message(CompressedImage(format='rgb8; jpeg', data=data)))
        assert (picture.encode() == data) is same
        assert picture.encode()[:2] == b'\xff\xd8'
