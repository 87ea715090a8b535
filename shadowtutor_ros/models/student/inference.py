"""The fast path of the student: a frame in, a mask out."""

import copy
import ctypes
from functools import lru_cache
import time
from typing import Callable
import warnings

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from shadowtutor_ros.limits import MIN_SIDE
from shadowtutor_ros.models.student.mask import mask_of
from shadowtutor_ros.models.student.network import Block, ENCODER, PIXEL_MEAN, Student
from shadowtutor_ros.models.student.tail import MergedTail, SCALE

#: 'exact' computes in float32; 'fast' in half precision, where the device is faster with it.
PRECISIONS = ('exact', 'fast')

#: What one block hands to the next is multiplied by this. Every block begins with a batch
#: normalisation, which undoes it, and no digit is lost to a power of two. Without it the features
#: of the shipped student reach 48,576 on real videos, and float16 ends at 65,504.
SHRINK = 2. ** -5

#: Taken from the logits of classes that must not be chosen; in half precision it is finite too.
_NEVER = 1e4


class InferenceEngine:
    """
    Runs a student on frames; its weights can be swapped between two frames.

    :param student: its weights are copied; it stays as it is.
    :param precision: one of :data:`PRECISIONS`.
    :param device: of PyTorch, e.g. 'cpu', 'cuda'.
    :param width: wider frames are reduced to this width for inference, and the mask enlarged
        again; 0 infers at the frame's own size.
    :ivar last_enc3: what ``enc3`` made of the last frame, times :data:`SHRINK`,
        1×128×⌈H/32⌉×⌈W/32⌉, on the device and in the precision of the engine; it holds until the
        next frame. None before the first.
    :ivar encoder_version: counts the swaps that changed the blocks up to ``enc3``: only features
        of the same one can be compared.
    :raises ValueError: if the precision is unknown.
    """

    def __init__(
            self, student: Student, precision: str = 'exact', device: str = 'cpu',
            width: int = 0):
        if precision not in PRECISIONS:
            raise ValueError(
                f"precision '{precision}' is unknown: choose one of {', '.join(PRECISIONS)}")
        keep_freed_memory()
        self.width = width
        self.device = torch.device(device)
        self.last_enc3: torch.Tensor | None = None
        self.encoder_version = 0
        # Float32 weights are the truth that updates are counted against; what computes may be
        # a reduced copy of them.
        self.student = copy.deepcopy(student).eval().requires_grad_(False)
        self._dtype = torch.float32 if precision == 'exact' else half_precision(self.device)
        self._network = copy.deepcopy(self.student).to(
            self.device, memory_format=torch.channels_last)
        for name, block in self._network.named_children():
            # Rounding hurts most in the first two convolutions, and there is little to gain.
            if not name.startswith('in_'):
                block.to(self._dtype)
            if isinstance(block, Block):
                block.preact_path[0].eps *= SHRINK ** 2
        self._tail = MergedTail(
            *(part.to(self.device, self._dtype) for part in self.student.merged_tail()))
        self._allowed = torch.ones(student.num_classes, dtype=torch.bool)
        self.swap(self.student.tensors())
        self._pixel_mean = torch.tensor(PIXEL_MEAN, device=self.device)
        self._graph: _Graph | None = None
        self._graphs = self.device.type == 'cuda'

    def swap(self, tensors: dict[str, torch.Tensor]) -> None:
        """
        Replace weights; not while a frame is inferred.

        :param tensors: float32, by name; names and shapes are those of the student.
        """
        reduced = self._network.state_dict()
        own = self.student.state_dict()
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
            reduced[name].copy_(SHRINK * tensor if _ends_block(name) else tensor)
        self.encoder_version += any(name.partition('.')[0] in ENCODER for name in tensors)
        self._merge()

    def restrict(self, classes: tuple[int, ...]) -> None:
        """
        Choose from these classes alone; not while a frame is inferred.

        :param classes: ids, one at least.
        """
        allowed = torch.zeros(self.student.num_classes, dtype=torch.bool)
        allowed[list(classes)] = True
        if not torch.equal(allowed, self._allowed):
            self._allowed = allowed
            self._merge()

    def _merge(self) -> None:
        """Merge the last layers anew; a class that is not allowed is never the largest."""
        handicap = _NEVER * (~self._allowed).float()
        self._network.out_conv3.bias.copy_(self.student.out_conv3.bias - handicap)
        kernels, biases = self.student.merged_tail()
        self._tail.kernels.copy_(kernels)
        self._tail.biases.copy_(biases - handicap.repeat_interleave(SCALE ** 2))

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """
        Segment a frame.

        :param frame: H×W×3 uint8, BGR, H and W at least ``MIN_SIDE``.
        :returns: H×W uint8 class ids.
        """
        height, width = frame.shape[:2]
        if 0 < self.width < width:
            size = self.width, max(MIN_SIDE, round(height * self.width / width))
            frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        # PyTorch warns of arrays that are read-only, as those over messages may be.
        pixels = torch.from_numpy(np.require(frame, requirements=('C', 'W')))
        infer = self._replay if self._graphs else self._infer
        mask, self.last_enc3 = infer(pixels)
        mask = mask.cpu().numpy()
        if mask.shape != (height, width):
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        return mask

    def _infer(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the mask, H×W uint8, and ``enc3`` of H×W×3 uint8."""
        height, width = pixels.shape[:2]
        # Whole rows at a time, which takes a fraction of the time of three values at a time.
        rows = pixels.to(self.device).view(height, -1).float()
        rows -= self._pixel_mean.repeat(width)
        # A permuted H×W×3 image is a channels_last batch of one.
        x = rows.view(1, height, width, 3).permute(0, 3, 1, 2)
        # TensorFloat-32, the default, rounds more. No search for the fastest kernels: it takes a
        # second at the first frame of a size, and is a setting of the whole process: a thread that
        # trains would search too, and so break off the recording of a graph.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            features = self._network.encode(self._network.stem(x).to(self._dtype))
            logits = self._network.half_size_logits(features, (height, width), self._tail)
        return mask_of(logits[0], (height, width)), features.enc3

    def _replay(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Do as :meth:`_infer` with a CUDA graph, recorded at the first frame of a size."""
        if self._graph is None or self._graph.pixels.shape != pixels.shape:
            self._graph = None
            try:
                self._graph = _Graph(self._infer, pixels, self.device)
            except RuntimeError as error:
                self._graphs = False
                reason = str(error).partition('\n')[0]
                warnings.warn(f'inference goes on without CUDA graphs ({reason})', stacklevel=3)
                return self._infer(pixels)
        return self._graph(pixels)

    def warm_up(self, height: int, width: int) -> None:
        """
        Infer an empty frame, so that libraries are loaded and set up before the first real one.

        Only of this size the first one is then as fast as any.
        """
        self(np.zeros((height, width, 3), np.uint8))


def _ends_block(name: str) -> bool:
    """Tell whether a tensor belongs to a layer whose output goes to another block's input."""
    block, _, layer = name.partition('.')
    # After dec3 come the last layers, without a batch normalisation.
    return block == 'in_conv2' or (
        block != 'dec3' and layer.startswith(('short_path.', 'long_path.3.')))


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


def cuda_is_lost(error: Exception) -> bool:
    """
    Tell whether an error has left CUDA unusable: every call of this process fails from then on.

    So it is after an illegal address or a failed assertion on the device. Want of memory and a
    wrong argument pass.
    """
    if not any(words in str(error) for words in ('CUDA error', 'CUDA failure', 'cuDNN error')):
        return False
    try:
        torch.cuda.synchronize()
    except Exception:
        return True
    return False


def use_threads(count: int) -> None:
    """Let PyTorch compute with so many threads in this process; 0 for its own choice."""
    if count:
        torch.set_num_threads(count)


@lru_cache(maxsize=None)
def keep_freed_memory() -> None:
    """
    Let this process keep the memory that tensors leave, where the C library is glibc.

    It would give it back to the kernel and fetch it again, page by page, for every frame.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return
    # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h; 32 MiB is the most the first takes.
    mallopt(-3, 2 ** 25)
    mallopt(-1, 2 ** 29)


def half_precision(device: torch.device) -> torch.dtype:
    """Return the reduced precision of a device; float32 where it has none that is faster."""
    if device.type == 'cuda':
        return torch.float16
    return torch.bfloat16 if device.type == 'cpu' and _bfloat16_is_fast() else torch.float32


@lru_cache(maxsize=None)
def _bfloat16_is_fast() -> bool:
    """Try it: where a CPU has no instructions for it, bfloat16 is emulated, and slow."""
    def seconds(dtype: torch.dtype) -> float:
        x = torch.ones(1, 64, 45, 80, dtype=dtype).to(memory_format=torch.channels_last)
        weight, times = torch.ones(64, 64, 3, 3, dtype=dtype), []
        for _ in range(8):
            begin = time.perf_counter()
            F.conv2d(x, weight, padding=1)
            times.append(time.perf_counter() - begin)
        return min(times)
    return seconds(torch.bfloat16) < 0.9 * seconds(torch.float32)


class _Graph:
    """
    What the GPU does for a frame, recorded once and then started at a stroke.

    :param compute: H×W×3 uint8 on the device to a mask, H×W uint8, and features.
    :param pixels: a first frame.
    :raises RuntimeError: if it cannot be recorded.
    """

    def __init__(
            self, compute: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
            pixels: torch.Tensor, device: torch.device):
        self._device = device
        self.pixels = pixels.to(device)
        # Copies between pinned memory and the device need not wait for each other.
        self._frame = torch.empty_like(pixels, pin_memory=True)
        self._mask = torch.empty(pixels.shape[:2], dtype=torch.uint8, pin_memory=True)
        with torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream()):
            # Where recording fails torch.cuda.graph stays on its stream; here ours is set again.
            # What libraries set up at their first call cannot be recorded.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    compute(self.pixels)
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            # Another thread may train meanwhile. PyTorch's own stream is of the first device that
            # a graph was recorded on.
            with torch.cuda.graph(
                    self._graph, stream=stream, capture_error_mode='thread_local'):
                self._result = compute(self.pixels)

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute another frame of the same size; the features hold until the next."""
        mask, features = self._result
        self._frame.copy_(pixels)
        with torch.cuda.device(self._device):
            self.pixels.copy_(self._frame, non_blocking=True)
            self._graph.replay()
            self._mask.copy_(mask, non_blocking=True)
            torch.cuda.current_stream().synchronize()
        return self._mask.clone(), features
