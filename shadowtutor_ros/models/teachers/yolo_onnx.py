"""Teachers from ONNX files: YOLO-style instance segmentation, run by onnxruntime."""

import ast
import logging
from pathlib import Path

import cv2
import numpy as np

from shadowtutor_ros.classes import ClassTable, COCO_NAMES
from shadowtutor_ros.models.teachers.base import TeacherPrediction
from shadowtutor_ros.models.teachers.checks import check_frame, one_line, TeacherError
from shadowtutor_ros.models.teachers.label_maps import paint_instances

#: Of two boxes of one category that overlap by more than this IoU, the surer one stays.
NMS_IOU = 0.6

_PADDING = 114  # the grey that these networks were trained with
_STRIDE = 32    # height and width of their input are multiples of it

_DTYPES = {'tensor(float)': np.float32, 'tensor(float16)': np.float16}


class YoloOnnxTeacher:
    """
    A YOLO-style instance segmentation network in an ONNX file, such as Ultralytics exports.

    Its input is 1×3×H×W, RGB from 0 to 1, H and W multiples of 32 or fixed by the file. Its
    outputs are 1×(4 + categories + K)×N: centre x, centre y, width and height in pixels, category
    scores, K mask coefficients; and 1×K×H/4×W/4 mask prototypes. The categories are those named in
    the file's metadata, else COCO's 80.

    :param path: of the file.
    :param device: 'cuda' or 'cuda:N' to run on a GPU where onnxruntime can, else the CPU is used.
    :param score_threshold: instances with a higher score count, 0 to 1.
    :param long_side: pixels that a frame's longer side is resized to; None: its own. A file with
        a fixed input decides for itself.
    :raises TeacherError: if onnxruntime cannot be imported, or the file cannot be read or is
        another kind of network.
    """

    def __init__(
            self, path: str, device: str = 'cpu', score_threshold: float = 0.3,
            long_side: int | None = None):
        self._session = _open(path, device)
        self._score_threshold = score_threshold
        self._long_side = long_side
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _DTYPES or len(inputs[0].shape) != 4:
            got = ', '.join(f'{i.name} {i.type} {i.shape}' for i in inputs) or 'none'
            raise TeacherError(
                f"the teacher '{path}' has the inputs {got}; wanted one image input, 1×3×H×W float"
                ': export a YOLO segmentation network')
        self._input = inputs[0].name
        self._dtype = _DTYPES[inputs[0].type]
        size = inputs[0].shape[2:]
        #: (H, W) of the input where the file fixes it.
        self._size = tuple(size) if all(isinstance(side, int) for side in size) else None
        # One run on grey tells the shapes that a file need not declare, and warms up.
        try:
            outputs = self._run(np.full(
                (*(self._size or (2 * _STRIDE, 2 * _STRIDE)), 3), _PADDING, np.uint8))
        except Exception as error:  # onnxruntime's errors have no common type but this
            raise TeacherError(
                f"the teacher '{path}' cannot be run on an image ({one_line(error)}): export a "
                'YOLO segmentation network') from None
        shapes = [output.shape for output in outputs]
        if [len(shape) for shape in shapes] != [3, 4] or any(shape[0] != 1 for shape in shapes):
            raise TeacherError(
                f"the teacher '{path}' has outputs of the shapes {shapes}; wanted boxes 1×C×N and "
                'mask prototypes 1×K×h×w: export a YOLO segmentation network')
        self._categories = shapes[0][1] - 4 - shapes[1][1]
        self.vocabulary = tuple(self._names(path))

    def _names(self, path: str) -> list[str] | tuple[str, ...]:
        text = self._session.get_modelmeta().custom_metadata_map.get('names')
        names = COCO_NAMES
        if text:  # Ultralytics writes a Python dict: {0: 'person', 1: …}
            try:
                names = [str(name) for _, name in sorted(ast.literal_eval(text).items())]
            except (AttributeError, SyntaxError, TypeError, ValueError):
                raise TeacherError(
                    f"the teacher '{path}' names its categories {text[:60]!r} in its metadata; "
                    "wanted a dict such as {0: 'person'}") from None
        if len(names) != self._categories:
            raise TeacherError(
                f"the teacher '{path}' has {self._categories} categories, but "
                f"{len(names)} names {'in its metadata' if text else '(those of COCO)'}: export a "
                'YOLO segmentation network trained on COCO, or with its names in the metadata')
        return names

    def _run(self, image: np.ndarray) -> list[np.ndarray]:
        """Run the network on an H×W×3 uint8 BGR image of the input's size; return its outputs."""
        values = image[None, :, :, ::-1].transpose(0, 3, 1, 2).astype(np.float32, order='C')
        values /= 255
        outputs = self._session.run(None, {self._input: values.astype(self._dtype, copy=False)})
        return sorted((output.astype(np.float32, copy=False) for output in outputs), key=np.ndim)

    def _fit(self, frame: np.ndarray) -> tuple[np.ndarray, float]:
        """Resize a frame to fit the input and pad it right and below; return also the scale."""
        height, width = frame.shape[:2]
        if self._size:
            scale = min(self._size[0] / height, self._size[1] / width)
        else:
            scale = self._long_side / max(height, width) if self._long_side else 1
        if scale != 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            frame = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
        size = self._size or [-(-side // _STRIDE) * _STRIDE for side in frame.shape[:2]]
        image = np.full((*size, 3), _PADDING, np.uint8)
        image[:frame.shape[0], :frame.shape[1]] = frame
        return image, scale

    def __call__(self, frame: np.ndarray, classes: ClassTable) -> TeacherPrediction:
        """
        Label a frame.

        :param frame: H×W×3 uint8, BGR.
        :param classes: that it is labelled with.
        :raises ValueError: if the frame is something else.
        """
        check_frame(frame)
        rows_of = classes.rows(self.vocabulary)
        height, width = frame.shape[:2]
        image, scale = self._fit(frame)
        rows, prototypes = (output[0] for output in self._run(image))

        scores = rows[4:4 + self._categories]
        rows = rows[:, scores.max(axis=0) > self._score_threshold]
        scores = rows[4:4 + self._categories]
        categories, scores = scores.argmax(axis=0), scores.max(axis=0)
        centres, sizes = rows[:2].T, rows[2:4].T
        boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
        coefficients = rows[4 + self._categories:].T

        keep = suppress(boxes, scores, categories)
        keep = keep[rows_of[categories[keep]] != classes.background]
        # Whole pixels, so that a mask ends where its box does.
        pixels = np.round(boxes[keep] / scale).astype(int)
        pixels = np.clip(pixels, 0, (width, height, width, height))
        seen = (pixels[:, 2:] > pixels[:, :2]).all(axis=1)
        keep, pixels = keep[seen], pixels[seen]

        logits = np.tensordot(coefficients[keep], prototypes, axes=1)
        masks = np.zeros((len(keep), height, width), bool)
        inner = [round(side * scale) for side in (height, width)]
        for mask, probability, (x1, y1, x2, y2) in zip(masks, sigmoid(logits), pixels):
            probability = cv2.resize(probability, image.shape[1::-1])[:inner[0], :inner[1]]
            if scale != 1:
                probability = cv2.resize(probability, (width, height))
            mask[y1:y2, x1:x2] = probability[y1:y2, x1:x2] > 0.5
        return TeacherPrediction(
            paint_instances(
                (height, width), masks, rows_of[categories[keep]], classes.background),
            pixels.astype(np.float32), scores[keep])


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Compute 1 / (1 + exp(-x)) without an overflow."""
    return (np.tanh(x / 2) + 1) / 2


def suppress(
        boxes: np.ndarray, scores: np.ndarray, categories: np.ndarray,
        iou: float = NMS_IOU) -> np.ndarray:
    """
    Suppress boxes that overlap a surer one of the same category.

    :param boxes: N×4, ``x1, y1, x2, y2``.
    :param scores: N.
    :param categories: N integers.
    :param iou: overlaps above it are suppressed, 0 to 1.
    :returns: indices of the boxes that stay, the surest first.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    waiting = np.argsort(-scores, kind='stable')
    keep = []
    while waiting.size:
        best, waiting = waiting[0], waiting[1:]
        keep.append(best)
        sides = (np.minimum(boxes[best, 2:], boxes[waiting, 2:])
                 - np.maximum(boxes[best, :2], boxes[waiting, :2])).clip(min=0)
        common = sides.prod(axis=1)
        overlaps = common > iou * (areas[best] + areas[waiting] - common)
        waiting = waiting[~(overlaps & (categories[waiting] == categories[best]))]
    return np.array(keep, int)


def _open(path: str, device: str):
    """Open a file with onnxruntime, on the GPU if that is asked for and possible."""
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        raise TeacherError(
            f"the teacher '{path}' needs onnxruntime, which cannot be imported "
            f'({one_line(error)}): pip install onnxruntime') from None
    if not Path(path).is_file():
        raise TeacherError(f"the teacher '{path}' is not a file: give the path of an ONNX file")
    providers = ['CPUExecutionProvider']
    kind, _, index = str(device).partition(':')
    if kind == 'cuda' and 'CUDAExecutionProvider' in onnxruntime.get_available_providers():
        if hasattr(onnxruntime, 'preload_dlls'):  # from 1.21: finds the libraries that pip brought
            onnxruntime.preload_dlls()
        providers.insert(0, ('CUDAExecutionProvider', {'device_id': index or '0'}))
    try:
        session = onnxruntime.InferenceSession(path, providers=providers)
    except Exception as error:  # onnxruntime's errors have no common type but this
        raise TeacherError(
            f"the teacher '{path}' cannot be read by onnxruntime ({one_line(error)}): export a "
            'YOLO segmentation network to ONNX') from None
    if kind == 'cuda' and 'CUDAExecutionProvider' not in session.get_providers():
        logging.getLogger(__name__).warning(
            "the teacher '%s' runs on the CPU: this onnxruntime cannot use CUDA; pip install "
            'onnxruntime-gpu', path)
    return session
