"""Images with labels to pretrain a student on: a folder, a COCO folder, the built-in scene."""

from collections.abc import Callable, Container, Iterable
import csv
import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from shadowtutor_ros.classes import ClassTable, IGNORE, load_classes, LVS
from shadowtutor_ros.world.scenes import Scene
from shadowtutor_ros.world.things import VOCABULARY

_IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')


class DatasetError(ValueError):
    """A data set that cannot be read."""


class Sample(NamedTuple):
    """
    An image with its label.

    :ivar image: H×W×3 uint8, BGR.
    :ivar label: H×W uint8, classes by their places in a table; ``IGNORE`` where it is not known.
    """

    image: np.ndarray
    label: np.ndarray


class Dataset:
    """
    Samples that are read, or rendered, when they are asked for.

    :ivar name: for people.
    :ivar licences: of what the samples are made from, for people.
    :ivar classes: of each sample, the places in its label; None where that is not known.
    :ivar remark: what people should know of it, if anything.
    """

    def __init__(
            self, name: str, read: Callable[[int], Sample], length: int,
            licences: tuple[str, ...] = (), classes: list[set[int]] | None = None,
            remark: str = ''):
        self.name = name
        self.licences = licences
        self.classes = classes
        self.remark = remark
        self._read = read
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        """Return a sample."""
        return self._read(index)


def hold_out(count: int, share: float, seed: int) -> np.ndarray:
    """
    Choose by chance what is held out for validation.

    :param share: of ``count``; at least one is held out, and one is not.
    :returns: bool (count,), true for what is held out.
    """
    held = np.zeros(count, bool)
    held[np.random.default_rng(seed).permutation(count)[
        :min(max(1, round(share * count)), count - 1)]] = True
    return held


def places_of(table: ClassTable, classes: ClassTable) -> np.ndarray:
    """
    Map the classes of one table onto those of another, as far as their names tell.

    :param table: of labels.
    :param classes: that are wanted.
    :returns: uint8 (256,), by place; ``IGNORE`` for a union of which different classes are wanted,
        as cars and buses of auto, and for what is no place.
    """
    places = classes.translated(np.arange(256, dtype=np.uint8), table.names)
    for place, members in enumerate(table.members):
        if members and places[place] == classes.background:
            parts = set(classes.rows(members).tolist())
            places[place] = parts.pop() if len(parts) == 1 else IGNORE
    return places


def _check_wanted(
        name: str, places: Iterable[int], classes: ClassTable, own: list[str]) -> None:
    """Refuse a data set of whose classes, at these places of the table, none is wanted."""
    if not set(places) - {classes.background, IGNORE}:
        raise DatasetError(
            f"'{name}' shows none of the classes that are asked for: it has {_some(own)}, asked "
            f'for are {_some(_objects(classes))}')


def _objects(table: ClassTable) -> list[str]:
    return [name for name, members in zip(table.names, table.members) if members]


def _some(names: list[str]) -> str:
    return ', '.join(names[:10]) + (f' and {len(names) - 10} more' if len(names) > 10 else '')


def _read_image(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    if image is None:
        raise DatasetError(f"'{path}' cannot be read as an image")
    return image


def label_folder(
        folder: Path, classes: ClassTable = LVS, seed: int = 0) -> tuple[Dataset, Dataset]:
    """
    Open a folder of images with labels.

    It holds ``images/NAME.jpg`` (or ``.png``) and ``labels/NAME.png``: single-channel 8-bit ids,
    255 for what is not known. They are ids of the classes that are wanted, or of the folder's own
    table where there is a ``classes.yaml``, whose classes are then mapped by their names. A table
    ``sources.tsv`` may say in its columns ``file`` (NAME), ``split`` (train, val), ``dataset`` and
    ``licence`` what each is; without one, a tenth is held out for validation.

    :param classes: that are wanted.
    :param seed: of what is held out.
    :returns: what to train on and what to validate on.
    :raises DatasetError: if the folder holds too little or nothing that is wanted, or a label is
        not one.
    :raises ClassesError: if ``classes.yaml`` is no table.
    """
    own = folder / 'classes.yaml'
    table = load_classes(str(own)) if own.is_file() else classes
    places = places_of(table, classes) if own.is_file() else np.arange(256, dtype=np.uint8)
    _check_wanted(folder.name, places.tolist(), classes, _objects(table))
    images = {path.stem: path for path in sorted((folder / 'images').iterdir())
              if path.suffix.lower() in _IMAGE_SUFFIXES}
    names = [name for name in images if (folder / 'labels' / f'{name}.png').is_file()]
    sources, licences = {}, ()
    if (folder / 'sources.tsv').is_file():
        with open(folder / 'sources.tsv', newline='') as file:
            sources = {row['file']: row for row in csv.DictReader(file, delimiter='\t')}
        unnamed = [name for name in names if sources.get(name, {}).get('split') not in (
            'train', 'val')]
        if unnamed:
            raise DatasetError(
                f"'{folder}/sources.tsv' has neither train nor val as the split of {unnamed[0]}")
        licences = tuple(sorted({
            f"{row['dataset']}: {row['licence']}" for row in sources.values()
            if row.get('dataset') and row.get('licence')}))
        held = np.array([sources[name]['split'] == 'val' for name in names])
    else:
        held = hold_out(len(names), 0.1, seed) if len(names) > 1 else np.zeros(0, bool)
    if not held.any() or held.all():
        raise DatasetError(
            f"'{folder}' has {len(names)} images/NAME.jpg with a labels/NAME.png, {held.sum()} of "
            'them to validate on: there must be one to train and one to validate on at least')

    def label_of(name: str) -> np.ndarray:
        path = folder / 'labels' / f'{name}.png'
        try:
            # Pillow, not OpenCV, which turns the ids of a PNG with a palette into colours.
            label = np.array(Image.open(path))
        except OSError:
            raise DatasetError(f"'{path}' cannot be read as an image") from None
        strange = [] if label.dtype != np.uint8 else sorted(
            set(np.unique(label).tolist()) - {*table.ids, IGNORE})
        if label.ndim != 2 or label.dtype != np.uint8 or strange:
            raise DatasetError(
                f"'{path}' is no label: wanted one 8-bit channel of ids of "
                f"{own.name if own.is_file() else 'the classes'}, {_ids(table)}, or {IGNORE}"
                + (f', got {strange[0]}' if strange else ''))
        return places[table.places(label)]

    def split(names: list[str]) -> Dataset:
        def read(index: int) -> Sample:
            name = names[index]
            image, label = _read_image(images[name]), label_of(name)
            if image.shape[:2] != label.shape:
                raise DatasetError(
                    f"'{images[name]}' is {image.shape[1]}×{image.shape[0]}, its label "
                    f'{label.shape[1]}×{label.shape[0]}')
            return Sample(image, label)

        classes = [set(np.unique(label_of(name)).tolist()) - {IGNORE} for name in names]
        return Dataset(folder.name, read, len(names), licences, classes)

    return (split([name for name, out in zip(names, held) if not out]),
            split([name for name, out in zip(names, held) if out]))


def _ids(table: ClassTable) -> str:
    low, high = min(table.ids), max(table.ids)
    return f'{low} to {high}' + (' with gaps' if high - low >= len(table) else '')


def decode_rle(segmentation: dict) -> np.ndarray:
    """
    Decode a mask of COCO's run-length encoding.

    The runs go down the columns and begin with one of zeros. Compressed, each is a little-endian
    number of 5 bits a character, from the third on as a difference to the one two before
    (pycocotools' ``rleFrString``).

    :param segmentation: ``size`` (H, W) and ``counts``, a list or a compressed string.
    :returns: H×W bool.
    :raises DatasetError: if the runs do not fill the size.
    """
    height, width = segmentation['size']
    counts = _runs(segmentation)
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def _runs(segmentation: dict) -> list[int]:
    height, width = segmentation['size']
    counts = segmentation['counts']
    if isinstance(counts, str):
        runs, value, shift = [], 0, 0
        for character in counts.encode():
            bits = character - 48
            value |= (bits & 0x1f) << shift
            shift += 5
            if not bits & 0x20:
                if bits & 0x10:
                    value -= 1 << shift
                runs.append(value + (runs[-2] if len(runs) > 2 else 0))
                value, shift = 0, 0
        counts = runs
    if sum(counts) != height * width or min(counts, default=0) < 0:
        raise DatasetError(
            f'a mask has runs of {sum(counts)} pixels, but its size is {width}×{height}')
    return counts


def _fill(label: np.ndarray, polygon: np.ndarray, value: int) -> None:
    """Fill a polygon (N×2, x and y from the image's corner) where it holds a pixel's centre."""
    # OpenCV fills whatever the outline touches, so it draws five times as large, and what falls
    # on every fifth pixel's centre counts. Points are in 16ths of a pixel.
    left, top = np.clip(np.floor(polygon.min(0)), 0, label.shape[::-1]).astype(int)
    right, bottom = np.clip(np.ceil(polygon.max(0)), 0, label.shape[::-1]).astype(int)
    canvas = np.zeros((5 * (bottom - top), 5 * (right - left)), np.uint8)
    points = np.round(((polygon - (left, top)) * 5 - 0.5) * 16).astype(np.int32)
    if canvas.size:
        cv2.fillPoly(canvas, [points], 1, shift=4)
        label[top:bottom, left:right][canvas[2::5, 2::5] > 0] = value


def draw_instances(
        annotations: list[dict], ids: dict[int, int], background: int,
        size: tuple[int, int]) -> np.ndarray:
    """
    Draw COCO's instances into one label; the smaller lies over the larger, a crowd over none.

    :param annotations: of one image.
    :param ids: class id of each of COCO's category ids; what is not in it is background.
    :param background: its class id.
    :param size: (H, W).
    :returns: H×W uint8; crowds, whose pixels are not all of their class, are ``IGNORE``.
    """
    label = np.full(size, background, np.uint8)
    crowds = [annotation for annotation in annotations if annotation.get('iscrowd')]
    single = [annotation for annotation in annotations if not annotation.get('iscrowd')]
    for annotation in crowds + sorted(single, key=_area, reverse=True):
        value = IGNORE if annotation.get('iscrowd') else ids.get(
            annotation['category_id'], background)
        shape = annotation['segmentation']
        if isinstance(shape, dict):
            mask = decode_rle(shape)
            if mask.shape != size:
                raise DatasetError(
                    f'a mask is {mask.shape[1]}×{mask.shape[0]}, its image {size[1]}×{size[0]}')
            label[mask] = value
        else:
            for points in shape:
                _fill(label, np.reshape(points, (-1, 2)), value)
    return label


def _numbers(values: object, least: int) -> np.ndarray | None:
    """Return them as an array where they are that many finite numbers at least, of pixels."""
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):
        return None
    if array.ndim != 1 or len(array) < least or array.dtype.kind not in 'iuf':
        return None
    # What is further out than any image would not fit where it is drawn.
    return array if (np.abs(array) < 2 ** 20).all() else None


def _area(annotation: dict) -> float:
    """Return what it says, or else that of its box."""
    for values in ([annotation.get('area')], annotation.get('bbox')):
        numbers = _numbers(values, 1)
        if numbers is not None:
            return float(np.prod(numbers[2:] if len(numbers) == 4 else numbers))
    return 0.0


def _has_outline(annotation: dict) -> bool:
    shape = annotation.get('segmentation')
    if isinstance(shape, dict):
        try:
            height, width = shape['size']
            return 0 < height * width <= 2 ** 26 and bool(_runs(shape))
        except (DatasetError, KeyError, TypeError, ValueError):
            return False
    return isinstance(shape, list) and bool(shape) and all(
        (points := _numbers(part, 6)) is not None and len(points) % 2 == 0 for part in shape)


def _checked(annotation: dict, names: dict[int, str]) -> dict:
    """
    Return an object that can be drawn; the box of one without an outline, as a crowd.

    :raises DatasetError: if there is neither, or it is of no category.
    """
    if annotation.get('category_id') not in names:
        raise DatasetError(
            f"has category_id {str(annotation.get('category_id'))[:40]}, which is not among "
            f'the {len(names)} categories')
    if _has_outline(annotation):
        return annotation
    box = _numbers(annotation.get('bbox'), 4)
    if box is None or len(box) != 4 or min(box[2:]) < 0:
        raise DatasetError('has no outline that can be read, nor a box: leave it out, or export '
                           'it as polygons or runs')
    left, top = np.floor(box[:2])
    right, bottom = np.maximum(np.ceil(box[:2] + box[2:]), (left + 1, top + 1))
    return annotation | {'iscrowd': 1, 'segmentation': [
        [left, top, right, top, right, bottom, left, bottom]]}


def coco_folder(
        folder: Path, classes: ClassTable = LVS, seed: int = 0) -> tuple[Dataset, Dataset]:
    """
    Open a folder of COCO: ``annotations/instances_SPLIT.json`` and ``SPLIT/`` with its images.

    Objects whose outline cannot be read (none, of two points, of text, …) are not trained on:
    their boxes become ``IGNORE``.

    :param classes: that are wanted; categories become these by their names, others background.
    :param seed: of the tenth that is held out, where no split's name begins with ``val``.
    :returns: what to train on and what to validate on.
    :raises DatasetError: if the folder holds too little, or no instance of what is wanted; if an
        annotation has neither outline nor box, or no category; the line names file and annotation.
    """
    paths = sorted((folder / 'annotations').glob('instances_*.json'))
    entries: dict[bool, list] = {False: [], True: []}
    shown: dict[str, None] = {}  # in their order
    without: list[str] = []
    for path in paths:
        split = path.stem.removeprefix('instances_')
        try:
            content = json.loads(path.read_bytes())
            names = {category['id']: str(category['name']) for category in content['categories']}
            annotations: dict[int, list] = {image['id']: [] for image in content['images']}
            objects, boxes = _read_objects(path, content['annotations'], annotations, names)
        except DatasetError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(
                f"'{path}' is no instances file of COCO ({type(error).__name__}: {error})"
            ) from None
        without += [f"{name} of '{path}'" for name in boxes]
        for image_id, annotation in objects:
            annotations[image_id].append(annotation)
        ids = dict(zip(names, classes.rows(list(names.values())).tolist()))
        shown |= {names[annotation['category_id']]: None for _, annotation in objects}
        # As in the first implementation, an image without any instance is left out.
        entries[split.startswith('val')] += [
            (folder / split / image['file_name'], annotations[image['id']], ids)
            for image in content['images'] if annotations[image['id']]]
    training, validation = entries[False], entries[True]
    if not validation and len(training) > 1:
        held = hold_out(len(training), 0.1, seed)
        training, validation = (
            [entry for entry, out in zip(training, held) if out == wanted]
            for wanted in (False, True))
    if not training or not validation:
        raise DatasetError(
            f"'{folder}' has {len(training)} images with instances to train on and "
            f'{len(validation)} to validate on in annotations/instances_*.json: there must be one '
            'of each at least')

    def split_of(entries: list) -> Dataset:
        def read(index: int) -> Sample:
            path, annotations, ids = entries[index]
            image = _read_image(path)
            try:
                return Sample(image, draw_instances(
                    annotations, ids, classes.background, image.shape[:2]))
            except DatasetError as error:
                raise DatasetError(f"'{path}': {error}") from None

        present = [
            {ids.get(annotation['category_id'], classes.background)
             for annotation in annotations if not annotation.get('iscrowd')} | {classes.background}
            for _, annotations, ids in entries]
        return Dataset(
            folder.name, read, len(entries),
            ('COCO: annotations CC BY 4.0; images under their Flickr licences',), present,
            remark)

    remark = '' if not without else (
        f'objects without an outline that can be read: {len(without)}, the first of them '
        f'{without[0]}; their boxes are ignored')
    datasets = split_of(training), split_of(validation)
    _check_wanted(folder.name, set().union(*datasets[0].classes), classes, list(shown))
    return datasets


def _read_objects(
        path: Path, found: list[dict], images: Container[int],
        names: dict[int, str]) -> tuple[list[tuple[int, dict]], list[str]]:
    """Return objects as they can be drawn, with their images' ids; and those without outline."""
    objects, without = [], []
    for index, annotation in enumerate(found):
        name = f"annotation {str(annotation.get('id', f'number {index}'))[:40]}"
        if annotation.get('image_id') not in images:
            raise DatasetError(
                f"'{path}': {name} is of image {str(annotation.get('image_id'))[:40]}, which is "
                'not among its images')
        try:
            checked = _checked(annotation, names)
        except DatasetError as error:
            raise DatasetError(f"'{path}': {name} {error}") from None
        if checked is not annotation:
            without.append(name)
        objects.append((annotation['image_id'], checked))
    if objects and len(without) == len(objects):
        raise DatasetError(
            f"'{path}': {without[0]} has no outline that can be read, nor has any other: export "
            'polygons of three points or more, [[x, y, x, y, x, y, …], …], or runs')
    return objects, without


def scene_dataset(
        looks: list[str], seeds: range, frames: int, size: tuple[int, int],
        length: int = 16000, classes: ClassTable = LVS) -> Dataset:
    """
    Open frames of the built-in scene with their exact labels; each is kept once it is rendered.

    :param looks: of the scene.
    :param seeds: a scene each, for every look.
    :param frames: of each scene, evenly spread over ``length``.
    :param size: (width, height).
    :param length: frames that a scene is looked at for.
    :param classes: that they are labelled with.
    :raises DatasetError: if the scene shows none of them.
    """
    _check_wanted('scene', classes.rows(VOCABULARY).tolist(), classes, VOCABULARY)
    scenes = [Scene(seed, look, *size) for look in looks for seed in seeds]
    indices = np.linspace(0, length - 1, frames, dtype=int)
    kept: dict[int, Sample] = {}

    def read(index: int) -> Sample:
        if index not in kept:
            scene, frame = divmod(index, frames)
            rendered = scenes[scene].render(int(indices[frame]), classes)
            kept[index] = Sample(rendered.image, rendered.label)
        return kept[index]

    return Dataset('scene', read, len(scenes) * frames, ('scene: rendered by this package',))
