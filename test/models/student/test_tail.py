import pytest
from shadowtutor_ros.models.student.tail import apply_tail, merge_tail
import torch
from torch import nn
import torch.nn.functional as F


@pytest.fixture
def layers():
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(5, 6, 3, padding=1), nn.Conv2d(6, 7, 3, padding=1), nn.Conv2d(7, 4, 1)).double()


def merged(layers):
    conv1, conv2, conv3 = layers
    return merge_tail(conv1, conv2, conv3.weight, conv3.bias)


def plain(layers, x):
    return layers(F.interpolate(x, scale_factor=4, mode='bilinear', align_corners=False))


@pytest.mark.parametrize('height, width', [(3, 3), (3, 4), (7, 5)])
def test_equals_the_layers_up_to_the_border(layers, height, width):
    x = torch.randn(2, 5, height, width, dtype=torch.float64)
    result = apply_tail(merged(layers), x)
    assert result.shape == (2, 4, 4 * height, 4 * width)
    assert torch.allclose(result, plain(layers, x), atol=1e-12)


def test_rows_alone_are_those_of_all(layers):
    x = torch.randn(1, 5, 4, 5, dtype=torch.float64)
    conv1, conv2, conv3 = layers
    some = merge_tail(conv1, conv2, conv3.weight[[3, 1]], conv3.bias[[3, 1]])
    assert some.kernels.shape[2] == 2 * 16
    assert torch.allclose(apply_tail(some, x), plain(layers, x)[:, [3, 1]], atol=1e-12)


def test_gradients_equal_those_of_the_layers(layers):
    x = torch.randn(2, 5, 4, 6, dtype=torch.float64, requires_grad=True)
    weighting = torch.randn(2, 4, 16, 24, dtype=torch.float64)
    wanted = [x, *layers.parameters()]
    own = torch.autograd.grad((apply_tail(merged(layers), x) * weighting).sum(), wanted)
    expected = torch.autograd.grad((plain(layers, x) * weighting).sum(), wanted)
    for one, other in zip(own, expected):
        assert torch.allclose(one, other, atol=1e-10)


def test_can_be_trained_after_inference():
    layers = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 1)
    for module in layers:
        module.half()  # a precision that no other test uses, so that nothing was computed for it
    with torch.inference_mode():
        merged(layers)
    merged(layers).kernels.sum().backward()
    assert layers[0].weight.grad.abs().sum() > 0


def test_merges_in_full_precision_where_training_is_mixed():
    layers = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 1)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = merged(layers)
    assert all(torch.equal(*parts) for parts in zip(mixed, merged(layers)))
