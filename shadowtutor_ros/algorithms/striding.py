"""Algorithm 2 of the paper: key-frame striding."""

#: The paper's settings of Algorithms 1 and 2.
THRESHOLD = 0.8
MIN_STRIDE = 8
MAX_STRIDE = 64
MAX_UPDATES = 8


def next_stride(
        metric: float, stride: int, *,
        threshold: float = THRESHOLD,
        min_stride: int = MIN_STRIDE,
        max_stride: int = MAX_STRIDE) -> int:
    """
    Compute the distance to the next key frame: longer if the student does well.

    The stride is multiplied by a ratio that grows piecewise linearly with the metric: from 0 to 1
    up to the threshold, from 1 to 2 above it (paper, Algorithm 2).

    :param metric: mean IoU of the student on the last key frame, after training, 0 to 1.
    :param stride: the present distance, in frames, at least 1.
    :param threshold: THRESHOLD, 0 < threshold < 1.
    :param min_stride: MIN_STRIDE, in frames, at least 1.
    :param max_stride: MAX_STRIDE, in frames, at least ``min_stride``.
    :returns: frames, in [min_stride, max_stride].
    """
    if metric > threshold:
        ratio = (metric + 1 - 2 * threshold) / (1 - threshold)
    else:
        ratio = metric / threshold
    return max(min_stride, min(max_stride, int(ratio * stride)))
