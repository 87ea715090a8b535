"""The fast path of the student: a frame in, a mask out."""

import copy
from functools import lru_cache
import time
from typing import Callable
import warnings

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.limits import MIN_SIDE
from shadowtutor_ros.memory import keep_freed_memory
from shadowtutor_ros.models.student.base import Student, Weights
from shadowtutor_ros.models.student.mask import mask_of

#: 'exact' computes in float32; 'fast' in half precision, where the device is faster with it.
PRECISIONS = ('exact', 'fast')


class InferenceEngine:
    """
    Runs a student on frames; its weights and classes can be changed between two frames.

    :param student: its weights are copied; it stays as it is.
    :param precision: one of :data:`PRECISIONS`.
    :param device: of PyTorch, e.g. 'cpu', 'cuda'.
    :param width: wider frames are reduced to this width for inference; 0 infers at the frame's
        own size.
    :ivar enlarge: whether masks of reduced frames are enlarged to the frame's own size.
    :ivar student: holds the weights in use, in float32: the truth that updates are counted
        against. What computes may be a reduced copy of them.
    :ivar features: by which the last frame can be compared with others, 1×C×h×w, on the device and
        in the precision of the engine; they hold until the next frame. None before the first.
    :ivar encoder_version: counts the swaps that changed the encoder: only features of the same one
        can be compared.
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
        self.enlarge = True
        self.device = torch.device(device)
        self.features: torch.Tensor | None = None
        self.encoder_version = 0
        self.student = copy.deepcopy(student).eval().requires_grad_(False)
        self._dtype = torch.float32 if precision == 'exact' else half_precision(self.device)
        self._fast = self.student.fast_path(self.device, self._dtype)
        self._graph: _Graph | None = None
        self._graphs = self.device.type == 'cuda'
        #: Whether to say how sure it is, and that of the last frame, as large as its mask, uint8:
        #: 255 times the probability of the class that was chosen; None where nobody asked.
        self.with_confidence = False
        self.confidence: np.ndarray | None = None
        self._rows = tuple(range(len(student.classes)))
        self.swap(self.student.tensors())

    @property
    def classes(self) -> ClassTable:
        """The classes of its masks."""
        return self.student.classes

    def swap(self, tensors: Weights) -> None:
        """
        Replace weights; not while a frame is inferred.

        :param tensors: float32, by name; names and shapes are those of the student.
        """
        own = self.student.state_dict()
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
        # There may be other rows of the head by now than when the fast path was made.
        self._fast.swap({name: tensor for name, tensor in tensors.items()
                         if not self.student.has_rows(name)})
        self.encoder_version += any(
            name.partition('.')[0] in self.student.encoder for name in tensors)
        self._fast.offer(self.student, self._rows)

    def change_classes(self, weights: Weights, classes: ClassTable) -> None:
        """
        Go on with other classes, all of which may be chosen; not while a frame is inferred.

        :param weights: all of them, with rows for these classes.
        """
        own = self.student.state_dict()
        changed = {name: tensor for name, tensor in weights.items()
                   if tensor.shape == own[name].shape and not torch.equal(tensor, own[name])}
        self.student = self.student.copy_with(weights, classes).requires_grad_(False)
        self._rows = tuple(range(len(classes)))
        self._graph = None
        self.swap(changed)

    def restrict(self, classes: tuple[int, ...]) -> None:
        """
        Choose from these classes alone; not while a frame is inferred.

        No others are computed.

        :param classes: their places in the table, ascending, one at least.
        """
        if classes != self._rows:
            if len(classes) != len(self._rows):
                self._graph = None
            self._rows = classes
            self._fast.offer(self.student, classes)

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """
        Segment a frame.

        :param frame: H×W×3 uint8, BGR, H and W at least ``MIN_SIDE``.
        :returns: H×W uint8, classes by their places in the table; smaller where the frame was
            reduced and :attr:`enlarge` is not set.
        """
        height, width = frame.shape[:2]
        if 0 < self.width < width:
            size = self.width, max(MIN_SIDE, round(height * self.width / width))
            frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        inner, multiple = frame.shape[:2], self.student.multiple
        if inner[0] % multiple or inner[1] % multiple:
            frame = cv2.copyMakeBorder(
                frame, 0, -inner[0] % multiple, 0, -inner[1] % multiple, cv2.BORDER_REPLICATE)
        # PyTorch warns of arrays that are read-only, as those over messages may be.
        pixels = torch.from_numpy(np.require(frame, requirements=('C', 'W')))
        infer = self._replay if self._graphs and not self.with_confidence else self._infer
        self.confidence = None
        mask, self.features = infer(pixels)
        mask = mask.cpu().numpy()[:inner[0], :inner[1]]
        if len(self._rows) < len(self.student.classes):
            mask = cv2.LUT(np.ascontiguousarray(mask), self._lut())
        if self.confidence is not None:
            self.confidence = np.ascontiguousarray(self.confidence[:inner[0], :inner[1]])
        if self.enlarge and inner != (height, width):
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
            if self.confidence is not None:
                self.confidence = cv2.resize(self.confidence, (width, height))
        return np.ascontiguousarray(mask)

    def _lut(self) -> np.ndarray:
        lut = np.zeros(256, np.uint8)
        lut[:len(self._rows)] = self._rows
        return lut

    def _infer(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the mask, H×W uint8 places among the rows on offer, and features."""
        # TensorFloat-32, the default, rounds more. No search for the fastest kernels: it takes a
        # second at the first frame of a size, and is a setting of the whole process: a thread that
        # trains would search too, and so break off the recording of a graph.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            logits, features = self._fast(pixels.to(self.device))
        if self.with_confidence:
            self.confidence = _confidence(logits, pixels.shape[:2])
        return mask_of(logits, tuple(pixels.shape[:2])), features

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


def _confidence(logits: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Compute 255 times the largest probability of each pixel, H×W uint8."""
    sure = (255 * logits.float().softmax(0).amax(0)).cpu().numpy()
    return np.rint(cv2.resize(sure, size[::-1])).astype(np.uint8)


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
