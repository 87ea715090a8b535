"""Profiles of this machine."""

from types import SimpleNamespace

import numpy as np
import pytest

from shadowtutor_ros.algorithms.server import Server, ServerSettings
from shadowtutor_ros.classes import IGNORE
from shadowtutor_ros.evaluation import measure
from shadowtutor_ros.evaluation.measure import measure_profile
from shadowtutor_ros.evaluation.profile import Link, load_profile, ProfileError
from shadowtutor_ros.evaluation.simulate import Method
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.inference import InferenceEngine
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.world.scenes import Scene

LINK = Link(8e6, 16e6, 0.01)


@pytest.fixture(scope='module')
def sample():
    return Scene(3, 'day', 96, 64).render(0)


@pytest.fixture
def clock(monkeypatch):
    """Put in a clock on which nothing takes time but inferences and training steps."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(measure, 'time', SimpleNamespace(perf_counter=lambda: clock.now))
    # The first ones are slower, as libraries are set up, and now and then there is a slow one.
    inferences = iter([9.0, 0.25, 5.0])
    infer, on_key_frame = InferenceEngine.__call__, Server.on_key_frame

    def slow_inference(self, frame):
        clock.now += next(inferences, 0.25)
        return infer(self, frame)

    def slow_steps(self, key_frame, on_step):
        steps = iter([9.0, 5.0])

        def after():
            clock.now += next(steps, {'partial': 0.5, 'full': 2.0}[self.settings.scope])
            on_step()
        return on_key_frame(self, key_frame, after)
    monkeypatch.setattr(InferenceEngine, '__call__', slow_inference)
    monkeypatch.setattr(Server, 'on_key_frame', slow_steps)
    return clock


def test_what_is_measured_is_there(sample, tmp_path, clock):
    def slow_teacher(frame, classes):
        clock.now += 8.0
        return TeacherPrediction(sample.label, sample.boxes)

    method = Method('partial', image_format='raw', server=ServerSettings(
        encoding='fp16', scope='partial'))
    profile = measure_profile(Student.load(''), slow_teacher, sample.image, method, LINK)
    assert (profile.t_si, profile.t_sd, profile.t_sd_full, profile.t_ti) == (0.25, 0.5, 2.0, 8.0)
    assert profile.link == LINK
    assert profile.key_frame_bytes == 96 * 64 * 3
    # Of the back end, or nothing where no step made anything better.
    assert profile.update_bytes in (0, 2 * 103_465)
    assert set(profile.derivation) >= {'t_si', 't_sd', 't_ti', 't_sd_full'}
    profile.save(tmp_path / 'measured.json')
    assert load_profile(tmp_path / 'measured.json') == profile


def test_a_frame_that_asks_for_no_training_is_refused(sample):
    def blind_teacher(frame, classes):
        return TeacherPrediction(
            np.full(frame.shape[:2], IGNORE, np.uint8), np.zeros((0, 4), np.float32))

    with pytest.raises(ProfileError, match='another video first'):
        measure_profile(
            Student.load(''), blind_teacher, sample.image, Method('partial'), LINK)
