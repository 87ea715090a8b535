from functools import lru_cache

import cv2
import numpy as np
import pytest

from shadowtutor_ros.classes import ClassTable, LVS
from shadowtutor_ros.world.scenes import (
    LOOKS, MAX_INDEX, MAX_SEED, read_timecode, Scene, Timecode)
from shadowtutor_ros.world.things import VOCABULARY

SMALL = 160, 90
BACKGROUND = LVS.background

#: Everything that can be asked for, each by itself.
ALL = ClassTable.of(VOCABULARY)

#: What passes, and trees and lamps, with their parts; houses differ from size to size.
PARTS = ClassTable.of(['person', 'head', 'leg', 'vehicle', 'wheel', 'car', 'animal', 'tail',
                       'tree', 'trunk', 'lamp'])

#: Scenes are costly to make and free of state, so that the tests share them.
scene_of = lru_cache(maxsize=None)(Scene)


def assert_same(a, b):
    for name in ('image', 'label', 'boxes', 'box_classes'):
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
    for classes in LVS, ALL:
        np.testing.assert_array_equal(scene_of(2, look, *SMALL).render(60, classes).label,
                                      scene_of(2, 'day', *SMALL).render(60, classes).label)
    assert look == 'day' or np.mean(cv2.absdiff(frame.image, day.image)) > 8
    assert frame.image.std() > 12


@pytest.mark.parametrize('seed', (0, 1, 65535))
def test_every_class_appears_as_the_camera_goes_on(seed):
    scene = Scene(seed, 'day', 96, 54)
    counts = [np.bincount(scene.render(i).label.ravel(), minlength=len(LVS))
              for i in range(0, 60000, 300)]
    missing = [LVS.names[i] for i in np.flatnonzero(np.max(counts, axis=0) < 15)]
    assert not missing
    visible = np.count_nonzero(counts, axis=1)
    assert 2 <= np.mean(visible) <= 7


@pytest.mark.parametrize('size', ((64, 48), (101, 77), (333, 187), (240, 320), (700, 120)))
def test_any_size(size):
    frame = Scene(1, 'autumn', *size).render(250)
    assert frame.image.shape == (size[1], size[0], 3) and frame.image.dtype == np.uint8
    assert frame.label.shape == (size[1], size[0]) and frame.label.dtype == np.uint8
    assert frame.label.max() < len(LVS)
    assert frame.boxes.shape[1:] == (4,) and frame.boxes.dtype == np.float32
    assert frame.box_classes.shape == frame.boxes.shape[:1]
    assert frame.box_classes.dtype == np.uint8


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


# --- Classes -------------------------------------------------------------------------------------

#: Frames with the pixels of each class of LVS and the boxes that they had when LVS's nine classes
#: were all that the world knew: what was learned and measured with them is to stay comparable.
NINE = (
    (3, 'day', (320, 180), 333, [1227, 1322, 12592, 0, 0, 0, 0, 2529, 39930],
     [[115, 65, 230, 125], [223, 41, 320, 125], [0, 8, 63, 125], [76, 99, 143, 135],
      [97, 67, 131, 125], [0, 73, 21, 154]]),
    (0, 'night', (160, 90), 4000, [219, 106, 2215, 0, 557, 546, 0, 0, 10757],
     [[80, 32, 121, 62], [0, 21, 63, 63], [124, 49, 153, 67], [134, 33, 152, 57],
      [123, 49, 160, 75]]),
    (65535, 'fog', (333, 187), 1500, [0, 0, 961, 1855, 0, 557, 8485, 3503, 46910],
     [[198, 11, 290, 128], [86, 76, 127, 115], [0, 42, 56, 130], [0, 38, 131, 144],
      [0, 52, 5, 58], [61, 92, 140, 163]]),
    (7, 'winter', (240, 320), 9001, [2540, 3850, 23825, 0, 0, 0, 0, 0, 46585],
     [[0, 119, 111, 208], [99, 74, 240, 225], [75, 177, 189, 240], [111, 122, 169, 227]]),
    (0, 'sepia', (320, 180), 900, [1651, 579, 15040, 0, 0, 0, 222, 4, 40104],
     [[180, 43, 320, 124], [0, 23, 1, 27], [71, 64, 200, 125], [2, 98, 29, 134],
      [0, 67, 17, 124], [310, 59, 320, 99], [209, 67, 238, 149]]))


@pytest.mark.parametrize('seed, look, size, index, counts, boxes', NINE)
def test_the_nine_classes_are_what_they_were(seed, look, size, index, counts, boxes):
    frame = Scene(seed, look, *size).render(index)
    # Versions of OpenCV differ by a pixel here and there.
    np.testing.assert_allclose(
        np.bincount(frame.label.ravel(), minlength=9), counts, rtol=0.01, atol=5)
    np.testing.assert_allclose(frame.boxes, boxes, atol=1)


@pytest.mark.parametrize('look, index', (('day', 333), ('night', 900), ('autumn', 3141)))
def test_one_frame_with_many_tables(look, index):
    def render(*entries):
        table = ClassTable.of(entries) if entries else ALL
        frame = scene_of(3, look, 320, 180).render(index, table)
        np.testing.assert_array_equal(frame.image, nine.image)
        return {name: frame.label == place for place, name in enumerate(table.names)}, frame

    def box_set(frame, *places):
        return {tuple(box) for box, place in zip(frame.boxes, frame.box_classes)
                if not places or place in places}

    nine = scene_of(3, look, 320, 180).render(index)
    of_nine = {name: nine.label == place for place, name in enumerate(LVS.names)}

    singles, frame = render(*(name for name in LVS.names[:-1] if name != 'auto'),
                            'car', 'bus', 'truck')
    for name in LVS.names:
        union = (singles['car'] | singles['bus'] | singles['truck'] if name == 'auto'
                 else singles[name])
        np.testing.assert_array_equal(union, of_nine[name])
    assert box_set(frame) == box_set(nine)

    every, _ = render()
    few, _ = render('road', 'building', 'sky', 'tree', 'wheel')
    np.testing.assert_array_equal(few['wheel'], every['wheel'])
    np.testing.assert_array_equal(few['sky'], every['sky'])
    np.testing.assert_array_equal(few['tree'], every['tree'] | every['trunk'])
    np.testing.assert_array_equal(
        few['road'],
        every['road'] | every['lane marking'] | every['crosswalk'] | every['path'])
    # A window of a house is the house's, that of a car is nothing here.
    windows = every['window'] & (nine.label == BACKGROUND)
    assert windows.any() and few['building'][windows].all()
    assert not (few['building'] | few['road'] | few['sky'] | few['tree'])[of_nine['auto']].any()

    both, frame = render('wheel', 'auto: car, bus, truck')
    assert both['wheel'].sum() > 50
    np.testing.assert_array_equal(
        both['wheel'] | both['auto'], of_nine['auto'] | every['wheel'])
    np.testing.assert_array_equal(both['auto'], of_nine['auto'] & ~every['wheel'])
    # With its wheels a car is as large as without.
    assert box_set(frame, 2) == box_set(nine, LVS.find('auto'))


def test_every_name_is_seen():
    scene = scene_of(0, 'day', 320, 180)
    seen = set().union(*(np.unique(scene.render(index, ALL).label).tolist()
                         for index in range(0, 20000, 250)))
    missing = {name for place, name in enumerate(ALL.names) if place not in seen}
    # Of these all that is painted is of some kind, or a part.
    assert missing <= {'person', 'vehicle', 'auto', 'animal', 'ground', 'vegetation', 'lamp'}
    for name in missing:
        table = ClassTable.of([name])
        assert any(scene.render(index, table).label.any() for index in range(0, 20000, 1000))


@pytest.mark.parametrize('name, index, share', (
    ('window', 333, 0.04), ('wheel', 333, 0.01), ('sky', 333, 0.02), ('building', 1200, 0.05),
    ('road', 333, 0.05), ('sidewalk', 333, 0.1), ('tree', 333, 0.03), ('roof', 333, 0.02),
    ('grass', 2600, 0.02), ('person', 333, 0.01), ('head', 333, 0.002)))
def test_edges_of_a_label_are_edges_of_the_image(name, index, share):
    # There are other edges too, as houses have windows and windows have bars; but none are as
    # strong where the label is moved by one pixel, and far from it by two.
    frame = scene_of(3, 'overcast', 640, 360).render(index, ClassTable.of([name]))
    assert frame.label.mean() > share
    grey = cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY).astype(int)[:-24]
    across, down = (np.abs(np.diff(grey, axis=axis)) for axis in (1, 0))
    sides, ends = (np.diff(frame.label[:-24].astype(int), axis=axis) != 0 for axis in (1, 0))
    strength = {move: across[np.roll(sides, move, 1)].sum() + down[np.roll(ends, move, 0)].sum()
                for move in range(-3, 4)}
    assert strength[0] > 1.3 * max(strength[-1], strength[1])
    assert strength[0] > 1.5 * max(strength[move] for move in (-3, -2, 2, 3))


def test_boxes_are_of_what_is_asked_for():
    scene = scene_of(3, 'day', 320, 180)
    nine = scene.render(333)
    assert {LVS.names[place] for place in nine.box_classes} == {
        'person', 'bicycle', 'auto', 'giraffe'}
    table = ClassTable.of(['wheel', 'window', 'road', 'sky', 'building', 'tree'])
    frame = scene.render(333, table)
    assert {table.names[place] for place in frame.box_classes} == {'wheel', 'window', 'tree'}
    for (x1, y1, x2, y2), place in zip(frame.boxes.astype(int), frame.box_classes):
        box = frame.label[y1:y2, x1:x2] == place
        assert all(side.any() for side in (box[0], box[-1], box[:, 0], box[:, -1]))
        if table.names[place] == 'wheel':
            assert (x2 - x1) * (y2 - y1) < 40 * 40
    inside = np.zeros(frame.label.shape, bool)
    for x1, y1, x2, y2 in frame.boxes.astype(int):
        inside[y1:y2, x1:x2] = True
    assert inside[np.isin(frame.label, [table.find(name) for name in (
        'wheel', 'window', 'tree')])].all()
    # Where a window is the house or the car that it belongs to, it has no box of its own.
    frame = scene.render(333, ClassTable.of(['auto', 'house: building, window', 'sky']))
    assert {tuple(box) for box, place in zip(frame.boxes, frame.box_classes) if place == 1} == {
        tuple(box) for box, place in zip(nine.boxes, nine.box_classes)
        if place == LVS.find('auto')}
    assert not len(scene.render(333, ClassTable.of(['road', 'sky', 'building'])).boxes)


# --- Sizes and moments ---------------------------------------------------------------------------

@pytest.mark.parametrize('index', (0, 130, 301, 444))
@pytest.mark.parametrize('classes, least', ((LVS, 0.97), (PARTS, 0.95)), ids=('lvs', 'parts'))
def test_label_is_the_same_at_other_sizes(index, classes, least):
    label = scene_of(3, 'day', 320, 180).render(index, classes).label
    for size in ((160, 90), (480, 270), (227, 128)):
        other = scene_of(3, 'day', *size).render(index, classes).label
        resized = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
        assert np.mean(other == resized) > least


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
    for classes in LVS, ALL:
        label = scene_of(0, 'day', *SMALL).render(0, classes).label
        assert (label[-1] == classes.background).all()


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
