"""Models of transformers with categories of their own, loaded from tiny checkpoints."""

import shutil
import sys

from hf_files import detr, NAMES
import numpy as np
from PIL import Image
import pytest
from safetensors.torch import load_file, save_file
import torch

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.models.teachers import load_teacher, TeacherError

FRAME = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
CLASSES = ClassTable.of(['being: person, dog', 'Sky'])  # 0 is the background
PLACES = np.array([0, 1, 1, 2], np.uint8)  # of NAMES
SEGMENTS = ('mask2former', 'maskformer', 'oneformer', 'detr')


def documented(transformers, folder, auto, post_process, **options):
    """Return what transformers' own documentation does with a picture."""
    told = {'task_inputs': ['panoptic']} if 'oneformer' in folder else {}
    processor = (transformers.AutoProcessor if told else transformers.AutoImageProcessor
                 ).from_pretrained(folder)
    model = getattr(transformers, auto).from_pretrained(folder).eval()
    with torch.no_grad():
        output = model(**processor(
            images=Image.fromarray(FRAME[:, :, ::-1]), return_tensors='pt', **told))
    return getattr(processor, post_process)(output, target_sizes=[(48, 64)], **options)[0]


def test_semantic(transformers, checkpoint, device):
    folder = checkpoint('segformer')
    teacher = load_teacher(f'hf:{folder}', device=device)
    assert teacher.vocabulary == tuple(NAMES.values())
    prediction = teacher(FRAME, CLASSES)
    expected = documented(transformers, folder, 'AutoModelForSemanticSegmentation',
                          'post_process_semantic_segmentation').numpy()
    assert len(np.unique(expected)) > 2
    assert np.mean(prediction.label != PLACES[expected]) <= (0 if device == 'cpu' else 0.02)
    assert prediction.label.dtype == np.uint8 and prediction.scores is None
    assert prediction.boxes.dtype == np.float32 and prediction.boxes.shape[1:] == (4,)


def sure_of_dogs(folder, target):
    """Copy a checkpoint, with a classifier that calls whatever it finds a dog."""
    shutil.copytree(folder, target)
    state = load_file(target / 'model.safetensors')
    biases = [key for key in state if 'class' in key and key.endswith('bias')
              and state[key].shape == (len(NAMES) + 1,)]
    assert biases
    for key in biases:
        state[key] = torch.tensor([0., 50, 0, 0, 0])
    save_file(state, target / 'model.safetensors', {'format': 'pt'})
    return str(target)


@pytest.mark.parametrize('name', SEGMENTS)
def test_segments(transformers, checkpoint, tmp_path, device, name):
    folder = sure_of_dogs(checkpoint(name), tmp_path / name)
    teacher = load_teacher(f'hf:{folder}', 'DEFAULT', device, 0.3)
    assert teacher.vocabulary == tuple(NAMES.values())
    how = 'instance' if name.startswith('mask') else 'panoptic'
    found = documented(
        transformers, folder, 'AutoModelForUniversalSegmentation',
        f'post_process_{how}_segmentation', threshold=0.3,
        **({'label_ids_to_fuse': set()} if how == 'panoptic' else {}))
    segment, = found['segments_info']
    assert segment['label_id'] == 1
    expected = found['segmentation'].numpy() == segment['id']
    # The panoptic functions give all pixels to the only segment.
    assert expected.all() if how == 'panoptic' else 0.1 < expected.mean() < 0.9
    prediction = teacher(FRAME, CLASSES)
    assert np.mean(prediction.label != expected) <= (0 if device == 'cpu' else 0.02)
    assert prediction.scores == pytest.approx([segment['score']], abs=1e-3)
    assert len(load_teacher(f'hf:{folder}', 'DEFAULT', device, 1.0)(FRAME, CLASSES).boxes) == 0


def with_segments(monkeypatch, checkpoint, segmentation, segments, name='detr'):
    teacher = load_teacher(f'hf:{checkpoint(name)}')
    calls = []

    def post_process(output, **options):
        calls.append(options)
        return [{'segmentation': torch.tensor(segmentation), 'segments_info': segments}]
    monkeypatch.setattr(teacher, '_segments', post_process)
    return teacher, calls


def test_labels_boxes_and_scores_of_segments(monkeypatch, checkpoint):
    segmentation = np.zeros((48, 64), np.int32)  # 0 is no segment
    segmentation[:20, 5:30] = 1
    segmentation[10:, 40:50] = 2
    segmentation[30:, :10] = 3
    segmentation[47, 63] = 4
    teacher, calls = with_segments(monkeypatch, checkpoint, segmentation, [
        {'id': 1, 'label_id': 1, 'score': 0.9}, {'id': 2, 'label_id': 0, 'score': 0.8},
        {'id': 3, 'label_id': 3, 'score': 0.7}, {'id': 4, 'label_id': 2, 'score': 0.6},
        {'id': 5, 'label_id': 2, 'score': 0.5}])  # hidden by others
    prediction = teacher(FRAME, CLASSES)
    np.testing.assert_array_equal(
        prediction.label, np.array([0, 1, 0, 2, 1], np.uint8)[segmentation])
    np.testing.assert_array_equal(
        prediction.boxes, [[5, 0, 30, 20], [0, 30, 10, 48], [63, 47, 64, 48]])
    assert prediction.scores == pytest.approx([0.9, 0.7, 0.6])
    assert calls == [
        {'threshold': 0.5, 'label_ids_to_fuse': set(), 'target_sizes': [(48, 64)]}]


def test_overlapping_masks(monkeypatch, checkpoint):
    masks = np.zeros((3, 48, 64), np.float32)
    masks[0, :, :40] = masks[1, :, 30:] = masks[2] = 1
    teacher, calls = with_segments(monkeypatch, checkpoint, masks, [
        {'id': 0, 'label_id': 1, 'score': 0.7}, {'id': 1, 'label_id': 3, 'score': 0.8},
        {'id': 2, 'label_id': 0, 'score': 0.9}], 'mask2former')
    prediction = teacher(FRAME, CLASSES)
    assert (prediction.label[:, :30] == 1).all() and (prediction.label[:, 30:] == 2).all()
    np.testing.assert_array_equal(prediction.boxes, [[30, 0, 64, 48], [0, 0, 40, 48]])
    assert calls == [
        {'threshold': 0.5, 'return_binary_maps': True, 'target_sizes': [(48, 64)]}]


def test_nothing_found(monkeypatch, checkpoint):
    teacher, _ = with_segments(monkeypatch, checkpoint, np.full((48, 64), -1), [])
    prediction = teacher(FRAME, CLASSES)
    assert not prediction.label.any()
    assert prediction.boxes.shape == (0, 4) and prediction.scores.shape == (0,)


def refusal(*args):
    with pytest.raises(TeacherError) as caught:
        load_teacher(*args)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_semantic_segmentation_has_no_scores(checkpoint):
    assert 'has no scores' in refusal(f"hf:{checkpoint('segformer')}", 'DEFAULT', 'cpu', 0.5)


def test_models_that_do_not_segment(transformers, checkpoint, tmp_path):
    message = refusal(f"hf:{checkpoint('bert')}")
    assert "of the kind 'bert', which does not segment images" in message
    assert 'hf:IDEA-Research/grounding-dino-tiny+facebook/sam2.1-hiera-tiny' in message
    message = refusal(f"hf:{detr(transformers, tmp_path / 'boxes', segments=False)}")
    assert 'is a DetrForObjectDetection, wanted a DetrForSegmentation' in message


@pytest.fixture
def copied(checkpoint, tmp_path):
    return shutil.copytree(checkpoint('segformer'), tmp_path / 'copied')


def test_pickled_weights_are_not_opened(copied):
    torch.save({}, copied / 'pytorch_model.bin')
    (copied / 'model.safetensors').unlink()
    assert 'has no weights in safetensors' in refusal(f'hf:{copied}')


def test_code_of_its_own_is_not_run(copied, tmp_path):
    config = (copied / 'config.json').read_text()
    (copied / 'config.json').write_text(config.replace('"segformer"', '"mine"').replace(
        '{', '{"auto_map": {"AutoConfig": "mine.Config"},', 1))
    (copied / 'mine.py').write_text(f"open({str(tmp_path / 'trap')!r}, 'w')")
    assert 'wants code of its own to be run' in refusal(f'hf:{copied}')
    assert not (tmp_path / 'trap').exists()


def test_models_that_this_transformers_does_not_know(copied):
    config = (copied / 'config.json').read_text()
    (copied / 'config.json').write_text(config.replace('"segformer"', '"sam9"'))
    message = refusal(f'hf:{copied}')
    assert 'sam9' in message and 'pip install -U transformers' in message


def test_folders_that_are_none(copied, tmp_path):
    assert 'is not a folder' in refusal(f"hf:{tmp_path / 'missing'}")
    assert 'is not a folder' in refusal('hf:./missing')
    (copied / 'config.json').write_text('{')
    assert 'wanted a model that the transformers here knows' in refusal(f'hf:{copied}')
    (copied / 'config.json').unlink()
    assert 'wanted a model that the transformers here knows' in refusal(f'hf:{copied}')


def test_hub_that_is_not_reached(transformers):
    message = refusal('hf:nobody/nothing')
    assert 'huggingface.co cannot be reached' in message and 'path of a folder' in message


@pytest.mark.parametrize('kind, expected', (
    ('GatedRepoError', 'accept it at https://huggingface.co/some/body'),
    ('RepositoryNotFoundError', 'there is no such model')))
def test_what_the_hub_refuses(transformers, monkeypatch, kind, expected):
    cause = type(kind, (OSError,), {})('401')

    def from_pretrained(*args, **options):
        raise OSError('several\nlines') from cause
    monkeypatch.setattr(transformers.AutoConfig, 'from_pretrained', from_pretrained)
    message = refusal('hf:some/body')
    assert expected in message and 'hf auth login' in message


def test_transformers_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    assert "pip install 'transformers" in refusal('hf:some/body')


def test_device_that_is_not_there(checkpoint):
    assert "cannot run on the device 'cuda:77'" in refusal(
        f"hf:{checkpoint('segformer')}", 'DEFAULT', 'cuda:77')


@pytest.mark.parametrize('name', ('segformer', 'detr', 'clipseg'))
def test_what_is_no_frame(checkpoint, name):
    teacher = load_teacher(f'hf:{checkpoint(name)}')
    for frame in (None, FRAME[..., 0], FRAME.astype(float), FRAME[:0]):
        with pytest.raises(ValueError, match='wanted'):
            teacher(frame, CLASSES)
