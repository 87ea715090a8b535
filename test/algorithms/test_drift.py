import cv2
import numpy as np
import pytest
from shadowtutor_ros.algorithms.drift import SceneDrift, SceneWatch
import torch

FRAME = np.zeros((64, 96, 3), np.uint8)


class Engine:
    """What the drift uses of an engine: features by frame, times what the encoder makes."""

    def __init__(self):
        self.encoder_version = 0
        self.factor = 1.0
        self.inferred = []

    def __call__(self, frame):
        self.inferred.append(frame)
        self.features = self.factor * features(int(frame[0, 0, 0]))


def features(seed):
    return torch.rand(1, 128, 12, 20, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def measure():
    """Return a function that measures features; with it the drift and the engine."""
    def measure(enc3, is_reference=False):
        measure.engine.features = enc3
        return measure.drift.update(measure.engine, FRAME, is_reference)
    measure.engine, measure.drift = Engine(), SceneDrift()
    return measure


def test_equal_frames_are_at_distance_zero(measure):
    assert measure(features(0), is_reference=True) == 0.0
    assert measure(features(0)) == 0.0 == measure.drift.distance


def test_the_distance_is_relative_and_grows_with_the_change(measure):
    measure(features(0), is_reference=True)
    for share in (0.1, 0.5, 2.0):
        assert measure((1 + share) * features(0)) == pytest.approx(share, rel=1e-4)


def test_what_changes_in_one_corner_counts_for_more_than_the_same_spread_evenly(measure):
    flat = torch.ones(1, 128, 12, 20)
    measure(flat, is_reference=True)
    corner = flat.clone()
    corner[:, :, :4, :5] += 12.0
    assert corner.mean() == (flat + 1.0).mean(), 'no proof'
    assert measure(corner) > 2 * measure(flat + 1.0)


def test_a_reference_replaces_the_last(measure):
    measure(features(0), is_reference=True)
    assert measure(3 * features(0)) > 1
    assert measure(3 * features(0), is_reference=True) == 0.0
    assert measure(3 * features(0)) == 0.0
    assert measure(features(0)) > 0.5
    measure.drift.refer()
    assert measure.drift.distance == 0.0 == measure(features(0))


def test_half_precision_and_other_sizes(measure):
    coarse = features(0)[:, :, :3, :4]
    measure(coarse.repeat_interleave(4, 2).bfloat16(), is_reference=True)
    assert measure(coarse.repeat_interleave(2, 3).bfloat16()) < 0.01, (
        'the grid is the same whatever the size')


def test_a_local_change_counts_where_it_is(measure):
    half = torch.ones(1, 128, 12, 20)
    half[..., :10] = 3
    measure(half, is_reference=True)
    assert measure(half.flip(3)) > 0.5, 'as much of everything, but elsewhere'


def test_the_reference_is_inferred_anew_once_with_another_encoder():
    engine, drift, other = Engine(), SceneDrift(), FRAME + 1
    engine(FRAME)
    drift.update(engine, FRAME, is_reference=True)
    engine.factor, engine.encoder_version = 3.0, 1
    for frame, distance in ((FRAME, 0.0), (other, 0.2)):
        engine(frame)
        drift.update(engine, frame, is_reference=False)
        assert drift.distance == 0 if frame is FRAME else 0 < drift.distance < distance
    assert [frame[0, 0, 0] for frame in engine.inferred] == [0, 0, 0, 1]
    assert engine.inferred[2] is FRAME


# --- the watch ----------------------------------------------------------------------------------

def picture(seed=0):
    """Return a smooth picture, 180×320."""
    random = np.random.default_rng(seed)
    return np.kron(random.integers(40, 200, (6, 8, 3)), np.ones((30, 40, 1))).astype(np.uint8)


def with_box(share, grey=0, x=100):
    """Return the picture with an upright box of a share of the frame."""
    image = picture()
    height = round((2.5 * share * 180 * 320) ** 0.5)
    image[60:60 + height, x:x + round(height / 2.5)] = grey
    return image


def look(frames, rate=10.0):
    """Return a watch that has seen a picture, then frames; with the times it saw somebody."""
    watch, entered = SceneWatch(), []
    watch.update(picture(), 0.0)
    for index, frame in enumerate(frames, 1):
        watch.update(frame, index / rate)
        if watch.entered:
            entered.append((index - 1) / rate)
    return watch, entered


@pytest.mark.parametrize('rate', [1.0, 5.0, 30.0, 60.0])
@pytest.mark.parametrize('share', [0.005, 0.02, 0.1])
def test_what_stays_has_entered_within_a_second(share, rate):
    _, entered = look(int(2 * rate) * [with_box(share)], rate)
    assert entered and 0.4 <= entered[0] <= 1.0


def test_less_is_not_looked_for():
    watch, entered = look(50 * [with_box(0.0008)])
    assert not entered and not watch.changed


@pytest.mark.parametrize('gain', [(0.7, 0.7, 0.7), (1.2, 1.1, 1.25)])
def test_exposure_and_white_balance_are_no_change(gain):
    brighter = (picture() * np.float64(gain)).clip(0, 255).astype(np.uint8)
    watch, entered = look(20 * [brighter])
    assert not entered and not watch.changed
    box = (with_box(0.01, grey=255) * np.float64(gain)).clip(0, 255).astype(np.uint8)
    assert look(20 * [box])[1]


def test_what_is_white_gets_no_whiter():
    bright = picture()
    bright[:30] = 250
    watch = SceneWatch()
    watch.update(bright, 0.0)
    for index in range(1, 20):
        watch.update((bright * 1.25).clip(0, 255).astype(np.uint8), index / 10)
        assert not watch.changed


def test_snow_is_no_change():
    random = np.random.default_rng(0)
    for _ in range(20):
        snow = random.integers(-25, 26, (36, 64, 3)).repeat(5, 0).repeat(5, 1)
        frame = (picture() + snow).clip(0, 255).astype(np.uint8)
        watch, _ = look(10 * [frame])
        assert not watch.changed


def test_a_tremble_is_no_change():
    # With edges as a lens makes them.
    large = cv2.GaussianBlur(picture().repeat(2, 0).repeat(2, 1), (0, 0), 1.5)
    for dx, dy in ((1, 0), (0, 1)):
        moved = cv2.warpAffine(
            large, np.float32([[1, 0, dx], [0, 1, dy]]), (640, 360),
            borderMode=cv2.BORDER_REPLICATE)
        watch = SceneWatch()
        watch.update(large, 0.0)
        for index in range(1, 20):
            watch.update(moved, index / 10)
            assert not watch.changed


def test_nobody_has_entered_where_everything_is_another():
    assert not look(20 * [picture(1)])[1]


def test_what_has_left_again_is_nothing_new_but_its_like_elsewhere_is():
    watch, _ = look(10 * [with_box(0.01)])
    watch.refer()
    for index in range(11, 61):
        watch.update(picture(), index / 10)
        assert not watch.changed, 'the empty scene has been in a key frame'
    for index in range(61, 70):
        watch.update(with_box(0.01, x=200), index / 10)
    assert watch.entered


def test_the_head_of_somebody_does_not_stand_for_them():
    watch, _ = look(10 * [with_box(0.005)])
    watch.refer()
    for index in range(11, 30):
        watch.update(with_box(0.05), index / 10)
    assert watch.entered


def test_less_than_a_person_does_not_stand_for_one():
    watch, _ = look(10 * [with_box(0.0025)])
    watch.refer()
    for index in range(11, 30):
        watch.update(with_box(0.006), index / 10)
    assert watch.entered


def test_a_known_thing_may_go_anywhere():
    watch, _ = look(10 * [with_box(0.01)])
    watch.refer()
    for index in range(11, 60):
        watch.update(with_box(0.01, x=100 + 2 * (index - 10)), index / 10)
        assert not watch.entered


def darker(image):
    return (image * 0.6).astype(np.uint8)


def test_older_views_follow_the_exposure():
    watch, _ = look(10 * [darker(with_box(0.01))])
    watch.refer()
    for index in range(11, 31):
        watch.update(darker(picture()), index / 10)
        assert not watch.changed


def test_old_views_are_forgotten():
    watch, _ = look(10 * [with_box(0.01)])
    for _ in range(SceneWatch.VIEWS):
        watch.refer()
    for index in range(11, 31):
        watch.update(picture(), index / 10)
    assert watch.changed
