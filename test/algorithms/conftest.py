import cv2
import numpy as np
import pytest
from shadowtutor_ros.classes import LVS
from shadowtutor_ros.models.student.shadow import Shadow
from shadowtutor_ros.models.teachers.base import TeacherPrediction
import torch


class ColorTeacher:
    """Labels by color, which a student can learn: blue is person, the rest background."""

    vocabulary = 'person', 'background'

    def __init__(self):
        self.frames = []

    def __call__(self, frame, classes=LVS):
        self.frames.append(frame)
        person, ground = classes.find('person'), classes.background
        label = np.where(frame[:, :, 0] > 127, person, ground).astype(np.uint8)
        return TeacherPrediction(label, np.array([[20, 10, 60, 50]], np.float32))


@pytest.fixture
def teacher():
    return ColorTeacher()


@pytest.fixture
def student():
    torch.manual_seed(4)
    return Shadow().eval()


@pytest.fixture(scope='session')
def pictures():
    """Return ten frames of 64×96: blue boxes on a dark, uneven ground."""
    random = np.random.default_rng(7)
    frames = []
    for _ in range(10):
        frame = cv2.resize(random.integers(0, 100, (8, 12, 3), np.uint8), (96, 64))
        for _ in range(2):
            x, y = random.integers(0, (64, 32))
            frame[y:y + 32, x:x + 32] = 230, random.integers(60, 200), random.integers(0, 60)
        frames.append(frame)
    return frames
