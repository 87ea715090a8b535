"""Teachers of the tests' own."""

import threading
import time

import numpy as np
import torch

from shadowtutor_ros.models.teachers.base import TeacherPrediction


class HalfPerson:
    """Says that the left half of every frame is a person."""

    def __call__(self, frame):
        height, width = frame.shape[:2]
        label = np.full((height, width), 8, np.uint8)
        label[:, :width // 2] = 0
        return TeacherPrediction(label, np.array([[0, 0, width // 2, height]], np.float32))


class BrokenOnce(HalfPerson):
    """Fails at the first frame."""

    def __init__(self):
        self._failed = False

    def __call__(self, frame):
        if not self._failed:
            self._failed = True
            raise RuntimeError('out of memory')
        return super().__call__(frame)


class Held(HalfPerson):
    """Labels when it may."""

    begun, may_end = threading.Event(), threading.Event()

    def __call__(self, frame):
        self.begun.set()
        self.may_end.wait(30)
        return super().__call__(frame)


class HeldBatches(Held):
    """Labels several frames when it may, and notes how many it was asked for at a time."""

    asked: list[int] = []

    def __call__(self, frame):
        return self.label_batch([frame])[0]

    def label_batch(self, frames):
        self.asked.append(len(frames))
        return [super(HeldBatches, self).__call__(frame) for frame in frames]


class Hanging(HalfPerson):
    """Takes a minute for a frame."""

    def __call__(self, frame):
        print('called', flush=True)
        time.sleep(60)


class SlowToLoad(HalfPerson):
    """Takes a minute to be made."""

    def __init__(self):
        print('called', flush=True)
        time.sleep(60)


class LosesCuda(HalfPerson):
    """Fails as after an assertion on the GPU, after which every call of CUDA fails."""

    def __call__(self, frame):
        torch.cuda.synchronize = self.fail
        self.fail()

    def fail(self):
        raise RuntimeError('CUDA error: device-side assert triggered')
