"""A teacher's work in one process, and the batches of threads that wait for one network."""

from concurrent.futures import ThreadPoolExecutor
import threading
import time

import numpy as np
import pytest
import torch

from shadowtutor_ros.algorithms import SessionError
from shadowtutor_ros.algorithms.server import ServerSettings
from shadowtutor_ros.classes import LVS
from shadowtutor_ros.models.student.shadow import Shadow
from shadowtutor_ros.models.teachers.base import OneSize, TeacherPrediction
from shadowtutor_ros.wire.key_frame import KeyFrame, KeyFrameError
from shadowtutor_ros.wire.weight_update import Status
from shadowtutor_ros.workers.base import Task
from shadowtutor_ros.workers.batcher import Batcher
from shadowtutor_ros.workers.local import LocalWorkers

RANDOM = np.random.default_rng(0)
FRAMES = [RANDOM.integers(1, 256, (48, 64, 3), np.uint8) for _ in range(3)]


class Teacher(OneSize):
    """Says that the left half is a person, of several frames at a time, and fails on black."""

    vocabulary = LVS.names

    def __init__(self):
        self.asked = []

    def label_batch(self, frames, tables):
        self.asked.append(len(frames))
        if not all(frame.max() for frame in frames):
            raise ValueError('it is dark')
        label = np.full((48, 64), 8, np.uint8)
        label[:, :32] = 0
        return [TeacherPrediction(label, np.array([[0, 0, 32, 48]], np.float32)) for _ in frames]


@pytest.fixture(scope='module')
def student():
    torch.manual_seed(0)
    return Shadow()


@pytest.fixture
def make(student):
    def make(most=4):
        teacher = Teacher()
        workers = LocalWorkers(
            student, teacher, ServerSettings(max_updates=1), 'cpu', 'teacher', most)
        return workers, teacher
    return make


def task(student, robot, frame, number=1, waited=0.0, **fields):
    checksum = student.weights_checksum()
    return Task(robot, KeyFrame(
        robot, number, 0, student.model_id, checksum, 0, checksum, frame, **fields),
        time.perf_counter() - waited, True)


def answer(workers, *tasks):
    answers = {}
    workers.answer(tasks, lambda one, got: answers.setdefault(one.robot, got), lambda: None)
    return answers


def test_answers_of_a_batch_are_those_of_key_frames_by_themselves(student, make):
    (together, teacher), (alone, other) = make(), make()
    for robot in (1, 2, 3):
        assert together.add(robot, None).result() == alone.add(robot, None).result() == (0, 0)
    tasks = [task(student, robot, frame) for robot, frame in zip((1, 2, 3), FRAMES)]
    got = answer(together, *tasks)
    assert teacher.asked == [3]
    for one in tasks:
        expected = answer(alone, one)[one.robot]
        update = got[one.robot].update
        assert update.status == expected.update.status != Status.REFUSED
        assert update.teacher_id == one.robot
        assert update.weights_checksum == expected.update.weights_checksum
        assert got[one.robot].memory_bytes == expected.memory_bytes > 0
        assert got[one.robot].classes == LVS.names
    assert other.asked == [1, 1, 1]
    seconds = {one.update.teacher_seconds for one in got.values()}
    assert len(seconds) == 1 and 0 < seconds.pop() < min(one.seconds for one in got.values())


def test_who_is_refused_is_not_labelled_and_who_cannot_be_takes_no_other_along(student, make):
    workers, teacher = make()
    for robot in (1, 2, 3):
        workers.add(robot, None)
    got = answer(
        workers, task(student, 1, FRAMES[0], useful_seconds=1.0, waited=2.0),
        task(student, 2, np.zeros_like(FRAMES[0])), task(student, 3, FRAMES[1]))
    assert got[1].update.refusal == 'too_late' and got[2].update.refusal == 'unlabelled'
    assert got[3].update.status != Status.REFUSED
    assert teacher.asked == [2, 1, 1]
    assert answer(workers, task(student, 3, FRAMES[1]))[3].update is None, 'answered before'


def test_who_is_trained_last_waits_for_the_others(student, make):
    workers, _ = make()
    for robot in (1, 2):
        workers.add(robot, None)
        workers.desks[robot].server._services.append(3.0)
    got = answer(workers, *(
        task(student, robot, FRAMES[0], useful_seconds=5.0) for robot in (1, 2)))
    assert got[1].update.status != Status.REFUSED
    assert got[2].update.refusal == 'too_late' and got[2].update.needed_seconds > 6.0


def test_a_session_goes_on_where_it_is_handed_on(student, make):
    first, _ = make()
    first.add(1, None)
    answer(first, task(student, 1, FRAMES[0]))
    kept = first.export(1)
    second, _ = make()
    assert second.add(1, kept).result() == (1, 1)
    assert isinstance(second.add(2, (kept[0], {**kept[1], 'session': {}})).exception(),
                      SessionError)
    assert answer(second, task(student, 1, FRAMES[0]))[1].update is None, 'answered before'
    assert second.export(2) is None


def test_a_session_is_not_exported_while_it_is_trained(student, make):
    workers, _ = make()
    workers.add(1, None)
    exports = []

    def on_step():
        # By another thread, as the keeper's.
        exports.append(pool.submit(workers.export, 1))
        time.sleep(0.2)
        assert not exports[-1].done()

    with ThreadPoolExecutor() as pool:
        workers.answer([task(student, 1, FRAMES[0])], lambda *got: None, on_step)
        assert exports and all(each.result()[1]['session']['last_number'] == 1 for each in exports)


# --- batches -------------------------------------------------------------------------------------

def test_what_comes_while_a_batch_is_labelled_is_the_next(monkeypatch):
    teacher, begun, may_end = Teacher(), threading.Event(), threading.Event()
    label_batch = teacher.label_batch

    def held(frames, tables):
        begun.set()
        assert may_end.wait(60)
        return label_batch(frames, tables)

    monkeypatch.setattr(teacher, 'label_batch', held)
    batcher = Batcher(teacher, 3)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(batcher, FRAMES[0], LVS)]
        assert begun.wait(60)
        asked += [pool.submit(batcher, frame, LVS) for frame in FRAMES + FRAMES[:1]]
        while len(batcher._waiting) < 4:
            time.sleep(0.01)
        may_end.set()
        labels = [each.result(60) for each in asked]
    assert teacher.asked == [1, 3, 1]
    assert all(label.label.shape == (48, 64) and seconds > 0 for label, seconds in labels)


def test_a_frame_that_cannot_be_labelled_says_why():
    label, _ = Batcher(Teacher(), 2)(np.zeros_like(FRAMES[0]), LVS)
    assert isinstance(label, KeyFrameError) and 'it is dark' in str(label)
