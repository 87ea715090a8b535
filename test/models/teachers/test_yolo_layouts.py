import numpy as np
import pytest

from shadowtutor_ros.models.teachers.yolo_layouts import layout_of

K = 32
BOX = (10, 20, 30, 60)                # x1, y1, x2, y2
CENTRE = (20, 40, 20, 40)
COEFFICIENTS = np.arange(K) / K


def scored(names, count, category, score, objectness=()):
    """Make rows with one detection, the last."""
    rows = np.zeros((count, 4 + len(objectness) + names + K), np.float32)
    scores = np.zeros(names)
    scores[category] = score
    rows[-1] = (*CENTRE, *objectness, *scores, *COEFFICIENTS)
    return rows


def final(count, category, score):
    rows = np.zeros((count, 6 + K), np.float32)
    rows[0] = (*BOX, score, category, *COEFFICIENTS)
    return rows


@pytest.mark.parametrize('output, names, size, score', (
    (scored(80, 8400, 5, 0.7).T, 80, (640, 640), 0.7),
    (scored(80, 8400, 5, 0.7), 80, (640, 640), 0.7),
    (scored(80, 25200, 5, 0.7, (0.9,)), 80, (640, 640), 0.63),
    (final(300, 5, 0.7), 80, (640, 640), 0.7),
    (final(300, 5, 0.7), 300 - 4 - K, (640, 640), 0.7),    # rows as many as columns would be
    # Rows of equal length: one name with an objectness, two names without, or final ones.
    (scored(1, 25200, 0, 0.7, (0.9,)), 1, (640, 640), 0.63),
    (scored(1, 3 * (60 * 80 + 30 * 40 + 15 * 20), 0, 0.7, (0.9,)), 1, (480, 640), 0.63),
    (scored(1, 102000, 0, 0.7, (0.9,)), 1, (1280, 1280), 0.63),
    (scored(2, 8400, 1, 0.7), 2, (640, 640), 0.7),
    (scored(2, 8400, 1, 0.7).T, 2, (640, 640), 0.7),
    (final(300, 0, 0.7), 1, (640, 640), 0.7),
    (final(300, 1, 0.7), 2, (640, 640), 0.7)))
def test_layouts(output, names, size, score):
    layout = layout_of(output.shape, K, names, size)
    assert layout.overlaps == (len(output) != 300)
    found = layout.read(output, score - 0.01)
    np.testing.assert_array_equal(found.boxes, [BOX])
    np.testing.assert_allclose(found.scores, [score], rtol=1e-6)
    assert found.categories.tolist() == [min(5, names - 1)]
    np.testing.assert_array_equal(found.coefficients, COEFFICIENTS[None].astype(np.float32))
    assert len(layout.read(output, score + 0.01).scores) == 0


@pytest.mark.parametrize('shape', ((116, 8400), (8400, 115), (300, 6), (300, 37), (118, 25200)))
def test_what_fits_none(shape):
    assert layout_of(shape, K, 81, (640, 640)) is None
