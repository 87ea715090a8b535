"""
Who enters a still scene is seen: how long it takes until they are in a key frame.

With ``-s`` the seconds are shown. The student counts as having mastered whatever was in a key
frame, which is when it waits longest.
"""

import cv2
import numpy as np
import pytest
from shadowtutor_ros.algorithms.client import Client, ClientSettings
from shadowtutor_ros.classes import LVS
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.student.inference import InferenceEngine
from shadowtutor_ros.sources.videos import open_source
from shadowtutor_ros.wire.weight_update import Status, WeightUpdate
from shadowtutor_ros.world.scenes import Scene

SIZE = WIDTH, HEIGHT = 320, 180
PERSON = LVS.find('person')
#: Of the frame, in pixels: whoever covers this much has to be seen.
LEAST = 0.005 * WIDTH * HEIGHT


class Robot:
    """A client at a camera; each key frame is answered three frames later."""

    def __init__(self, rate=10.0, width=0, **settings):
        engine = InferenceEngine(Student.load(''), width=width)
        self.key_frames = []
        self.settings = ClientSettings(**{'stride_rate': 0.0, **settings})
        self.client = Client(engine, self.key_frames.append, self.settings)
        self.rate = rate
        #: Of the answers: before and after the training.
        self.metrics = 0.95, 0.95

    def see(self, frame):
        """Process a frame; returns whether it was a key frame."""
        client, sent = self.client, len(self.key_frames)
        now = client.counters.frames / self.rate
        if client.awaiting_update and client.frames_since_key_frame == 3:
            client.on_update(self.answer(self.key_frames[-1]), now)
        client.on_frame(frame, now)
        return len(self.key_frames) > sent

    def answer(self, key_frame):
        before, after = self.metrics
        return WeightUpdate(
            session_id=key_frame.session_id, key_frame_number=key_frame.number,
            model_id=key_frame.model_id, teacher_id=1, teacher='/teacher',
            status=Status.NOTHING_TO_GAIN, base_checksum=key_frame.weights_checksum,
            weights_checksum=key_frame.weights_checksum, classes=tuple(range(9)),
            metric_before=before, metric_after=after, threshold=0.8, max_updates=8,
            teacher_seconds=0.2, training_seconds=0.1)

    def watch(self, frames):
        """Process frames and return the indices, from the first of them, of key frames."""
        return [index for index, frame in enumerate(frames) if self.see(frame)]


class Camera:
    """Delivers a picture with noise, a drifting exposure, a tremble of a pixel, and as JPEG."""

    def __init__(self, seed):
        self._random = np.random.default_rng(seed)
        self._noise = self._random.normal(128, 3, (HEIGHT + 32, WIDTH + 32, 3)).astype(np.uint8)
        self._count = 0

    def __call__(self, picture):
        self._count += 1
        light = 1 + 0.05 * np.sin(0.1 * self._count)
        dx, dy = self._random.uniform(-0.2, 0.2, 2)
        image = cv2.warpAffine(
            picture, np.float32([[1, 0, dx], [0, 1, dy]]), SIZE, borderMode=cv2.BORDER_REPLICATE)
        u, v = self._random.integers(32, size=2)
        image = cv2.addWeighted(
            image, light, self._noise[v:v + HEIGHT, u:u + WIDTH], 1, -128)
        return cv2.imdecode(cv2.imencode('.jpg', image)[1], cv2.IMREAD_COLOR)


def street(seed):
    """Return a still picture of the scene without persons."""
    scene = Scene(seed, 'day', *SIZE)
    return next(frame.image for frame in map(scene.render, range(0, 20000, 250))
                if not (frame.label == PERSON).any())


def cut_out(seed, low=1.2 * LEAST, high=4 * LEAST):
    """Return somebody of another scene, of 0.6 to 2 % of the frame: image, mask, left and top."""
    scene = Scene(seed, 'day', *SIZE)
    for frame in map(scene.render, range(0, 20000, 50)):
        count, labels, boxes, _ = cv2.connectedComponentsWithStats(
            (frame.label == PERSON).astype(np.uint8))
        for number in range(1, count):
            x, y, w, h, area = boxes[number]
            if low <= area <= high and h > 1.5 * w:
                where = np.s_[y:y + h, x:x + w]
                return frame.image[where], labels[where] == number, x, y
    raise AssertionError('nobody of that size')


def paste(picture, person, x):
    """Put somebody into a picture at x; returns it and the pixels of them that are in view."""
    image, mask, _, y = person
    left, right = max(0, x), min(WIDTH, x + mask.shape[1])
    if left >= right:
        return picture, 0
    picture, part = picture.copy(), np.s_[:, left - x:right - x]
    picture[y:y + mask.shape[0], left:right][mask[part]] = image[part][mask[part]]
    return picture, int(mask[part].sum())


def enter(seed, walks, rate=10.0, seconds=60.0):
    """
    Let somebody enter a mastered still scene.

    :returns: their share of the frame, and the seconds from 0.5 % to the next key frame.
    """
    # With strides in time, as by default: they do not decide when somebody is seen.
    robot = Robot(rate, stride_rate=ClientSettings().stride_rate)
    picture, camera = street(seed), Camera(seed)
    person = cut_out(seed + 100)
    robot.watch(camera(picture) for _ in range(30))
    quiet = robot.watch(camera(picture) for _ in range(70))
    assert not quiet, 'nobody has come yet'
    visible = None
    for index in range(int(seconds * rate)):
        x = int(0.08 * WIDTH * index / rate) - 15 if walks else person[2]
        frame, pixels = paste(picture, person, x)
        if visible is None and pixels >= LEAST:
            visible = index
        if robot.see(camera(frame)) and visible is not None:
            return person[1].sum() / (WIDTH * HEIGHT), (index - visible) / rate
    return person[1].sum() / (WIDTH * HEIGHT), np.inf


@pytest.mark.parametrize('walks', [False, True], ids=['stands', 'walks'])
@pytest.mark.parametrize('seed', range(5))
def test_somebody_in_a_street_is_seen_within_a_second(seed, walks):
    share, seconds = enter(seed, walks)
    print(f'\nscene {seed}, {share:.2%} of the frame: {seconds:.1f} s')
    assert seconds <= 1


@pytest.mark.parametrize('rate', [5.0, 60.0])
def test_cameras_of_any_rate(rate):
    assert enter(2, walks=False, rate=rate)[1] <= 1


@pytest.fixture(scope='module')
def still():
    """Return a picture, and somebody who may enter it."""
    return street(0), cut_out(100)


def mastered(picture, still=0.3, **settings):
    """Return a robot that has mastered a picture, and its camera; only the watch looks closely."""
    robot, camera = Robot(still=still, **settings), Camera(0)
    robot.watch(camera(picture) for _ in range(30))
    return robot, camera


def test_what_passes_in_a_moment_is_not_seen(still):
    picture, person = still
    robot, camera = mastered(picture)
    gone = [picture] * 7
    frames = ([paste(picture, person, x)[0] for x in (100, 110, 120)] + gone) * 5
    assert robot.watch(map(camera, frames)) == []


def test_a_known_thing_is_not_seen_twice(still):
    picture, person = still
    robot, camera = mastered(picture)
    walk = [paste(picture, person, 40 + 2 * index)[0] for index in range(60)]
    indices = robot.watch(map(camera, walk))
    assert len(indices) == 1 and indices[0] <= 10


def test_the_second_of_two_is_seen_too(still):
    picture, person = still
    robot, camera = mastered(picture)
    one = [paste(picture, person, 40 + index % 4)[0] for index in range(50)]
    assert len(robot.watch(map(camera, one[:30]))) == 1
    both = [paste(frame, person, 220)[0] for frame in one[30:]]
    indices = robot.watch(map(camera, both))
    assert len(indices) == 1 and indices[0] <= 10


def flicker(robot, camera, picture, frames):
    """Let things appear here and there for a second each; returns the key frames."""
    random, pictures = np.random.default_rng(1), []
    for _ in range(frames // 10):
        x, y = random.integers(WIDTH - 40), random.integers(HEIGHT - 40)
        other = picture.copy()
        other[y:y + 30, x:x + 20] = 255 - other[y:y + 30, x:x + 20]
        pictures += 10 * [other]
    return robot.watch(map(camera, pictures))


def test_where_there_is_nothing_to_learn_max_stride_is_the_limit(still):
    robot, camera = mastered(still[0])
    indices = flicker(robot, camera, still[0], 400)
    assert 3 <= len(indices) <= 9
    assert all(np.diff(indices[3:]) >= robot.settings.max_stride), indices


def test_early_key_frames_are_min_stride_apart_where_there_is_much_to_learn(still):
    robot, camera = mastered(still[0])
    robot.metrics = 0.5, 0.95
    indices = flicker(robot, camera, still[0], 200)
    assert len(indices) >= 8 and min(np.diff(indices)) >= robot.settings.min_stride


def test_slow_strides_do_not_keep_whoever_enters_waiting(still):
    # Of a camera of ten frames a second; ten of 25 a second are 0.4 s.
    robot, camera = mastered(still[0], stride_rate=2.5)
    robot.metrics = 0.5, 0.95
    indices = flicker(robot, camera, still[0], 100)
    assert len(indices) >= 8 and min(np.diff(indices)) >= 4, indices


def test_something_to_learn_ends_the_patience(still):
    robot, camera = mastered(still[0])
    flicker(robot, camera, still[0], 150)
    robot.metrics = 0.5, 0.95
    indices = flicker(robot, camera, still[0], 150)
    assert len(indices) >= 5


def test_what_moves_ends_the_long_stride_until_the_student_copes(still):
    picture, person = still
    pictures = [paste(picture, person, 40 + index % 9)[0] for index in range(120)]
    counts = []
    for before in (0.5, 0.95):
        robot, camera = mastered(picture)
        robot.metrics = before, 0.95
        counts.append(len(robot.watch(map(camera, pictures))))
    assert counts[0] >= 3 and counts[1] == 1


@pytest.mark.parametrize('still_limit', [0.0, 0.3])
def test_with_still_0_nobody_watches(still, still_limit):
    picture, person = still
    robot, camera = mastered(picture, still=still_limit, drift=0.0, max_stride=10000)
    robot.client.stride = 10000
    indices = robot.watch(camera(paste(picture, person, 100)[0]) for _ in range(20))
    assert bool(indices) == bool(still_limit)


#: Frames of the corridor in which the teacher's label of a person (YOLO11n at 640 pixels) is
#: 0.5 % of the frame for the first time in a second; but for 921, where the teacher does not
#: recognise who is half in the picture, and labels nothing before 10.8 % in frame 928.
ENTRANCES = 60, 228, 506, 745, 921, 1237


def test_who_enters_a_corridor_is_seen_within_a_second(shared):
    path = shared('data/videos/intel_one-by-one-person.mp4')
    robot = Robot(width=160)
    robot.metrics = 0.5, 0.95
    key_frames = robot.watch(open_source(str(path), (320, 184), frames=1260))
    print(f'\n{len(key_frames)} key frames: {key_frames}')
    for entrance in ENTRANCES:
        seconds = (min(k for k in key_frames if k >= entrance) - entrance) / robot.rate
        print(f'frame {entrance}: {seconds:.1f} s')
        assert seconds <= 1
    assert not any(0 < index < 50 for index in key_frames), 'nobody has come yet'


def test_an_empty_corridor_costs_a_key_frame_in_300(shared):
    path = shared('data/videos/intel_one-by-one-person.mp4')
    empty = list(open_source(str(path), (320, 184), frames=50))
    robot = Robot(width=160)
    there_and_back = (empty + empty[::-1]) * 3
    assert robot.watch(there_and_back) == [0], 'as many as without the watch'


# --- the drift's reference after an update of the encoder ----------------------------------------

@pytest.mark.parametrize('scope', ['decoder', 'full'])
def test_an_unchanged_image_has_not_drifted_after_an_update(still, scope):
    robot = Robot()
    robot.watch([still[0]] * 3)
    student = robot.client.engine.student
    tensors = {name: tensor + 0.05 * tensor.std() * np.random.default_rng(0).normal()
               for name, tensor in student.tensors(scope).items() if tensor.numel() > 1}
    robot.client.engine.swap(tensors)
    for _ in range(2):
        robot.see(still[0])
        assert robot.client._drift.distance < 1e-5


def test_after_an_update_of_the_encoder_an_early_key_frame_is_the_reference(still):
    robot = Robot(still=0.0, drift=0.4)
    robot.watch([still[0]] * 14)
    engine = robot.client.engine
    robot.see(255 - still[0])
    engine.swap({name: 1.1 * tensor for name, tensor in engine.student.tensors('full').items()})
    assert robot.see(255 - still[0]), 'another scene, twice in a row'
    robot.see(255 - still[0])
    assert robot.client._drift.distance < 1e-5
