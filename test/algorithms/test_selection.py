"""Which changes of weights are kept."""

import pytest
import torch

from shadowtutor_ros.algorithms.selection import most_effective


def test_those_are_kept_that_bring_the_loss_down_most():
    before = {'a': torch.tensor([[5.0, 5.0], [5.0, 5.0]]), 'b': torch.tensor([-1.0, -1.0])}
    changes = {'a': torch.tensor([[1.0, -3.0], [0.1, 0.0]]), 'b': torch.tensor([2.0, 1.0])}
    gradients = {'a': torch.tensor([[0.1, 0.5], [9.0, 99.0]]), 'b': torch.tensor([0.1, -1.0])}
    after = {name: before[name] + changes[name] for name in before}
    # Effects: 0.1, 1.5, 0.9, 0 and 0.2, 1.
    left = most_effective(before, after, gradients, 0.5)
    assert torch.equal(left['a'], torch.tensor([[5.0, 2.0], [5.1, 5.0]]))
    assert torch.equal(left['b'], torch.tensor([-1.0, 0.0]))


@pytest.mark.parametrize('share, kept', [(1.0, 400), (0.1, 40), (0.01, 4), (0.0001, 1)])
def test_the_share_is_of_all_together(share, kept):
    generator = torch.Generator().manual_seed(0)
    before = {'a': torch.zeros(3, 100), 'b': torch.zeros(100)}
    after, gradients = ({name: torch.rand(tensor.shape, generator=generator) + 0.1
                         for name, tensor in before.items()} for _ in range(2))
    left = most_effective(before, after, gradients, share)
    assert sum(int(tensor.count_nonzero()) for tensor in left.values()) == kept


def test_how_values_lie_does_not_matter():
    after = torch.arange(24.0).view(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    before, gradients = torch.zeros(1, 2, 3, 4), torch.ones(1, 2, 3, 4)
    left = most_effective({'a': before}, {'a': after}, {'a': gradients}, 0.25)['a']
    assert left.flatten().nonzero().flatten().tolist() == list(range(18, 24))
