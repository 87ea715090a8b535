"""The teacher that has the faults it is told to have."""

import time

import numpy as np
import pytest
import torch

from shadowtutor_ros.algorithms import student_training
from shadowtutor_ros.algorithms.student_training import StudentTrainer, TrainingSettings
from shadowtutor_ros.classes import LVS
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.teachers import load_teacher
from shadowtutor_ros.models.teachers.scene import SceneTeacher
from shadowtutor_ros.world.scenes import Scene


@pytest.fixture
def fault(tmp_path):
    """Return the file that names the fault."""
    path = tmp_path / 'fault.txt'
    path.write_text('')
    return path


@pytest.fixture
def teacher(fault, monkeypatch):
    """Return the teacher; what it puts in the place of the loss goes with it."""
    monkeypatch.setattr(
        student_training, 'weighted_cross_entropy', student_training.weighted_cross_entropy)
    return load_teacher('shadowtutor_ros.reliability.faulty_teacher:FaultyTeacher', str(fault))


@pytest.fixture(scope='module')
def frame():
    """Return a frame of the scene."""
    return Scene(1, 'day', 320, 180).render(40).image


def test_its_labels_are_those_of_the_scene_whenever_it_has_no_fault(teacher, fault, frame):
    truth = SceneTeacher()(frame, LVS)
    assert np.array_equal(teacher(frame, LVS).label, truth.label)
    fault.write_text('raise')
    with pytest.raises(RuntimeError, match='told to'):
        teacher(frame, LVS)
    fault.write_text('sleep 0.3')
    begin = time.monotonic()
    assert np.array_equal(teacher(frame, LVS).label, truth.label)
    assert time.monotonic() - begin >= 0.3


def test_training_fails_as_it_is_told_to(teacher, fault, frame):
    student = Student.load('')
    trainer = StudentTrainer(student, TrainingSettings(threshold=0.99, max_updates=2))
    teaching = teacher(frame, LVS)
    before = student.weights_checksum()
    fault.write_text('nan')
    result = trainer(frame, teaching)
    assert np.isnan(result.losses).all() and student.weights_checksum() == before
    fault.write_text('memory')
    with pytest.raises(torch.cuda.OutOfMemoryError):
        trainer(frame, teaching)
    fault.write_text('')
    assert np.isfinite(trainer(frame, teaching).losses).all()
