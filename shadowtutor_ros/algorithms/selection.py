"""
Which of the weights that were trained on a key frame keep their change, and so are sent.

Adam moves all weights about as far, whatever comes of it; nearly all that a key frame brings comes
of few of them. Adaptive Model Streaming (Khani et al., ICCV 2021) trains those alone that Adam's
last step moved most; here all are trained, and those that bring the loss down most are kept.
"""

import torch

from shadowtutor_ros.models.student.base import Weights


def most_effective(before: Weights, after: Weights, gradients: Weights, share: float) -> Weights:
    """
    Return weights of which those alone are changed whose change is of most effect.

    To the first order a change of a weight changes the loss by its product with the gradient.

    :param before: the weights by name.
    :param after: what training made of them, of the same shapes.
    :param gradients: of the loss, likewise; Adam's first moment is their average over some ten
        steps.
    :param share: of all the weights together that is changed, above 0 to 1; one at least.
    """
    effects = [((after[name] - before[name]) * gradients[name]).abs() for name in before]
    flat = torch.cat([effect.flatten() for effect in effects])
    least = flat.topk(max(1, round(share * len(flat)))).values[-1]
    return {name: torch.where(effect >= least, after[name], before[name])
            for name, effect in zip(before, effects)}
