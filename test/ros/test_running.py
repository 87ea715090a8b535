"""How a node's process starts and ends."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time
from xml.etree import ElementTree

import domains
from helpers import wait_for
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from shadowtutor_ros.nodes import running
from shadowtutor_ros.nodes.images import to_message
from shadowtutor_ros.nodes.student_node import StudentNode

ROOT = Path(__file__).parents[2]

#: Seconds in which a process must have ended; what hangs in these tests does so for a minute.
BOUND = 30.0


class Process:
    """A process whose output is read as it comes, in the DDS domain of a test."""

    def __init__(self, domain, *command):
        path = os.pathsep.join([str(ROOT), str(Path(__file__).parent), *sys.path])
        self._process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={
                **os.environ, 'PYTHONPATH': path, 'ROS_DOMAIN_ID': str(domain),
                'OMP_NUM_THREADS': '1'})
        self.output = ''
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            self.output += line

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._process.kill()
        self._process.wait()

    def wait_for(self, words):
        wait_for(lambda: words in self.output, 60)

    def end(self, number=None):
        """Send a signal, if one is given, and return the exit status."""
        if number is not None:
            self._process.send_signal(number)
        status = self._process.wait(BOUND)
        self._reader.join(BOUND)
        return status


def teacher_process(ros, weights, teacher):
    return Process(
        ros.context.get_domain_id(), '-m', 'shadowtutor_ros.nodes.teacher_node', '--ros-args',
        '-p', f'teacher:=stub_teachers:{teacher}', '-p', f'weights:={weights}', '-p', 'threads:=1')


def send_frames(ros, weights, frame, process, words):
    """Let a student send a key frame to the process of a teacher that says these words then."""
    ros.start(StudentNode, weights=weights,
              **{'qos_overrides__/image__subscription__reliability': 'reliable'})
    images = ros.publisher(Image, 'image')
    message = to_message(frame, 'bgr8', Header())
    wait_for(lambda: images.publish(message) or time.sleep(0.1) or words in process.output, 60)


@pytest.fixture
def environment(monkeypatch):
    """Return the environment, without what may be set in it; it is set back afterwards."""
    monkeypatch.setattr(os, 'environ', {'HOME': '/home/robot'})
    monkeypatch.setattr(running, '_SHARED_MEMORY', 0)
    return os.environ


@pytest.mark.parametrize('distribution, variable', [
    ('humble', 'FASTRTPS_DEFAULT_PROFILES_FILE'), ('jazzy', 'FASTRTPS_DEFAULT_PROFILES_FILE'),
    ('kilted', 'FASTDDS_DEFAULT_PROFILES_FILE'), ('', 'FASTDDS_DEFAULT_PROFILES_FILE')])
def test_fast_dds_is_given_shared_memory_for_images(environment, distribution, variable):
    environment['ROS_DISTRO'] = distribution
    running.large_shared_memory()
    profile = ElementTree.parse(environment[variable])
    sizes = [int(element.text) for element in profile.iter() if
             element.tag.endswith('segment_size')]
    assert sizes and min(sizes) > 3 * 1920 * 1080 * 3


@pytest.mark.parametrize('name, value', [
    ('FASTDDS_DEFAULT_PROFILES_FILE', '/own.xml'), ('FASTDDS_BUILTIN_TRANSPORTS', 'LARGE_DATA'),
    ('ROS_LOCALHOST_ONLY', '1')])
def test_what_the_user_set_up_stays(environment, name, value):
    environment[name] = value
    before = dict(environment)
    running.large_shared_memory()
    assert environment == before


def test_little_shared_memory_is_left_alone(environment, monkeypatch):
    monkeypatch.setattr(running, '_SHARED_MEMORY', 2 ** 60)
    before = dict(environment)
    running.large_shared_memory()
    assert environment == before


def test_the_profile_is_installed_with_the_package():
    assert Path(running.__file__).with_name('fastdds.xml').is_file()


@pytest.mark.parametrize('delay, number', [
    *((delay, signal.SIGINT) for delay in (0.0, 0.6, 1.5, 2.5, 4.0)),
    *((delay, signal.SIGTERM) for delay in (0.3, 1.0, 2.0, 3.0))])
def test_a_signal_while_a_node_starts_ends_it_without_a_traceback(weights, number, delay):
    # What comes before the first words here is Python itself.
    code = ("import os; from shadowtutor_ros.nodes import start; os.write(1, b'begun\\n'); "
            'raise SystemExit(start.student_node())')
    with Process(domains.draw(), '-c', code, '--ros-args', '-p', f'weights:={weights}') as process:
        process.wait_for('begun')
        time.sleep(0.05 + delay)
        assert process.end(number) in (0, -number), process.output
        assert 'Traceback' not in process.output


@pytest.mark.parametrize('name', ['student', 'teacher', 'camera'])
def test_the_module_of_a_node_imports_nothing_before_signals_are_heeded(name):
    code = f"""
import runpy, sys
from shadowtutor_ros.nodes import start
start.{name}_node = lambda: 'rclpy' in sys.modules or 'numpy' in sys.modules
runpy.run_module('shadowtutor_ros.nodes.{name}_node', run_name='__main__')
sys.exit('it went on')
"""
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_teacher_ends_during_a_call_of_its_network(ros, weights, frame, number):
    with teacher_process(ros, weights, 'Hanging') as process:
        send_frames(ros, weights, frame, process, 'called')
        assert process.end(number) == 0
        assert 'Traceback' not in process.output


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_teacher_ends_while_its_network_is_loaded(ros, weights, number):
    with teacher_process(ros, weights, 'SlowToLoad') as process:
        process.wait_for('called')
        assert process.end(number) == 0
        assert 'Traceback' not in process.output


@pytest.mark.parametrize('where', ['timer', 'thread'])
def test_a_node_ends_whatever_hangs(where):
    code = """
import threading, time
from rclpy.node import Node
from shadowtutor_ros.nodes.running import run

class Hanging(Node):
    def __init__(self):
        super().__init__('hanging')
        if where == 'timer':
            self.create_timer(0.1, self.hang)
        else:  # for which the interpreter would wait
            threading.Thread(target=self.hang).start()

    def hang(self):
        print('called', flush=True)
        threading.Event().wait(60)

raise SystemExit(run(Hanging, None))
"""
    with Process(domains.draw(), '-c', f'where = {where!r}{code}') as process:
        process.wait_for('called')
        assert process.end(signal.SIGINT) == 0
        assert 'Traceback' not in process.output


@pytest.mark.parametrize('where', ['destroy_node', 'interpreter'])
def test_a_node_ends_where_a_call_lets_no_python_run(where):
    code = """
import atexit, ctypes
from rclpy.node import Node
from shadowtutor_ros.nodes.running import run

def hang():
    ctypes.PyDLL(None).sleep(60)  # with the interpreter lock held

class Hanging(Node):
    def __init__(self):
        super().__init__('hanging')
        if where == 'interpreter':
            atexit.register(hang)
        self.create_timer(0.1, lambda: print('called', flush=True))

    def destroy_node(self):
        if where == 'destroy_node':
            hang()
        super().destroy_node()

raise SystemExit(run(Hanging, None))
"""
    with Process(domains.draw(), '-c', f'where = {where!r}{code}') as process:
        process.wait_for('called')
        assert process.end(signal.SIGTERM) == 1
        assert 'in hang' in process.output


def test_a_teacher_that_has_lost_cuda_ends_with_status_1(ros, weights, frame):
    with teacher_process(ros, weights, 'LosesCuda') as process:
        send_frames(ros, weights, frame, process, '[FATAL]')
        assert process.end() == 1
        assert 'device-side assert triggered' in process.output and 'use_respawn' in process.output
        assert 'Traceback' not in process.output


def test_a_student_that_has_lost_cuda_ends_with_status_1(ros, weights, frame, monkeypatch):
    def fail(*arguments):
        raise RuntimeError('CUDA error: an illegal memory access was encountered')

    student = ros.start(StudentNode, weights=weights)
    images = ros.publisher(Image, 'image')
    monkeypatch.setattr(student.client, 'on_frame', fail)
    message = to_message(frame, 'bgr8', Header())
    monkeypatch.setattr('torch.cuda.synchronize', fail)
    wait_for(lambda: images.publish(message) or time.sleep(0.1) or student.exit_status)
    assert student.exit_status == 1
    wait_for(lambda: not student._threads[0].is_alive())
