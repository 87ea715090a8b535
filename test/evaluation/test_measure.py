"""Profiles of this machine."""

import time

import numpy as np
import pytest

from shadowtutor_ros.algorithms.server import ServerSettings
from shadowtutor_ros.evaluation.measure import measure_profile
from shadowtutor_ros.evaluation.profile import Link, load_profile, ProfileError
from shadowtutor_ros.evaluation.scenes import Scene
from shadowtutor_ros.evaluation.simulate import Method
from shadowtutor_ros.labels import IGNORE
from shadowtutor_ros.models.student import Student
from shadowtutor_ros.models.teachers.base import TeacherPrediction

LINK = Link(8e6, 16e6, 0.01)


@pytest.fixture(scope='module')
def sample():
    return Scene(3, 'day', 96, 64).render(0)


def test_what_is_measured_is_there_and_in_proportion(sample, tmp_path):
    def slow_teacher(frame):
        time.sleep(0.2)
        return TeacherPrediction(sample.label, sample.boxes)

    method = Method('partial', image_format='raw', server=ServerSettings(
        encoding='fp16', scope='partial'))
    profile = measure_profile(Student.load(''), slow_teacher, sample.image, method, LINK)
    assert 0 < profile.t_si < profile.t_sd < profile.t_sd_full < 5
    assert profile.t_ti >= 0.2 and profile.link == LINK
    assert profile.key_frame_bytes == 96 * 64 * 3
    # Of the back end, or nothing where no step made anything better.
    assert profile.update_bytes in (0, 2 * 103_465)
    assert set(profile.derivation) >= {'t_si', 't_sd', 't_ti', 't_sd_full'}
    profile.save(tmp_path / 'measured.json')
    assert load_profile(tmp_path / 'measured.json') == profile


def test_a_frame_that_asks_for_no_training_is_refused(sample):
    def blind_teacher(frame):
        return TeacherPrediction(
            np.full(frame.shape[:2], IGNORE, np.uint8), np.zeros((0, 4), np.float32))

    with pytest.raises(ProfileError, match='another video first'):
        measure_profile(
            Student.load(''), blind_teacher, sample.image, Method('partial'), LINK)
