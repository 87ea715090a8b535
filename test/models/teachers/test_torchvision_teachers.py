"""Torchvision's networks, with random weights: nothing is downloaded."""

from urllib.error import URLError

import numpy as np
import pytest
from safetensors.torch import save_file
import torch
from torch import nn
from torchvision import models

from shadowtutor_ros.classes import ClassTable, LVS
from shadowtutor_ros.models.teachers import load_teacher, TeacherError, TEACHERS
from shadowtutor_ros.models.teachers import instance, networks, semantic

BACKGROUND, DOG, AUTO = (LVS.names.index(name) for name in ('background', 'dog', 'auto'))
NETWORKS = [name for name, (kind, _) in TEACHERS.items() if kind in ('instance', 'semantic')]
LRASPP = 'lraspp_mobilenet_v3_large'
FRAME = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@pytest.fixture(scope='module')
def state():
    """Return random weights of the smallest network."""
    torch.manual_seed(0)
    return models.get_model(LRASPP, weights=None, weights_backbone=None).state_dict()


@pytest.fixture(scope='module')
def weights(state, tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'lraspp.pth'
    torch.save(state, path)
    return path


def refusal(*args):
    with pytest.raises(TeacherError) as caught:
        load_teacher(*args)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('name', NETWORKS)
def test_vocabulary(name, monkeypatch):
    known = {'person', 'bicycle', 'bird', 'dog', 'horse', 'car', 'bus'} | (
        {'truck', 'elephant', 'giraffe'} if name.startswith('maskrcnn') else set())
    module = instance if name.startswith('maskrcnn') else semantic
    monkeypatch.setattr(module, 'load_network', lambda name, *args, **options: (
        Fake(None), models.get_model_weights(name).DEFAULT))
    teacher = load_teacher(name)
    rows = LVS.rows(teacher.vocabulary)
    assert {name for name, row in zip(teacher.vocabulary, rows) if row != BACKGROUND} == known
    assert teacher.vocabulary.index('__background__') == 0


def test_semantic_network(weights, device):
    teacher = load_teacher(LRASPP, str(weights), device)
    runs = []
    teacher._network.register_forward_hook(
        lambda network, inputs, output: runs.append((inputs[0], output['out'])))
    prediction = teacher(FRAME[:, :48], LVS)
    assert prediction.label.shape == (48, 48) and prediction.label.dtype == np.uint8
    assert prediction.boxes.dtype == np.float32 and prediction.boxes.shape[1:] == (4,)

    # What torchvision's own documentation does with a picture.
    description = models.get_model_weights(LRASPP).DEFAULT
    rgb = torch.from_numpy(FRAME[:, :48, ::-1].transpose(2, 0, 1).copy()).to(device)
    (image, logits), = runs
    assert image.shape == (1, 3, 520, 520)
    torch.testing.assert_close(image[0], description.transforms(antialias=True)(rgb))
    logits = nn.functional.interpolate(logits, (48, 48), mode='bilinear')
    expected = LVS.rows(description.meta['categories'])[
        logits[0].argmax(0).cpu().numpy()]
    np.testing.assert_array_equal(prediction.label, expected)


class Fake(nn.Module):
    """A network with a given output."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, images):
        self.images = images
        return self.output


def with_fake(monkeypatch, module, output):
    name = 'maskrcnn_resnet50_fpn' if module is instance else LRASPP
    network = Fake(output)
    monkeypatch.setattr(module, 'load_network', lambda name, *args, **options: (
        network, models.get_model_weights(name).DEFAULT))
    return load_teacher(name), network


def test_regions_of_a_semantic_network(monkeypatch):
    voc = models.get_model_weights(LRASPP).DEFAULT.meta['categories']
    logits = torch.zeros(1, 21, 48, 64)
    logits[0, voc.index('dog'), :, :32] = 1
    logits[0, voc.index('bus'), :, 32:] = 1
    logits[0, voc.index('cat'), :12] = 2
    teacher, _ = with_fake(monkeypatch, semantic, {'out': logits})
    prediction = teacher(FRAME, LVS)
    assert (prediction.label[:12] == BACKGROUND).all()
    assert (prediction.label[12:, :32] == DOG).all() and (prediction.label[12:, 32:] == AUTO).all()
    np.testing.assert_array_equal(prediction.boxes, [[32, 12, 64, 48], [0, 12, 32, 48]])


def test_instances_of_mask_rcnn(monkeypatch):
    coco = models.get_model_weights('maskrcnn_resnet50_fpn').DEFAULT.meta['categories']
    masks = torch.zeros(4, 1, 48, 64)
    masks[0, 0, :, :40] = 0.6
    masks[1, 0, :, 30:] = 0.9
    masks[1, 0, :9] = 0.5    # not above the threshold
    masks[2, 0, 20:30] = 1   # a handbag hides nothing
    masks[3, 0, :, :35] = 1  # less sure than the dog that covers it
    boxes = torch.arange(16).view(4, 4).float()
    teacher, network = with_fake(monkeypatch, instance, [{
        'labels': torch.tensor([coco.index(n) for n in ('dog', 'truck', 'handbag', 'person')]),
        'scores': torch.tensor([0.8, 0.9, 0.95, 0.7]), 'masks': masks, 'boxes': boxes}])
    prediction = teacher(FRAME, LVS)
    assert (prediction.label[9:, 30:] == AUTO).all() and (prediction.label[9:, :30] == DOG).all()
    assert (prediction.label[:9, :40] == DOG).all()
    assert (prediction.label[:9, 40:] == BACKGROUND).all()
    np.testing.assert_array_equal(prediction.boxes, boxes[[1, 0, 3]])
    assert prediction.scores == pytest.approx([0.9, 0.8, 0.7])
    handbags = ClassTable.of(['handbag'])
    assert (teacher(FRAME, handbags).label[20:30] == 1).all()
    # It was shown RGB from 0 to 1, at the frame's own size.
    shown, = network.images
    np.testing.assert_allclose(shown.permute(1, 2, 0).numpy(), FRAME[:, :, ::-1] / 255, rtol=1e-6)


def test_mask_rcnn(tmp_path, device):
    name = 'maskrcnn_resnet50_fpn'
    network = models.get_model(name, weights=None, weights_backbone=None)
    # As torchvision's own file: its batch norms, which are frozen, count no batches.
    weights = {key: value for key, value in network.state_dict().items()
               if not key.endswith('num_batches_tracked')}
    save_file(weights, tmp_path / 'weights.safetensors')
    teacher = load_teacher(name, str(tmp_path / 'weights.safetensors'), device, 0.01)
    assert teacher._network.roi_heads.score_thresh == 0.01
    assert all(0 < m.eps < 1e-37 for m in teacher._network.modules()
               if isinstance(m, nn.BatchNorm2d)), 'trained with 0, which PyTorch 2.11 refuses'
    teacher._network.transform.min_size = (64,)  # of 800, to be quick
    prediction = teacher(FRAME, LVS)
    assert prediction.label.shape == (48, 64) and prediction.label.dtype == np.uint8
    assert prediction.boxes.dtype == np.float32 and prediction.boxes.shape[1:] == (4,)


def test_what_is_no_frame(weights):
    teacher = load_teacher(LRASPP, str(weights))
    for frame in (None, FRAME[..., 0], FRAME.astype(float), FRAME[:0]):
        with pytest.raises(ValueError, match='wanted'):
            teacher(frame, LVS)


def test_auxiliary_classifier_is_left_out(tmp_path):
    # Torchvision's own files of DeepLabV3 and FCN hold one.
    network = models.get_model(
        'deeplabv3_mobilenet_v3_large', weights=None, weights_backbone=None, aux_loss=True)
    torch.save(network.state_dict(), tmp_path / 'deeplab.pth')
    load_teacher('deeplabv3_mobilenet_v3_large', str(tmp_path / 'deeplab.pth'))


def test_download(state, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    calls = []

    def download(url, path, hash_prefix, progress):
        calls.append((url, hash_prefix))
        torch.save(state, path)
    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    load_teacher(LRASPP)
    load_teacher(LRASPP, 'DEFAULT')
    url = models.get_model_weights(LRASPP).DEFAULT.url
    assert calls == [(url, 'd234d4ea')] and calls[0][1] in url


def test_download_that_fails(monkeypatch, tmp_path):
    def download(*args, **options):
        raise URLError('Name or service not known')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    message = refusal(LRASPP)
    assert 'cannot be downloaded from https://download.pytorch.org/' in message
    assert 'give its path as teacher_weights' in message


def test_weights_that_cannot_be_read(tmp_path, state):
    assert 'are not a file' in refusal(LRASPP, str(tmp_path / 'missing.pth'))
    for name in ('text.pth', 'text.safetensors'):
        (tmp_path / name).write_text('no weights')
        assert 'cannot be read' in refusal(LRASPP, str(tmp_path / name))
    (tmp_path / 'empty.pth').touch()
    assert 'cannot be read' in refusal(LRASPP, str(tmp_path / 'empty.pth'))
    torch.save(Fake(None), tmp_path / 'module.pth')
    message = refusal(LRASPP, str(tmp_path / 'module.pth'))
    assert 'more than tensors' in message and 'weights_only' not in message


def test_weights_that_do_not_fit(tmp_path, state):
    path = tmp_path / 'weights.pth'

    def refused(weights):
        torch.save(weights, path)
        message = refusal(LRASPP, str(path))
        assert message.startswith(f"teacher weights '{path}' do not fit {LRASPP}: ")
        return message
    assert 'got a list' in refused([state])
    assert '1 tensors are unknown, the first is epoch' in refused({**state, 'epoch': 3})
    last = 'classifier.low_classifier.weight'
    assert f'missing, the first is {last}' in refused(
        {key: value for key, value in state.items() if key != last})
    assert f'{last} is a int, wanted a tensor' in refused({**state, last: 3})
    assert f'{last} has shape (9, 40, 1, 1), wanted (21, 40, 1, 1)' in refused(
        {**state, last: state[last][:9]})


def test_device_that_is_not_there(weights):
    assert "cannot run on the device 'cuda:77'" in refusal(LRASPP, str(weights), 'cuda:77')
    assert "cannot run on the device 'gpu'" in refusal(LRASPP, str(weights), 'gpu')


def test_torchvision_that_does_not_fit_torch(monkeypatch, weights):
    monkeypatch.setitem(networks.sys.modules, 'torchvision', None)
    assert 'install the torchvision that goes with torch' in refusal(LRASPP, str(weights))
