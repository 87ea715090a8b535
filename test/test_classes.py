import numpy as np
from shadowtutor_ros.labels import (
    BACKGROUND, class_map, CLASS_NAMES, COCO_NAMES, COLORS, colorize, IGNORE, NUM_CLASSES, overlay)

MASK = np.arange(12, dtype=np.uint8).reshape(3, 4) % NUM_CLASSES
IMAGE = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)


def test_has_the_nine_classes_of_lvs():
    assert CLASS_NAMES == (
        'person', 'bicycle', 'auto', 'bird', 'dog', 'horse', 'elephant', 'giraffe', 'background')
    assert NUM_CLASSES == 9 and BACKGROUND == 8
    assert IGNORE not in range(NUM_CLASSES)


def test_maps_coco_as_the_first_implementation():
    wanted = {0: 0, 1: 1, 2: 2, 5: 2, 7: 2, 14: 3, 16: 4, 17: 5, 20: 6, 23: 7}
    assert len(COCO_NAMES) == 80
    assert class_map(COCO_NAMES).tolist() == [wanted.get(i, 8) for i in range(80)]


def test_maps_other_tables_by_name():
    # As torchvision names them: a background and gaps of its own.
    names = ['__background__', 'person', 'N/A', 'truck', 'sheep', 'dog']
    assert class_map(names).tolist() == [8, 0, 8, 2, 8, 4]
    assert class_map(names).dtype == np.uint8


def test_every_class_has_its_own_color():
    assert COLORS.shape == (NUM_CLASSES, 3) and COLORS.dtype == np.uint8
    assert len({tuple(color) for color in COLORS}) == NUM_CLASSES


def test_colorize_paints_each_pixel_in_the_color_of_its_class():
    painted = colorize(MASK)
    assert painted.shape == (3, 4, 3) and painted.dtype == np.uint8
    assert all((painted[i] == COLORS[MASK[i]]).all() for i in np.ndindex(MASK.shape))


def test_overlay_leaves_the_background_and_its_input():
    image = IMAGE.copy()
    painted = overlay(image, MASK, 0.5)
    assert painted.shape == IMAGE.shape and painted.dtype == np.uint8
    assert (painted[MASK == BACKGROUND] == IMAGE[MASK == BACKGROUND]).all()
    assert (image == IMAGE).all()


def test_overlay_mixes_by_opacity():
    objects = MASK != BACKGROUND
    for opacity in (0, 0.25, 0.5, 1):
        mix = (1 - opacity) * IMAGE + opacity * COLORS[MASK].astype(float)
        painted = overlay(IMAGE, MASK, opacity)
        assert np.abs(painted - mix)[objects].max() <= 1
