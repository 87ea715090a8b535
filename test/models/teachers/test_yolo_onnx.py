"""YOLO-style ONNX files: tiny ones that are written here, and the real one of the test data."""

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from shadowtutor_ros.labels import BACKGROUND, CLASS_NAMES, COCO_NAMES, NUM_CLASSES
from shadowtutor_ros.metrics import mean_iou
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.teachers import load_teacher, TeacherError
from shadowtutor_ros.models.teachers.yolo_onnx import sigmoid, suppress, YoloOnnxTeacher

SHARED = Path(__file__).resolve().parents[4] / 'shared'
YOLO = SHARED / 'data/models/yolo11n_seg_coco_dequant_fp32.onnx'
needs_shared_data = pytest.mark.skipif(
    not YOLO.is_file(), reason=f'the test data is not there: {YOLO}')

PERSON, DOG, AUTO = (CLASS_NAMES.index(name) for name in ('person', 'dog', 'auto'))
FRAME = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
LEFT, WHOLE = (10, 0), (0, 10)  # mask coefficients

# As much of protocol buffers as an ONNX file needs; the package onnx is not required for it.


def varint(value):
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def number(field, value):
    return varint(field << 3) + varint(value)


def message(field, *parts):
    content = b''.join(part.encode() if isinstance(part, str) else part for part in parts)
    return varint(field << 3 | 2) + varint(len(content)) + content


def value_info(field, name, shape):
    dimensions = [
        message(1, message(2, side) if isinstance(side, str) else number(1, side))
        for side in shape]
    return message(field, message(1, name), message(2, message(
        1, number(1, 1), message(2, *dimensions))))


def write_onnx(path, outputs, inputs=((1, 3, 'h', 'w'),), names=None):
    """Write a network whose outputs are constants."""
    graph = []
    for index, array in enumerate(outputs):
        graph += [
            message(1, message(1, f'value{index}'), message(2, f'output{index}'),
                    message(4, 'Identity')),
            message(5, *(number(1, side) for side in array.shape), number(2, 1),
                    message(8, f'value{index}'), message(9, array.astype('<f4').tobytes())),
            value_info(12, f'output{index}', [f'{index}_{axis}' for axis in range(array.ndim)])]
    graph += [value_info(11, f'images{i}', shape) for i, shape in enumerate(inputs)]
    metadata = b'' if names is None else message(14, message(1, 'names'), message(2, str(names)))
    path.write_bytes(b''.join((
        number(1, 8), message(7, message(2, 'test'), *graph),
        message(8, number(2, 13)), metadata)))
    return str(path)


def outputs(*instances, names=COCO_NAMES):
    """Make the outputs of a network from (name, score, (x1, y1, x2, y2), coefficients)."""
    rows = np.zeros((1, 4 + len(names) + 2, max(1, len(instances))), np.float32)
    for row, (name, score, (x1, y1, x2, y2), coefficients) in zip(rows[0].T, instances):
        row[:4] = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        row[4 + names.index(name)] = score
        row[-2:] = coefficients
    prototypes = np.ones((1, 2, 16, 16), np.float32)  # of an input of 64×64
    prototypes[0, 0, :, 8:] = -1
    return rows, prototypes


@pytest.fixture
def predict(tmp_path):
    def predict(*instances, frame=FRAME, **options):
        path = write_onnx(tmp_path / 'network.onnx', outputs(*instances))
        return YoloOnnxTeacher(path, **options)(frame)
    return predict


def refusal(path, *args):
    with pytest.raises(TeacherError) as caught:
        load_teacher(str(path), *args)
    assert '\n' not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def test_masks_end_with_their_boxes(predict):
    prediction = predict(
        ('person', 0.9, (10.4, 5.4, 49.6, 40.2), LEFT), ('bus', 0.8, (40.6, -9, 70, 60), WHOLE))
    expected = np.full((48, 64), BACKGROUND, np.uint8)
    expected[:, 41:] = AUTO
    expected[5:40, 10:32] = PERSON
    np.testing.assert_array_equal(prediction.label, expected)
    assert prediction.label.dtype == np.uint8 and prediction.boxes.dtype == np.float32
    np.testing.assert_array_equal(prediction.boxes, [[10, 5, 50, 40], [41, 0, 64, 48]])


def test_the_surer_instance_covers_the_other(predict):
    everywhere = (0, 0, 64, 48)
    label = predict(('dog', 0.6, everywhere, WHOLE), ('person', 0.7, everywhere, LEFT)).label
    assert (label[:, :32] == PERSON).all() and (label[:, 32:] == DOG).all()


def test_other_categories_hide_nothing(predict):
    everywhere = (0, 0, 64, 48)
    prediction = predict(('dog', 0.6, everywhere, WHOLE), ('cat', 0.9, everywhere, WHOLE))
    assert (prediction.label == DOG).all() and len(prediction.boxes) == 1


def test_score_threshold(predict):
    instances = [('dog', score, (x, 0, x + 9, 9), WHOLE) for x, score in ((0, 0.31), (20, 0.29))]
    assert len(predict(*instances).boxes) == 1
    assert len(predict(*instances, score_threshold=0.2).boxes) == 2
    assert len(predict(*instances, score_threshold=0.5).boxes) == 0


def test_nothing_found(predict):
    prediction = predict()
    assert (prediction.label == BACKGROUND).all() and prediction.boxes.shape == (0, 4)


def test_box_outside_the_frame_is_dropped(predict):
    # In the padding below the frame.
    assert predict(('dog', 0.9, (0, 50, 60, 60), WHOLE)).boxes.shape == (0, 4)


def test_suppression_within_a_category():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 7], [0, 0, 10, 5], [0, 0, 10, 9]], float)
    scores = np.array([0.5, 0.9, 0.8, 0.7])
    np.testing.assert_array_equal(suppress(boxes, scores, np.zeros(4, int)), [1])
    np.testing.assert_array_equal(suppress(boxes, scores, np.array([0, 0, 1, 1])), [1, 2, 3])
    assert suppress(boxes[:0], scores[:0], np.zeros(0, int)).shape == (0,)


def test_sigmoid():
    x = np.array([-1000, -2, 0, 2, 1000], np.float32)
    np.testing.assert_allclose(
        sigmoid(x), [0, 1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-2)), 1], atol=1e-7)


def test_long_side(predict):
    frame = cv2.resize(FRAME, (128, 96))
    prediction = predict(('dog', 0.9, (5, 6, 50, 40), LEFT), frame=frame, long_side=64)
    expected = np.full((96, 128), BACKGROUND, np.uint8)
    expected[12:80, 10:64] = DOG
    np.testing.assert_array_equal(prediction.label, expected)
    np.testing.assert_array_equal(prediction.boxes, [[10, 12, 100, 80]])


def test_input_of_fixed_size(tmp_path):
    path = write_onnx(tmp_path / 'fixed.onnx', outputs(('dog', 0.9, (5, 6, 50, 40), LEFT)),
                      inputs=[(1, 3, 64, 64)])
    teacher = load_teacher(path)
    np.testing.assert_array_equal(
        teacher(cv2.resize(FRAME, (128, 96))).boxes, [[10, 12, 100, 80]])
    prediction = teacher(cv2.resize(FRAME, (32, 64)))  # upright
    np.testing.assert_array_equal(prediction.boxes, [[5, 6, 32, 40]])
    assert prediction.label.shape == (64, 32)


def test_names_in_the_metadata(tmp_path):
    names = ('cat', 'dog')
    found = outputs(('dog', 0.9, (5, 6, 50, 40), WHOLE), names=names)
    path = write_onnx(tmp_path / 'two.onnx', found, names=dict(enumerate(names)))
    assert (load_teacher(path)(FRAME).label[6:40, 5:50] == DOG).all()


def test_gpu_that_is_not_there(tmp_path, caplog):
    onnxruntime = pytest.importorskip('onnxruntime')
    if 'CUDAExecutionProvider' in onnxruntime.get_available_providers():
        pytest.skip('this onnxruntime has CUDA')
    path = write_onnx(tmp_path / 'network.onnx', outputs())
    with caplog.at_level(logging.WARNING):
        load_teacher(path, device='cuda')
    assert 'runs on the CPU' in caplog.text


def test_files_that_cannot_be_read(tmp_path):
    assert 'is not a file' in refusal(tmp_path / 'missing.onnx')
    (tmp_path / 'text.onnx').write_text('no network')
    assert 'cannot be read by onnxruntime' in refusal(tmp_path / 'text.onnx')


def test_other_networks(tmp_path):
    path = tmp_path / 'network.onnx'
    rows, prototypes = outputs()

    def refused(*args, **options):
        write_onnx(path, *args, **options)
        return refusal(path)
    assert 'wanted one image input' in refused((rows, prototypes), [(1, 3, 'h', 'w')] * 2)
    assert 'wanted one image input' in refused((rows, prototypes), [(1, 100)])
    assert 'cannot be run on an image' in refused((rows, prototypes), [(1, 1, 'h', 'w')])
    assert 'outputs of the shapes [(1, 86, 1)]' in refused((rows,))
    assert 'outputs of the shapes' in refused((rows, rows))
    assert 'has 79 categories, but 80 names (those of COCO)' in refused((rows[:, 1:], prototypes))
    assert 'has 80 categories, but 2 names in its metadata' in refused(
        (rows, prototypes), names={0: 'cat', 1: 'dog'})
    assert 'wanted a dict such as' in refused((rows, prototypes), names='cat, dog')
    assert 'knows none of our classes' in refused(
        (rows[:, :8], prototypes), names={0: 'cat', 1: 'cow'})


def test_what_is_no_frame(predict):
    for frame in (None, FRAME[..., 0], FRAME.astype(float), FRAME[:0]):
        with pytest.raises(ValueError, match='wanted'):
            predict(frame=frame)


@pytest.fixture(scope='module')
def yolo():
    return load_teacher(str(YOLO))


def read_frame(name, index=0):
    """Read a frame of a video as the golden numbers were made: 640 wide."""
    video = cv2.VideoCapture(str(SHARED / f'data/videos/{name}.mp4'))
    for _ in range(index + 1):
        read, frame = video.read()
        assert read
    height, width = frame.shape[:2]
    return cv2.resize(
        frame, (640, 8 * round(height * 640 / width / 8)), interpolation=cv2.INTER_AREA)


@needs_shared_data
def test_golden_frame(yolo):
    golden = np.load(SHARED / 'golden/frame.npz')
    # The golden image is this frame at half its size.
    prediction = yolo(read_frame('davis_bus', 10))
    label = cv2.resize(prediction.label, (320, 176), interpolation=cv2.INTER_NEAREST)
    # Equal here; another onnxruntime may differ in the last bits of a mask's edge.
    assert np.mean(label != golden['label']) < 1e-3
    scale = np.array([320 / 640, 176 / 360] * 2)
    np.testing.assert_allclose(prediction.boxes * scale, golden['boxes_xyxy'], atol=0.51)


@needs_shared_data
@pytest.mark.parametrize('name', (
    'sam2_dog', 'keerthi_elephant', 'roxa_crosswalk', 'ahmet_vehicle'))
def test_golden_first_key_frames(yolo, name):
    baseline = json.loads((SHARED / 'golden/baseline.json').read_text())[name]['p8']
    student = Student.load(SHARED / 'data/models/Student_amended.pth')
    frame = read_frame(name)
    label = yolo(frame).label
    jpeg = cv2.imencode('.jpg', frame, [cv2.IMWRITE_JPEG_QUALITY, 97])[1]
    seen = torch.from_numpy(cv2.imdecode(jpeg, cv2.IMREAD_COLOR).transpose(2, 0, 1)[None])
    with torch.no_grad():
        prediction = student(seen.float()).argmax(1)[0].numpy()
    assert mean_iou(prediction, label, NUM_CLASSES) == pytest.approx(
        baseline['key_frames'][0]['metric_before'], abs=5e-4)
