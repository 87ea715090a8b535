"""ONNX files that take one image: opening them, running them, and what they say of themselves."""

import ast
import json
import logging
from pathlib import Path

import numpy as np

from shadowtutor_ros.models.teachers.checks import one_line, TeacherError

_DTYPES = {'tensor(float)': np.float32, 'tensor(float16)': np.float16}

# What a network that takes images of any size is tried with: dense detectors give more rows for it
# than those that choose their best 300 within the network.
_ANY_SIZE = 256

# More names than any network has; a number above it is no place of a category.
_MAX_NAMES = 65536

_LOG = logging.getLogger(__name__)


class OnnxNetwork:
    """
    A network in an ONNX file that takes one image, run by onnxruntime.

    :param path: of the file.
    :param device: 'cuda' or 'cuda:N' to run on a GPU where onnxruntime can, else the CPU is used.
    :ivar several: whether it takes several images at a time, and gives for each what it gives for
        it alone.
    :ivar size: (H, W) of the input where the file fixes it, else None.
    :ivar outputs: what it gives for a grey image, whose shapes a file need not declare.
    :ivar tried: (H, W) of that image.
    :ivar description: what the file's metadata and files beside it say of it: ``names``, ``mean``,
        ``std`` and whatever else.
    :raises TeacherError: if onnxruntime cannot be imported, or the file cannot be read, takes
        something else than one image, or cannot be run.
    """

    def __init__(self, path: str, device: str = 'cpu'):
        self.path = path
        self._session = _open(path, device)
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _DTYPES or len(inputs[0].shape) != 4:
            got = ', '.join(f'{i.name} {i.type} {i.shape}' for i in inputs) or 'none'
            raise TeacherError(
                f"the teacher '{path}' has the inputs {got}; wanted one image input, 1×3×H×W float"
                ': export a network that segments images')
        self._input = inputs[0].name
        self._dtype = _DTYPES[inputs[0].type]
        batch, _, *size = inputs[0].shape
        self.size = tuple(size) if all(isinstance(side, int) for side in size) else None
        self._batch = batch if isinstance(batch, int) else 1
        if self._batch > 1:
            _LOG.warning(
                "the teacher '%s' was exported for batches of %d: each frame is computed %d times;"
                ' export it with batch 1 or a dynamic batch', path, self._batch, self._batch)
        self.description = _description(
            Path(path), self._session.get_modelmeta().custom_metadata_map)
        self.tried = self.size or (_ANY_SIZE, _ANY_SIZE)
        try:
            self.outputs = self.run(np.full((1, 3, *self.tried), 0.5, np.float32))
        except Exception as error:  # onnxruntime's errors have no common type but this
            raise TeacherError(
                f"the teacher '{path}' cannot be run on an image ({one_line(error)}): export a "
                'network that segments images, 1×3×H×W') from None
        self.several = not isinstance(batch, int) and self._takes_two()

    def _takes_two(self) -> bool:
        """Return whether an axis of the batch that is said to be free is."""
        # Not grey alone: a network that mixes what it is given together is to be found out.
        two = np.random.default_rng(0).random((2, 3, *self.tried), np.float32)
        two[0] = 0.5
        try:
            outputs = self.run(two)
        except Exception:  # onnxruntime's errors have no common type but this
            return False
        return all(
            output.shape == (2, *alone.shape[1:])
            and np.allclose(output[:1], alone, rtol=1e-2, atol=1e-2, equal_nan=True)
            for output, alone in zip(outputs, self.outputs))

    def run(self, values: np.ndarray) -> list[np.ndarray]:
        """
        Run the network.

        :param values: N×3×H×W float32, RGB, as the network wants them scaled; of one image, unless
            it takes :attr:`several`.
        :returns: its outputs, N first; floats as float32.
        """
        count = len(values)
        values = values.astype(self._dtype, copy=False)
        if self._batch > 1:
            values = np.repeat(values, self._batch, axis=0)
        return [
            (output.astype(np.float32, copy=False)
             if np.issubdtype(output.dtype, np.floating) else output)[:count]
            for output in self._session.run(None, {self._input: values})]

    def names(self) -> tuple[str, ...] | None:
        """
        Return the names of the network's categories, or None where it has none.

        They are in its metadata as ``names`` or ``id2label``, or in a file beside it.

        :raises TeacherError: if they cannot be read.
        """
        given = self.description.get('names')
        if not given:
            return None
        try:
            return _in_order(given)
        except (AttributeError, TypeError, ValueError):
            raise TeacherError(
                f"the teacher '{self.path}' names its categories {str(given)[:60]!r}; wanted a "
                "list, or a dict such as {0: 'person'}, in its metadata or in "
                f"{Path(self.path).with_suffix('.json').name} beside it") from None


def _in_order(given) -> tuple[str, ...]:
    """Return names in the order of their numbers; a number that is left out has a dummy."""
    if isinstance(given, (list, tuple)):
        given = dict(enumerate(given))
    names = {int(number): str(name) for number, name in given.items()}
    if len(names) < len(given) or min(names) < 0 or max(names) >= _MAX_NAMES:
        raise ValueError
    return tuple(names.get(number, f'unnamed {number}') for number in range(max(names) + 1))


def _description(path: Path, metadata: dict[str, str]) -> dict:
    """Gather what is said of a network; its metadata goes before what lies beside it."""
    said = {}
    # The latter two are what Hugging Face's Optimum puts beside an export.
    for beside in ('preprocessor_config.json', 'config.json', f'{path.stem}.json'):
        try:
            found = json.loads((path.parent / beside).read_text(encoding='utf-8'))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise TeacherError(
                f"'{path.parent / beside}', which describes the teacher '{path}', cannot be read "
                f'({one_line(error)}): wanted JSON') from None
        is_names = not isinstance(found, dict) or all(map(str.isdecimal, found))
        said.update(_with_our_keys({'names': found} if is_names else found))
    try:
        lines = path.with_suffix('.txt').read_text(encoding='utf-8').splitlines()
        said['names'] = [line.strip() for line in lines if line.strip()]
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise TeacherError(
            f"'{path.with_suffix('.txt')}', which names the categories of the teacher '{path}', "
            f'cannot be read ({one_line(error)}): wanted a name a line') from None
    said.update(_with_our_keys({key: _value(text) for key, text in metadata.items()}))
    return said


def _with_our_keys(said: dict) -> dict:
    """Rename what Hugging Face calls otherwise."""
    ours = {'id2label': 'names', 'image_mean': 'mean', 'image_std': 'std'}
    return {ours.get(key, key): value for key, value in said.items()}


def _value(text: str):
    """Read a value of the metadata: JSON, or Python as Ultralytics writes it, or plain text."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (SyntaxError, TypeError, ValueError, MemoryError, RecursionError):
            continue
    return text


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
            'network that segments images to ONNX') from None
    if kind == 'cuda' and 'CUDAExecutionProvider' not in session.get_providers():
        _LOG.warning(
            "the teacher '%s' runs on the CPU: this onnxruntime cannot use CUDA; pip install "
            'onnxruntime-gpu', path)
    return session
