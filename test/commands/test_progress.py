"""What long work says of how far it is."""

import ast
import io
from pathlib import Path
from queue import Queue

import pytest
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from shadowtutor_ros.commands import progress
from shadowtutor_ros.commands.progress import Speaker, WorkProgress, WorkStatus

COMMANDS = Path(progress.__file__).parent


class Time:
    """A clock that goes on when it is told to; who waits says so, and what was said meanwhile."""

    def __init__(self):
        self.now = 100.0
        self._waiting, self._over = Queue(), Queue()

    def wait(self, seconds):
        assert seconds == 10
        self._waiting.put(None)
        return self._over.get(timeout=60)

    def get_time(self):
        return self.now

    def pass_by(self, seconds=10, ended=False):
        """Let time go on, and return when the next line is out and waiting has begun anew."""
        self._waiting.get(timeout=60)
        self.now += seconds
        self._over.put(ended)
        if not ended:
            self._waiting.put(self._waiting.get(timeout=60))


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def log():
    """Return a console that writes to a file."""
    return Console(file=io.StringIO(), width=40)


def lines(console):
    return console.file.getvalue().splitlines()


def test_a_line_every_ten_seconds_says_what_is_done_and_what_is_left(clock, log):
    with WorkProgress(
            TextColumn('{task.description}'), BarColumn(20),
            TextColumn('{task.completed}/{task.total} frames of a file with a long name'),
            TimeRemainingColumn(), console=log, wait=clock.wait, get_time=clock.get_time,
            transient=True, speed_estimate_period=300) as work:
        task = work.add_task('labels', total=100)
        clock.pass_by()
        for done in (1, 2):
            clock.now += 10
            work.update(task, completed=10 * done)
        clock.pass_by(0)
        assert len(lines(log)) == 2
        work.update(task, completed=90)
        clock.pass_by(ended=True)
    assert lines(log) == [
        'labels 0/100 frames of a file with a long name',
        'labels 20/100 frames of a file with a long name, 0:01:20 left']


def test_of_several_tasks_those_that_go_on_are_named(clock, log):
    with WorkProgress(
            TextColumn('{task.description} {task.completed}'), TimeElapsedColumn(), console=log,
            wait=clock.wait, get_time=clock.get_time, transient=True) as work:
        tasks = [work.add_task(name, total=total)
                 for name, total in (('all', 9), ('one', 4), ('hidden', 4), ('endless', None))]
        work.update(tasks[2], visible=False)
        clock.pass_by(70)
        work.update(tasks[1], completed=4)
        work.add_task('next', total=5)
        clock.pass_by()
        clock.pass_by(ended=True)
    assert lines(log) == [
        'all 0, after 0:01:10; one 0, after 0:01:10; endless 0, after 0:01:10',
        'all 0, after 0:01:20; next 0, after 0:00:10']


def test_how_it_ended_is_said_unless_it_is_transient(clock, log):
    for transient in (False, True):
        with WorkProgress(
                TextColumn('{task.completed}/{task.total}'), TimeRemainingColumn(), console=log,
                wait=clock.wait, transient=transient) as work:
            work.update(work.add_task('segmented', total=3), completed=3)
            clock.pass_by(ended=True)
    assert lines(log) == ['segmented 3/3']


def test_a_length_that_is_not_known_is_not_guessed(clock, log):
    with WorkProgress(
            TextColumn('{task.completed}/?'), TimeRemainingColumn(), console=log, wait=clock.wait,
            get_time=clock.get_time, transient=True) as work:
        task = work.add_task('', total=0)
        for done in (1, 2):
            clock.now += 10
            work.update(task, completed=done)
        clock.pass_by()
        clock.pass_by(ended=True)
    assert lines(log) == ['2/?']


def test_what_is_being_done_is_said_too(clock, log):
    with WorkStatus(log, 'starting', clock.wait, clock.get_time) as status:
        clock.pass_by()
        clock.pass_by(60)
        status.update('going [on]')
        clock.pass_by()
        clock.pass_by(ended=True)
    assert lines(log) == [
        'starting, for 0:00:10', 'starting, for 0:01:10', 'going [on], for 0:00:10']


def test_there_may_be_nothing_to_say(clock, log):
    with Speaker(log, lambda: '', clock.wait):
        clock.pass_by()
        clock.pass_by(ended=True)
    assert lines(log) == []


def test_a_terminal_keeps_its_bars():
    def wait(seconds):
        raise AssertionError('nobody is to wait for a line')
    console = Console(file=io.StringIO(), force_terminal=True, width=60, _environ={})
    with WorkProgress(TextColumn('{task.completed}/{task.total}'), BarColumn(10),
                      console=console, wait=wait) as work:
        work.update(work.add_task('', total=4), completed=1)
    with WorkStatus(console, 'starting', wait) as status:
        status.update('going on')
    said = console.file.getvalue()
    assert '1/4 \x1b' in said and 'going on' in said and '\x1b[' in said


def test_waiting_ends_with_the_work(log):
    with WorkStatus(log, 'starting') as status:
        thread = status._speaker._thread
        assert thread.is_alive()
    thread.join(60)
    assert not thread.is_alive() and lines(log) == []


@pytest.mark.parametrize('path', sorted(COMMANDS.glob('*.py')), ids=lambda path: path.stem)
def test_no_command_has_bars_of_its_own(path):
    if path.stem == 'progress':
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == 'rich.progress':
            assert not {'Progress', 'track'} & {alias.name for alias in node.names}
        assert not (isinstance(node, ast.Attribute) and node.attr == 'status'
                    and isinstance(node.value, ast.Name) and node.value.id == 'console')
