"""
Which of the weights that were trained on a key frame keep their change, and so are sent.

Adam moves all weights about as far, whatever comes of it; nearly all that a key frame brings comes
of few of them. Adaptive Model Streaming (Khani et al., ICCV 2021) trains those alone that Adam's
last step moved most; here all are trained, and those that bring the loss down most are kept.
"""

import torch

from shadowtutor_ros.models.student.base import Weights


@torch.no_grad()
def keep_most_effective(
        tensors: Weights, before: Weights, optimizer: torch.optim.Adam, share: float) -> None:
    """
    Set weights back to what they were, but for those whose change was of most effect.

    To the first order a change of a weight changes the loss by its product with the gradient;
    Adam's first moment is the gradient, averaged over the last ten steps or so.

    :param tensors: that were trained, by name; set in place.
    :param before: what they were, likewise.
    :param optimizer: of them.
    :param share: of all their weights that is kept, above 0 to 1.
    """
    changes = [tensor - before[name] for name, tensor in tensors.items()]
    effects = torch.cat([
        (change * optimizer.state[tensor]['exp_avg']).abs().flatten()
        for change, tensor in zip(changes, tensors.values())])
    kept = max(1, round(share * len(effects)))
    least = effects.topk(kept).values[-1]
    parts = effects.split([change.numel() for change in changes])
    for (name, tensor), change, part in zip(tensors.items(), changes, parts):
        tensor.copy_(torch.where(part.view(tensor.shape) >= least, tensor, before[name]))
