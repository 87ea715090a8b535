"""The fast path of the student: a frame in, a label map out."""

import copy

import cv2
import numpy as np
import torch

from shadowtutor_ros.models.student import MIN_SIDE, Student

#: 'exact' computes in float32; 'fast' in half precision, where the device is faster with it.
PRECISIONS = ('exact', 'fast')


class InferenceEngine:
    """
    Runs a student on frames; its weights can be swapped between two frames.

    :param student: its weights are copied; it stays as it is.
    :param precision: one of :data:`PRECISIONS`.
    :param device: of PyTorch, e.g. 'cpu', 'cuda'.
    :param width: wider frames are reduced to this width for inference, and the label map enlarged
        again; 0 infers at the frame's own size.
    :raises ValueError: if the precision is unknown.
    """

    def __init__(
            self, student: Student, precision: str = 'exact', device: str = 'cpu',
            width: int = 0):
        if precision not in PRECISIONS:
            raise ValueError(
                f"precision '{precision}' is unknown: choose one of {', '.join(PRECISIONS)}")
        self.width = width
        self.device = torch.device(device)
        # Float32 weights are the truth that updates are counted against; what computes may be
        # a reduced copy of them.
        self.student = copy.deepcopy(student).eval().requires_grad_(False)
        self._dtype = torch.float32 if precision == 'exact' else half_precision(self.device)
        self._network = copy.deepcopy(self.student).to(
            self.device, self._dtype, memory_format=torch.channels_last)

    def swap(self, tensors: dict[str, torch.Tensor]) -> None:
        """
        Replace weights; not while a frame is inferred.

        :param tensors: float32, by name; names and shapes are those of the student.
        """
        reduced = self._network.state_dict()
        own = self.student.state_dict()
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
            reduced[name].copy_(tensor)

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """
        Segment a frame.

        :param frame: H×W×3 uint8, BGR, H and W at least ``student.MIN_SIDE``.
        :returns: H×W uint8 class ids.
        """
        height, width = frame.shape[:2]
        if 0 < self.width < width:
            size = self.width, max(MIN_SIDE, round(height * self.width / width))
            frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        # PyTorch warns of arrays that are read-only, as those over messages may be.
        x = torch.from_numpy(np.require(frame, requirements=('C', 'W'))).to(self.device)
        logits = self._network(x.permute(2, 0, 1)[None].to(self._dtype))
        mask = logits[0].argmax(0).to(torch.uint8).cpu().numpy()
        if mask.shape != (height, width):
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        return mask

    def warm_up(self, height: int, width: int) -> None:
        """Infer one empty frame of this size, so that the first real one is as fast as any."""
        self(np.zeros((height, width, 3), np.uint8))


def choose_device(name: str) -> str:
    """
    Turn 'auto' into a device of PyTorch, and check any other.

    :raises ValueError: if the device is not there.
    """
    if name == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition('\n')[0]
        raise ValueError(
            f"device '{name}' cannot be used ({reason}): choose 'cpu', 'cuda' or 'auto'") from None
    return name


def use_threads(count: int) -> None:
    """Let PyTorch compute with so many threads in this process; 0 for its own choice."""
    if count:
        torch.set_num_threads(count)


def half_precision(device: torch.device) -> torch.dtype:
    """Return the reduced precision of a device; float32 where it has none that is fast."""
    if device.type == 'cuda':
        return torch.float16
    # Without these instructions bfloat16 is emulated, and slower than float32.
    flags = torch.backends.cpu.get_cpu_capability()
    bf16 = getattr(torch.cpu, '_is_avx512_bf16_supported', lambda: False)()
    return torch.bfloat16 if bf16 and flags.startswith('AVX512') else torch.float32
