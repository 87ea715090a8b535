"""The dashboard as a process, on real nodes, in a real browser."""

import contextlib
import signal
import subprocess
import sys

from chromium import Chromium, CHROMIUM, DRIVER
import domains
from helpers import wait_for
import pytest
from rcl_interfaces.srv import GetParameters
from shadowtutor_ros.nodes.processes import Nodes
from shadowtutor_ros.nodes.running import Observer

pytest.importorskip('tornado', reason='tornado is not installed')
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason='chromium and chromium-driver are not installed')

STUDENT = '[data-node="/r1/student"]'
DRIFT = f'{STUDENT} [data-parameter="drift"]'
OVERLAY = '/r1/segmentation/overlay/compressed'


class Probe(Observer):
    """Sees from beside what the browser does."""

    def subscribers(self, topic):
        return self._node.count_subscribers(topic)

    def parameter(self, name):
        """Return the value of a parameter of the student."""
        client = self._node.create_client(GetParameters, '/r1/student/get_parameters')
        wait_for(client.service_is_ready)
        future = client.call_async(GetParameters.Request(names=[name]))
        value = wait_for(future.result).values[0] if wait_for(future.done) else None
        return list(value.string_array_value) or value.double_value


@pytest.fixture(scope='module')
def domain():
    """Let all that this module starts meet in a DDS domain of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('ROS_DOMAIN_ID', str(domains.draw()))
        patch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        patch.setenv('OMP_NUM_THREADS', '1')
        yield


@pytest.fixture(scope='module')
def nodes(domain, weights, tmp_path_factory):
    """Start a robot and its teacher, as processes."""
    folder = tmp_path_factory.mktemp('nodes')
    common = {'weights': weights, 'threads': 1}
    parameters = {
        'student': {**common, 'min_stride': 4, 'max_stride': 8, 'status_period': 0.5},
        'teacher': {**common, 'teacher': 'scene', 'max_updates': 1, 'status_period': 0.5},
        'camera': {'source': 'scene', 'rate': 4.0, 'width': 160, 'height': 96}}
    with Nodes('/r1', parameters, folder, folder) as nodes:
        for name in parameters:
            nodes.start(name)
        yield nodes


@pytest.fixture(scope='module')
def probe(domain):
    """Return a node that looks on."""
    with Probe('probe', '/') as probe:
        yield probe


@contextlib.contextmanager
def dashboard(*arguments):
    """Run the dashboard and give its address."""
    with subprocess.Popen(
            [sys.executable, '-m', 'shadowtutor_ros.commands.dashboard', '--port', '0',
             *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split()[1]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


@pytest.fixture(scope='module')
def page(nodes, probe, tmp_path_factory):
    """Return a browser that shows the student, and has it quiet."""
    with (dashboard() as address,
          Chromium(tmp_path_factory.mktemp('chromium') / 'profile') as browser):
        browser.open(address)
        wait_for(lambda: nodes.check('student', 'teacher') or browser.text(f'{STUDENT} h2'))
        yield browser
        # Of what is not allowed, fails to load, or goes wrong in a script, the console speaks.
        assert browser.complaints() == []


def picture(browser):
    """Return which picture is shown, by how many there have been; 0 while there is none."""
    return browser.run(
        'const one = document.querySelector(arguments[0]);'
        'return one && !one.hidden && one.width === 160 ? Number(one.dataset.shown) : 0',
        f'{STUDENT} .picture')


def test_the_student_is_found_and_its_picture_comes_and_changes(page):
    assert page.text(f'{STUDENT} h2') == '/r1/student'
    first = wait_for(lambda: picture(page))
    wait_for(lambda: picture(page) != first)
    wait_for(lambda: 'giraffe' in page.text(f'{STUDENT} .classes'))
    wait_for(lambda: page.text(f'{STUDENT} .state') == 'tutored')
    wait_for(lambda: '/r1/teacher' in page.text('[data-node="/r1/teacher"] h2'))


def test_pictures_are_subscribed_to_only_while_they_are_seen(page, probe):
    wait_for(lambda: probe.subscribers(OVERLAY) == 1)
    page.click(f'{STUDENT} .views button:nth-child(2)')
    wait_for(lambda: probe.subscribers(OVERLAY) == 0)
    wait_for(lambda: picture(page))
    page.click(f'{STUDENT} .views button:nth-child(1)')
    wait_for(lambda: probe.subscribers(OVERLAY) == 1)
    address = page.run('return location.href')
    page.open('about:blank')
    wait_for(lambda: probe.subscribers(OVERLAY) == 0)
    page.open(address)
    wait_for(lambda: probe.subscribers(OVERLAY) == 1)


def test_what_is_typed_reaches_the_student(page, probe):
    wait_for(lambda: page.run(
        'return !document.querySelector(arguments[0]).disabled', f'{STUDENT} .see input'))
    page.type(f'{STUDENT} .see input', 'person, <b>dog</b>\n')
    wait_for(lambda: probe.parameter('classes') == ['person', '<b>dog</b>'])
    wait_for(lambda: 'the classes were refused' in page.text(f'{STUDENT} .warnings'))
    assert '<b>dog</b>' in page.text(f'{STUDENT} .warnings')  # as text
    page.clear(f'{STUDENT} .see input')
    page.type(f'{STUDENT} .see input', 'person, dog\n')
    # One by one, with the colours of the masks.
    wait_for(lambda: page.text(f'{STUDENT} .classes').split() == ['background', 'person', 'dog'])
    assert page.run(
        'return getComputedStyle(document.querySelectorAll(arguments[0])[1]).backgroundColor',
        f'{STUDENT} .classes .color') == 'rgb(220, 20, 60)'
    page.clear(f'{STUDENT} .see input')
    page.type(f'{STUDENT} .see input', 'dog, dog\n')
    wait_for(lambda: 'there twice' in page.text(f'{STUDENT} .answer'))


def test_a_slider_reaches_its_parameter_and_a_refusal_is_said(page, probe):
    # A warning that comes or goes may move it away under the click.
    wait_for(lambda: page.run('return document.querySelector(arguments[0]).open',
                              f'{STUDENT} .parameters')
             or page.click(f'{STUDENT} .parameters summary'))
    page.type(f'{DRIFT} input[type=range]', '\ue010')  # End: all the way up
    wait_for(lambda: probe.parameter('drift') == 10.0)
    wait_for(lambda: page.text(f'{DRIFT} .words') == 'drift is 10.0 now')
    page.type(f'{DRIFT} input[type=number]', '\ue009a\ue00011\n')  # instead of all that is there
    wait_for(lambda: page.text(f'{DRIFT} .words') == (
        'drift is 11.0: expected a number from 0.0 to 10.0'))
    assert probe.parameter('drift') == 10.0
    assert page.run('return document.querySelector(arguments[0]).value',
                    f'{DRIFT} input[type=number]') == '10'


def test_the_page_is_light_or_dark_as_was_chosen(page):
    def scheme():
        return page.run("""
            const style = getComputedStyle(document.documentElement);
            return [style.colorScheme, style.getPropertyValue('--page').trim()]""")

    before = scheme()
    assert before in (['light', '#f3f5f8'], ['dark', '#0f141a'])
    page.click('#theme')
    wait_for(lambda: scheme()[0] != before[0])
    chosen = scheme()
    page.open(page.run('return location.href'))
    wait_for(lambda: scheme() == chosen)
    page.click('#theme')
    wait_for(lambda: scheme() == before)


def test_buttons_call_the_services(page):
    button = f'{STUDENT} [data-service=enable]'
    page.click(button)
    wait_for(lambda: page.text(f'{STUDENT} .state') == 'paused')
    page.click(button)
    wait_for(lambda: page.text(f'{STUDENT} .state') == 'tutored')


def test_read_only_shows_and_refuses(page, probe):
    address = page.run('return location.href')
    with dashboard('--read-only') as read_only:
        page.open(read_only)
        wait_for(lambda: page.text('#read-only') == 'read-only' and picture(page))
        # Parameters are read after what is published is found.
        wait_for(lambda: page.run(
            'return !!document.querySelector(arguments[0])', f'{DRIFT} input'))
        before = probe.parameter('drift')
        # As somebody would who makes the page send it nevertheless.
        refused = page.run("""
            const socket = new WebSocket(location.href.replace('http', 'ws') + 'live');
            window.answers = [];
            socket.onopen = () => socket.send(JSON.stringify({
              do: 'set', id: 1, node: '/r1/student', parameter: 'drift', value: 1.25}));
            socket.onmessage = ({data}) => typeof data === 'string'
              && data.includes('"answer"') && window.answers.push(data);
            return document.querySelector(arguments[0]).disabled""", f'{DRIFT} input')
        assert refused is True
        assert 'only shows' in wait_for(lambda: page.run('return window.answers[0]'))
        assert probe.parameter('drift') == before
        page.open(address)
    page.complaints()  # of the connection to the one that has ended


def test_a_teacher_that_was_killed_is_missed_in_words(page, nodes):
    wait_for(lambda: page.text('[data-node="/r1/teacher"] h2'))
    nodes.signal('teacher', signal.SIGKILL)
    wait_for(lambda: 'the teacher /r1/teacher has said nothing' in page.text(
        f'{STUDENT} .warnings') or 'the teacher /r1/teacher is gone' in page.text(
        f'{STUDENT} .warnings'))
    wait_for(lambda: 'the teacher /r1/teacher is gone' in page.text(f'{STUDENT} .warnings'))
    assert page.text('[data-node="/r1/teacher"] .state') == 'gone'
    nodes.wait('teacher', 10)
    nodes.start('teacher')
    wait_for(lambda: page.text(f'{STUDENT} .state') == 'tutored'
             and 'gone' not in page.text(f'{STUDENT} .warnings'))
