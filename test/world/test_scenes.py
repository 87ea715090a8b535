from functools import lru_cache

import cv2
import numpy as np
import pytest

from shadowtutor_ros.labels import BACKGROUND, CLASS_NAMES, NUM_CLASSES
from shadowtutor_ros.world.scenes import (
    LOOKS, MAX_INDEX, MAX_SEED, read_timecode, Scene, Timecode)

SMALL = 160, 90

#: Scenes are costly to make and free of state, so that the tests share them.
scene_of = lru_cache(maxsize=None)(Scene)


def assert_same(a, b):
    for name in ('image', 'label', 'boxes'):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_same_arguments_give_the_same_frames_in_any_order():
    one, other = scene_of(5, 'dusk', *SMALL), Scene(5, 'dusk', *SMALL)
    forward = [one.render(i) for i in (0, 40, 333)]
    backward = [other.render(i) for i in (333, 40, 0)]
    for a, b in zip(forward, reversed(backward)):
        assert_same(a, b)
    assert_same(one.render(40), forward[1])


def test_frames_do_not_share_memory():
    scene = scene_of(0, 'day', *SMALL)
    first = scene.render(7)
    kept = first.image.copy()
    scene.render(8)
    np.testing.assert_array_equal(first.image, kept)


def test_seeds_and_moments_differ():
    frames = [scene_of(seed, 'day', *SMALL).render(i).image for seed in (0, 1) for i in (0, 100)]
    for i in range(4):
        for j in range(i):
            assert np.mean(cv2.absdiff(frames[i], frames[j])) > 5


@pytest.mark.parametrize('look', LOOKS)
def test_every_look_has_its_own_light_and_the_same_objects(look):
    frame, day = scene_of(2, look, *SMALL).render(60), scene_of(2, 'day', *SMALL).render(60)
    np.testing.assert_array_equal(frame.label, day.label)
    assert look == 'day' or np.mean(cv2.absdiff(frame.image, day.image)) > 8
    assert frame.image.std() > 12


@pytest.mark.parametrize('seed', (0, 1, 65535))
def test_every_class_appears_as_the_camera_goes_on(seed):
    scene = Scene(seed, 'day', 96, 54)
    counts = [np.bincount(scene.render(i).label.ravel(), minlength=NUM_CLASSES)
              for i in range(0, 60000, 300)]
    missing = [CLASS_NAMES[i] for i in np.flatnonzero(np.max(counts, axis=0) < 15)]
    assert not missing
    visible = np.count_nonzero(counts, axis=1)
    assert 2 <= np.mean(visible) <= 7


@pytest.mark.parametrize('size', ((64, 48), (101, 77), (333, 187), (240, 320), (700, 120)))
def test_any_size(size):
    frame = Scene(1, 'autumn', *size).render(250)
    assert frame.image.shape == (size[1], size[0], 3) and frame.image.dtype == np.uint8
    assert frame.label.shape == (size[1], size[0]) and frame.label.dtype == np.uint8
    assert frame.label.max() < NUM_CLASSES
    assert frame.boxes.shape[1:] == (4,) and frame.boxes.dtype == np.float32


def test_every_labelled_pixel_is_painted_and_no_other():
    # Without its actors the street is bare: what differs then must be what is labelled, but for
    # shadows, soft edges and what shines, all of which change a pixel by less than half.
    scene, bare = scene_of(4, 'overcast', 320, 180), Scene(4, 'overcast', 320, 180)
    bare._event = lambda lane, slot: None
    for index in (0, 90, 200, 310, 420):
        frame, street = scene.render(index), bare.render(index)
        assert (street.label == BACKGROUND).all() and not len(street.boxes)
        difference = cv2.absdiff(frame.image, street.image).max(axis=2)
        objects = frame.label != BACKGROUND
        assert objects.any()
        # Some clothes have the colour of the wall behind them.
        assert np.mean(difference[objects] > 6) > 0.93
        far = cv2.dilate(objects.astype(np.uint8), np.ones((5, 5))) == 0
        two_shadows = 2 * 0.15 * 255
        assert difference[far].max() <= two_shadows


def test_boxes_hold_the_objects():
    frame = scene_of(4, 'day', 320, 180).render(100)
    inside = np.zeros(frame.label.shape, bool)
    for x1, y1, x2, y2 in frame.boxes.astype(int):
        assert 0 <= x1 < x2 <= 320 and 0 <= y1 < y2 <= 180
        assert (frame.label[y1:y2, x1:x2] != BACKGROUND).any()
        inside[y1:y2, x1:x2] = True
    assert inside[frame.label != BACKGROUND].all()


@pytest.mark.parametrize('index', (0, 130, 301, 444))
def test_label_is_the_same_at_other_sizes(index):
    label = scene_of(3, 'day', 320, 180).render(index).label
    for size in ((160, 90), (480, 270), (227, 128)):
        other = scene_of(3, 'day', *size).render(index).label
        resized = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
        assert np.mean(other == resized) > 0.97


def test_nearby_frames_are_coherent():
    scene = scene_of(0, 'day', *SMALL)
    for index in (0, 100, 200, 299, 449):
        one, two = scene.render(index).label, scene.render(index + 1).label
        assert np.mean(one == two) > 0.93


@pytest.mark.parametrize('size', ((64, 48), (160, 90), (320, 180), (641, 359)))
@pytest.mark.parametrize('factor', (0.5, 0.77, 1.0, 1.5, 2.0))
@pytest.mark.parametrize('codec', (
    ('.jpg', cv2.IMWRITE_JPEG_QUALITY), ('.webp', cv2.IMWRITE_WEBP_QUALITY)))
def test_timecode_survives_compression_and_resizing(size, factor, codec):
    frame = scene_of(MAX_SEED - 7, 'night', *size).render(123456).image
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    frame = cv2.resize(frame, None, fx=factor, fy=factor, interpolation=method)
    data = cv2.imencode(codec[0], frame, [codec[1], 50])[1]
    assert read_timecode(cv2.imdecode(data, cv2.IMREAD_COLOR)) == Timecode(
        MAX_SEED - 7, 'night', 123456)


@pytest.mark.parametrize('code', (
    Timecode(0, LOOKS[0], 0), Timecode(MAX_SEED, LOOKS[-1], MAX_INDEX), Timecode(1, 'dusk', 1)))
def test_timecode_at_its_bounds(code):
    assert read_timecode(Scene(code.seed, code.look, *SMALL).render(code.index).image) == code


def test_timecode_is_background():
    label = scene_of(0, 'day', *SMALL).render(0).label
    assert (label[-1] == BACKGROUND).all()


@pytest.mark.parametrize('frame', (
    np.zeros((90, 160, 3), np.uint8), np.full((90, 160, 3), 255, np.uint8),
    np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8),
    np.zeros((2, 2, 3), np.uint8)))
def test_no_timecode(frame):
    assert read_timecode(frame) is None


def test_damaged_timecode_is_not_misread():
    image = scene_of(0, 'day', *SMALL).render(77).image
    for column in range(12, 160, 5):
        damaged = image.copy()
        damaged[-3:, column:column + 5] = 255 - damaged[-3:, column:column + 5]
        assert read_timecode(damaged) in (None, Timecode(0, 'day', 77))


@pytest.mark.parametrize('arguments, named', (
    ((-1, 'day', 160, 90), 'seed is -1'), ((65536, 'day', 160, 90), 'seed is 65536'),
    ((0, 'noon', 160, 90), "look is 'noon'.*day"), ((0, 'day', 31, 90), '31x90.*32x24'),
    ((0, 'day', 160, 20), '160x20')))
def test_bad_arguments(arguments, named):
    with pytest.raises(ValueError, match=named):
        Scene(*arguments)


@pytest.mark.parametrize('index', (-1, MAX_INDEX + 1))
def test_bad_index(index):
    with pytest.raises(ValueError, match='index is'):
        scene_of(0, 'day', *SMALL).render(index)
