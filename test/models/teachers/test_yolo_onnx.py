"""YOLO-style ONNX files: tiny ones that are written here, and the real one of the test data."""

import json
import logging

import cv2
import numpy as np
from onnx_files import write_onnx
import pytest
import torch

from shadowtutor_ros.classes import ClassTable, COCO_NAMES, LVS
from shadowtutor_ros.metrics import mean_iou
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.teachers import load_teacher, TeacherError
from shadowtutor_ros.models.teachers.onnx_network import OnnxNetwork
from shadowtutor_ros.models.teachers.yolo_onnx import sigmoid, YoloOnnxTeacher

PERSON, DOG, AUTO, BACKGROUND = (
    LVS.names.index(name) for name in ('person', 'dog', 'auto', 'background'))
FRAME = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
LEFT, WHOLE = (10, 0), (0, 10)  # mask coefficients


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
    def predict(*instances, frame=FRAME, classes=LVS, **options):
        path = write_onnx(tmp_path / 'network.onnx', outputs(*instances))
        return YoloOnnxTeacher(OnnxNetwork(path), **options)(frame, classes)
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
        teacher(cv2.resize(FRAME, (128, 96)), LVS).boxes, [[10, 12, 100, 80]])
    prediction = teacher(cv2.resize(FRAME, (32, 64)), LVS)  # upright
    np.testing.assert_array_equal(prediction.boxes, [[5, 6, 32, 40]])
    assert prediction.label.shape == (64, 32)


NAMES = ('cat', *(f'thing {i}' for i in range(1, 12)), 'Traffic  LIGHT', 'Dog')


@pytest.mark.parametrize('written', (
    dict(enumerate(NAMES)), NAMES, list(NAMES), json.dumps(NAMES),
    {str(i): name for i, name in enumerate(NAMES)}, json.dumps(dict(enumerate(NAMES))),
    dict(sorted((str(i), name) for i, name in enumerate(NAMES)))))
def test_names_in_the_metadata(tmp_path, written):
    found = outputs(('Dog', 0.9, (5, 6, 50, 40), WHOLE), ('Traffic  LIGHT', 0.8, (52, 0, 60, 9),
                                                          WHOLE), names=NAMES)
    teacher = load_teacher(write_onnx(tmp_path / 'named.onnx', found, names=written))
    assert teacher.vocabulary == NAMES
    assert (teacher(FRAME, LVS).label[6:40, 5:50] == DOG).all()
    lights = ClassTable.of(['traffic light', 'dog'])
    assert (teacher(FRAME, lights).label[:9, 52:60] == 1).all()
    assert (teacher(FRAME, lights).label[6:40, 5:50] == 2).all()


def test_names_in_a_file_beside(tmp_path):
    path = write_onnx(tmp_path / 'two.v1.onnx', outputs(names=('a', 'b')))
    (tmp_path / 'two.v1.txt').write_text('cat\n dog \n\n')
    assert load_teacher(path).vocabulary == ('cat', 'dog')
    (tmp_path / 'two.v1.txt').unlink()
    for written in (['cat', 'dog'], {'1': 'dog', '0': 'cat'}, {'id2label': {'0': 'cat', 1: 'dog'}},
                    {'names': ['cat', 'dog'], 'imgsz': 640}):
        (tmp_path / 'two.v1.json').write_text(json.dumps(written))
        assert load_teacher(path).vocabulary == ('cat', 'dog')
    # What the file itself says goes before.
    path = write_onnx(tmp_path / 'two.v1.onnx', outputs(names=('a', 'b')), names=['cow', 'pig'])
    assert load_teacher(path).vocabulary == ('cow', 'pig')
    (tmp_path / 'two.v1.json').write_text('{')
    assert 'two.v1.json' in refusal(path)


@pytest.mark.parametrize('name', (
    'str_keys', 'json_dict', 'list', 'e2e_layout', 'e2e_64_classes', 'v5_layout', 'transposed'))
def test_files_as_people_have_them(shared, name):
    prediction = load_teacher(str(shared(f'cases/yolo_names/{name}.onnx')))(FRAME, LVS)
    expected = np.full((48, 64), BACKGROUND, np.uint8)
    expected[6:40, 5:50] = DOG
    np.testing.assert_array_equal(prediction.label, expected)
    np.testing.assert_array_equal(prediction.boxes, [[5, 6, 50, 40]])
    # YOLOv5's is a product, with an objectness.
    assert prediction.scores == pytest.approx([0.9025 if name == 'v5_layout' else 0.9])


def test_any_table(predict):
    instances = (('dog', 0.6, (0, 0, 30, 48), WHOLE), ('cat', 0.9, (30, 0, 64, 48), WHOLE))
    label = predict(*instances, classes=ClassTable.of(['pet: cat, dog', 'person'])).label
    assert (label == 1).all()
    label = predict(*instances, classes=ClassTable.of(['sky', 'CAT', 'void'], background=2)).label
    assert (label[:, 30:] == 1).all() and (label[:, :30] == 2).all()


def test_scores_are_in_the_order_of_the_boxes(predict):
    prediction = predict(
        ('dog', 0.6, (0, 0, 9, 9), WHOLE), ('cat', 0.95, (9, 9, 18, 18), WHOLE),
        ('person', 0.7, (20, 0, 29, 9), WHOLE))
    assert prediction.scores == pytest.approx([0.7, 0.6])
    assert prediction.boxes[:, 0].tolist() == [20, 0]


def test_fixed_batch(tmp_path, caplog):
    rows, prototypes = outputs(('dog', 0.9, (5, 6, 50, 40), WHOLE))
    path = write_onnx(
        tmp_path / 'batch.onnx', (np.repeat(rows, 4, 0), np.repeat(prototypes, 4, 0)),
        [(4, 3, 64, 64)])
    with caplog.at_level(logging.WARNING):
        teacher = load_teacher(path)
    assert 'batches of 4' in caplog.text and 'export it with batch 1' in caplog.text
    assert (teacher(FRAME, LVS).label[6:40, 5:50] == DOG).all()


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
    assert 'outputs of the shapes [(1, 86, 1), (1, 86, 1), (1, 2, 16, 16)]; wanted' in refused(
        (rows, rows, prototypes))
    assert 'gives 85×1 numbers; with 2 mask coefficients and 80 names (COCO' in refused(
        (rows[:, 1:], prototypes))
    assert '2 names (its own) one side would be 8, 9 with an objectness, or 8 without' in refused(
        (rows, prototypes), names={0: 'cat', 1: 'dog'})
    assert 'wanted a list, or a dict such as' in refused((rows, prototypes), names='cat, dog')
    assert 'wanted a list' in refused((rows, prototypes), names={'a': 'cat'})
    assert 'wanted a list' in refused((rows, prototypes), names={'10000000000': 'cat'})


def test_detection_without_masks(tmp_path):
    path = tmp_path / 'network.onnx'
    for found in (np.zeros((1, 84, 21), np.float32), np.zeros((1, 300, 6), np.float32)):
        write_onnx(path, (found,))
        assert 'finds boxes without masks' in refusal(path)
        assert 'export a segmentation network' in refusal(path)


def test_what_is_no_frame(predict):
    for frame in (None, FRAME[..., 0], FRAME.astype(float), FRAME[:0]):
        with pytest.raises(ValueError, match='wanted'):
            predict(frame=frame)


@pytest.fixture(scope='session')
def yolo(shared):
    return load_teacher(str(shared('data/models/yolo11n_seg_coco_dequant_fp32.onnx')))


@pytest.fixture
def read_frame(shared):
    """Return what reads a frame of a video as the golden numbers were made: 640 wide."""
    def read_frame(name, index=0):
        video = cv2.VideoCapture(str(shared(f'data/videos/{name}.mp4')))
        for _ in range(index + 1):
            read, frame = video.read()
            assert read
        height, width = frame.shape[:2]
        return cv2.resize(
            frame, (640, 8 * round(height * 640 / width / 8)), interpolation=cv2.INTER_AREA)
    return read_frame


def test_golden_frame(yolo, shared, read_frame):
    golden = np.load(shared('golden/frame.npz'))
    # The golden image is this frame at half its size.
    prediction = yolo(read_frame('davis_bus', 10), LVS)
    label = cv2.resize(prediction.label, (320, 176), interpolation=cv2.INTER_NEAREST)
    # Equal here; another onnxruntime may differ in the last bits of a mask's edge.
    assert np.mean(label != golden['label']) < 1e-3
    scale = np.array([320 / 640, 176 / 360] * 2)
    np.testing.assert_allclose(prediction.boxes * scale, golden['boxes_xyxy'], atol=0.51)


@pytest.mark.parametrize('name', (
    'sam2_dog', 'keerthi_elephant', 'roxa_crosswalk', 'ahmet_vehicle'))
def test_golden_first_key_frames(yolo, shared, first_student, read_frame, name):
    baseline = json.loads(shared('golden/baseline.json').read_text())[name]['p8']
    student = Student.load(first_student)
    frame = read_frame(name)
    label = yolo(frame, LVS).label
    jpeg = cv2.imencode('.jpg', frame, [cv2.IMWRITE_JPEG_QUALITY, 97])[1]
    seen = torch.from_numpy(cv2.imdecode(jpeg, cv2.IMREAD_COLOR).transpose(2, 0, 1)[None])
    with torch.no_grad():
        prediction = student(seen.float()).argmax(1)[0].numpy()
    assert mean_iou(prediction, label, len(LVS)) == pytest.approx(
        baseline['key_frames'][0]['metric_before'], abs=5e-4)
