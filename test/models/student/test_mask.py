import pytest
from shadowtutor_ros.models.student.mask import mask_of
import torch
import torch.nn.functional as F


def plain(logits, size):
    enlarged = F.interpolate(logits[None], size=size, mode='bilinear', align_corners=False)
    return enlarged[0].argmax(0).to(torch.uint8)


def smooth(classes, height, width):
    coarse = torch.randn(1, classes, 3, 4)
    return F.interpolate(coarse, size=(height, width), mode='bicubic')[0]


@pytest.mark.parametrize('size', [
    (2, 2), (2, 8), (8, 2), (34, 46), (33, 46), (34, 45), (33, 45), (1, 1)])
@pytest.mark.parametrize('make', [torch.randn, smooth])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_equals_enlargement_and_argmax(size, make, memory_format):
    torch.manual_seed(5)
    half = [(side + 1) // 2 for side in size]
    logits = make(9, *half)[None].contiguous(memory_format=memory_format)[0]
    labels = mask_of(logits, size)
    assert labels.shape == size and labels.dtype == torch.uint8
    assert torch.equal(labels, plain(logits, size))


def test_one_class_between_others_can_win():
    # At neither of two neighbours, but between them: second everywhere, and the best on average.
    logits = torch.tensor([[10.0, 0.0], [0.0, 10.0], [9.0, 9.0]])[:, None].expand(3, 2, 2)
    assert mask_of(logits, (4, 4)).tolist() == [[0, 2, 2, 1]] * 4


def test_leaves_the_logits_as_they_are():
    logits = smooth(9, 8, 8)
    before = logits.clone()
    mask_of(logits, (16, 16))
    assert torch.equal(logits, before)


@pytest.mark.parametrize('classes', [1, 2, 21])
def test_any_number_of_classes(classes):
    logits = smooth(classes, 6, 7)
    assert torch.equal(mask_of(logits, (12, 14)), plain(logits, (12, 14)))


def test_half_precision_is_interpolated_in_full():
    logits = smooth(9, 20, 30).bfloat16()
    assert torch.equal(mask_of(logits, (40, 60)), plain(logits.float(), (40, 60)))
