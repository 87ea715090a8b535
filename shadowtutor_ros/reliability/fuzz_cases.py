"""Messages that nobody should send: valid and hostile ones, and what Hypothesis makes of them."""

from dataclasses import dataclass, fields, replace
import io
import random
import struct
from typing import Any
import zlib

import cv2
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import torch

from shadowtutor_ros.classes import LVS
from shadowtutor_ros.models.student.base import checksum, Student
from shadowtutor_ros.wire.encodings import compress, ENCODINGS
from shadowtutor_ros.wire.key_frame import (
    encode_image, encode_label, format_fault, FORMATS, MAX_PIXELS, VIDEO)
from shadowtutor_ros.wire.video import VideoEncoder
from shadowtutor_ros.wire.weight_update import (
    NO_TENSORS, pack, PackedTensors, REFUSALS, Status, unpack, UpdateRejected, WeightUpdate)

#: Of the key frames.
HEIGHT, WIDTH = 64, 96

#: The number of the teacher whose updates these are.
TEACHER = 77

#: Bytes that a bomb unfolds to.
_BOMB = 2 ** 26

#: Formats of key frames that this machine has.
_FORMATS = tuple(one for one in FORMATS if not format_fault(one))


@dataclass(frozen=True)
class Edit:
    """
    A change of bytes.

    :ivar what: 'flip' a bit, 'cut' the end off, 'insert' or 'overwrite' with ``extra``, 'noise' of
        as many bytes instead, ``extra`` its seed, or 'grow' by as many zeros.
    :ivar at: bit, byte or number of bytes; wrapped around where it is a place.
    """

    what: str
    at: int
    extra: Any = None


@dataclass(frozen=True)
class UpdateCase:
    """
    A weight update to be made of a template.

    :ivar template: one of :class:`Updates`.
    :ivar changes: fields of WeightUpdate and PackedTensors, and their values.
    :ivar blob, label: edits of these bytes.
    :ivar mended: whether the 'blob' checksum is made right again, or that of the 'weights' too.
    :ivar passed: seconds since the last case.
    :ivar twice: whether it comes twice.
    """

    template: str
    changes: tuple[tuple[str, Any], ...] = ()
    blob: tuple[Edit, ...] = ()
    label: tuple[Edit, ...] = ()
    mended: str = ''
    passed: float = 0.0
    twice: bool = False


@dataclass(frozen=True)
class KeyFrameCase:
    """
    A key frame to be made of one that a client sends.

    :ivar image: one of :class:`Images`.
    :ivar edits: of its bytes.
    :ivar image_format: to be claimed; None for its own.
    :ivar changes: fields of KeyFrame, and their values.
    :ivar passed: seconds since the last case.
    :ivar waited: seconds that it waits at the teacher.
    :ivar alone: whether the student is said to be the only one.
    :ivar twice: whether it comes twice.
    """

    image: str
    edits: tuple[Edit, ...] = ()
    image_format: str | None = None
    changes: tuple[tuple[str, Any], ...] = ()
    passed: float = 0.0
    waited: float = 0.0
    alone: bool = True
    twice: bool = False


def edited(data: bytes, edits: tuple[Edit, ...]) -> bytes:
    """Return changed bytes."""
    for edit in edits:
        what, at, extra = edit.what, edit.at, edit.extra
        if what == 'noise':
            data = random.Random(extra).randbytes(at)
        elif what == 'grow':
            data += bytes(at)
        elif data:
            at %= 8 * len(data) if what == 'flip' else len(data)
            if what == 'flip':
                data = (data[:at // 8] + bytes([data[at // 8] ^ 1 << at % 8])
                        + data[at // 8 + 1:])
            else:
                rest = {'cut': len(data), 'insert': at, 'overwrite': at + len(extra or b'')}[what]
                data = data[:at] + (extra or b'') + data[rest:]
    return data


class Updates:
    """
    Valid weight updates, hostile ones, and what is made of them.

    All start from the weights of the weights file, which a robot always knows, but those whose
    name ends in '+': these start from what the one without it leads to.

    :param student: with these weights.
    """

    def __init__(self, student: Student):
        self.initial = student.weights()
        self._model_id = student.model_id
        self._random = torch.Generator().manual_seed(1)
        self._bases = {checksum(self.initial): self.initial}
        label = np.zeros((HEIGHT, WIDTH), np.uint8)
        label[:, WIDTH // 3:] = 8
        metric = self._answer(Status.NOTHING_TO_GAIN)
        int4, _ = done, weights = self._new_weights(student, 'partial', 'int4', self.initial)
        back = replace(done, weights_checksum=checksum(self.initial), tensors=NO_TENSORS)
        self.templates = {
            'metric': metric,
            'refused': self._answer(Status.REFUSED, refusal='training', text='since it is so'),
            'too_late': self._answer(Status.REFUSED, refusal='too_late', needed_seconds=12.0),
            'int4': done,
            'int4+': self._new_weights(student, 'partial', 'int8', weights)[0],
            'labelled': replace(done, label=encode_label(label)),
            'metric labelled': replace(metric, label=encode_label(label)),
            **{encoding: self._new_weights(student, 'partial', encoding, self.initial)[0]
               for encoding in ENCODINGS if encoding != 'int4'},
            'full int4': self._new_weights(student, 'full', 'int4', self.initial)[0],
            'back': back,
            'back labelled': replace(back, label=encode_label(label)),
            **_hostile(int4)}

    def _answer(self, status: Status, **changes: Any) -> WeightUpdate:
        return WeightUpdate(**{**{
            'session_id': 0, 'key_frame_number': 0, 'model_id': self._model_id,
            'teacher_id': TEACHER, 'teacher': '/teacher', 'status': status,
            'classes': tuple(range(len(LVS))), 'metric_before': 0.5, 'metric_after': 0.7,
            'threshold': 0.8, 'steps': 3, 'max_updates': 8, 'teacher_seconds': 0.2,
            'training_seconds': 0.1}, **changes})

    def _new_weights(
            self, student: Student, scope: str, encoding: str, base: dict[str, torch.Tensor]
    ) -> tuple[WeightUpdate, dict[str, torch.Tensor]]:
        sent = {name: base[name] + 0.01 * torch.randn(tensor.shape, generator=self._random)
                for name, tensor in student.tensors(scope).items()}
        packed = pack(sent, encoding, base)
        weights = {**base, **unpack(packed, base)}
        self._bases[checksum(weights)] = weights
        return self._answer(
            Status.DONE, base_checksum=checksum(base), weights_checksum=checksum(weights),
            tensors=packed), weights

    def make(
            self, case: UpdateCase, session_id: int, number: int, weights_checksum: int
    ) -> WeightUpdate:
        """
        Make the update of a case.

        :param session_id, number, weights_checksum: of the key frame that it answers.
        """
        update = replace(
            self.templates[case.template], session_id=session_id, key_frame_number=number)
        if update.status == Status.NOTHING_TO_GAIN:
            update = replace(update, weights_checksum=weights_checksum)
        changes = dict(case.changes)
        inner = {name: changes.pop(name) for name in _INNER if name in changes}
        if case.blob:
            inner['blob'] = edited(update.tensors.blob, case.blob)
            if case.mended:
                inner['checksum'] = zlib.crc32(inner['blob'])
        tensors = replace(update.tensors, **inner) if inner else update.tensors
        if case.mended == 'weights' and update.base_checksum in self._bases:
            base = self._bases[update.base_checksum]
            try:
                changes['weights_checksum'] = checksum({**base, **unpack(tensors, base)})
            except UpdateRejected:
                pass  # as the robot will find
        if case.label:
            changes['label'] = edited(update.label, case.label)
        return replace(update, tensors=tensors, **changes)


_INNER = {field.name for field in fields(PackedTensors)}


def _hostile(update: WeightUpdate) -> dict[str, WeightUpdate]:
    """Return updates that are large, or unfold to what is."""
    tensors = update.tensors
    bomb = compress(bytes(_BOMB))
    png = encode_label(np.zeros((HEIGHT, WIDTH), np.uint8))
    blobs = {
        'bomb': replace(tensors, blob=bomb, uncompressed_size=_BOMB, checksum=zlib.crc32(bomb)),
        'hidden bomb': replace(tensors, blob=bomb, checksum=zlib.crc32(bomb)),
        'large': replace(tensors, blob=bytes(2 ** 23), uncompressed_size=2 ** 23),
        'many tensors': replace(tensors, places=tuple(range(2 ** 16))),
        'fp32 of another size': replace(
            tensors, encoding='fp32', places=tuple(range(50)), blob=bytes(2 ** 20))}
    labels = {
        'large label': bytes(2 ** 22),
        'wide label': encode_label(np.zeros((2160, 3840), np.uint8)),
        'wider label': encode_label(np.zeros((4096, 8192), np.uint8)),
        'endless label': png[:16] + struct.pack('>II', 2 ** 31 - 1, 2 ** 31 - 1) + png[24:],
        'text label': with_text(png),
        'label in pieces': in_pieces(png)}
    return {
        **{name: replace(update, tensors=blob) for name, blob in blobs.items()},
        **{name: replace(update, label=label) for name, label in labels.items()},
        'many classes': replace(update, classes=tuple(range(len(LVS))) * 10_000)}


def with_text(png: bytes) -> bytes:
    """Return a PNG file with texts that unfold to as much as a :data:`_BOMB`."""
    body = b'zTXtComment\0\0' + zlib.compress(bytes(2 ** 20 - 1), 9)
    chunk = struct.pack('>I', len(body) - 4) + body + struct.pack('>I', zlib.crc32(body))
    return png[:33] + (_BOMB >> 20) * chunk + png[33:]


def in_pieces(png: bytes) -> bytes:
    """Return a PNG file with as many empty chunks as fit into 1 MB."""
    chunk = struct.pack('>I4sI', 0, b'abCd', zlib.crc32(b'abCd'))
    return png[:33] + (2 ** 20 - len(png)) // len(chunk) * chunk + png[33:]


class Images:
    """
    Valid images of key frames and hostile ones.

    :ivar templates: format and bytes by name.
    :ivar large: names of those that are slow to decode by nature.
    """

    def __init__(self) -> None:
        ground = np.random.default_rng(2).integers(0, 100, (8, 12, 3), np.uint8)
        frame = cv2.resize(ground, (WIDTH, HEIGHT))
        frame[20:50, 30:70] = 230, 120, 30
        self.templates = {
            kind: (said, data.tobytes()) for kind in _FORMATS
            for said, data in [encode_image(frame, kind)]}
        png = self.templates['png'][1]
        large = np.zeros((2160, 3840, 3), np.uint8)
        picture = Image.fromarray(frame)
        others = {
            'progressive': ('jpeg', {'format': 'JPEG', 'progressive': True}),
            'with exif': ('jpeg', {'format': 'JPEG', 'exif': _exif(), 'comment': b'x' * 99}),
            'multi-picture': ('jpeg', {
                'format': 'MPO', 'save_all': True, 'append_images': [picture]}),
            'animated': ('webp', {
                'format': 'WEBP', 'save_all': True, 'append_images': [picture.rotate(9)]}),
            'animated png': ('png', {
                'format': 'PNG', 'save_all': True, 'append_images': [picture.rotate(9)]}),
            'lossless': ('webp', {'format': 'WEBP', 'lossless': True, 'exif': _exif()})}
        for name, (said, options) in others.items():
            self.templates[name] = said, _saved(picture, **options)
        if 'avif' in _FORMATS:
            self.templates |= _avif_files(picture)
        if _videos:
            self.templates |= _video_streams(frame)
        for mode in ('L', 'RGBA', 'P', '1', 'I;16'):
            self.templates[f'png {mode}'] = 'png', _saved(picture.convert(mode), format='PNG')
        self.templates['jpeg CMYK'] = 'jpeg', _saved(picture.convert('CMYK'), format='JPEG')
        jpeg = self.templates['progressive'][1]
        scans = jpeg[jpeg.index(b'\xff\xda'):-2]
        self.templates |= {
            'small': ('png', encode_image(frame[:32, :32], 'png')[1].tobytes()),
            'least': ('png', encode_image(frame[:33, :33], 'png')[1].tobytes()),
            'scans': ('jpeg', jpeg[:-2] + 200 * scans + jpeg[-2:]),
            'endless': ('png', png[:16] + struct.pack('>II', 2 ** 31 - 1, 2 ** 31 - 1) + png[24:]),
            'just too large': ('png', png[:16] + struct.pack('>II', 3841, 2160) + png[24:]),
            'too many bytes': ('png', bytes(3 * MAX_PIXELS + 1)),
            'text': ('png', with_text(png)),
            'in pieces': ('png', in_pieces(png)),
            'comments': ('jpeg', jpeg[:2] + 2 ** 18 * b'\xff\xfe\0\2' + jpeg[2:]),
            'fill': ('jpeg', jpeg[:2] + 2 ** 20 * b'\xff' + jpeg[2:]),
            'large png': ('png', encode_image(large, 'png')[1].tobytes()),
            'large webp': ('webp', encode_image(large, 'webp', 50)[1].tobytes())}
        self.large = {'large png', 'large webp'}


def _avif_files(picture: Image.Image) -> dict[str, tuple[str, bytes]]:
    """Return what an AVIF file can be besides a plain picture, and one with a size that lies."""
    plain = _saved(picture, format='AVIF')
    see_through = picture.copy()
    see_through.putalpha(99)
    size = plain.index(b'ispe') + 8
    files = {
        'avif animated': _saved(
            picture, format='AVIF', save_all=True, append_images=[picture.rotate(9)]),
        'avif alpha': _saved(see_through, format='AVIF'),
        'avif exif': _saved(picture, format='AVIF', exif=_exif()),
        'avif 4:4:4': _saved(picture, format='AVIF', subsampling='4:4:4'),
        'avif endless': plain[:size] + struct.pack('>II', 2 ** 14, 2 ** 14) + plain[size + 8:]}
    return {name: ('avif', data) for name, data in files.items()}


def _video_streams(frame: np.ndarray) -> dict[str, tuple[str, bytes]]:
    """Return the beginning of a video, what follows it, and sizes that lie."""
    encoder = VideoEncoder(HEIGHT, WIDTH, 50)
    first, second = encoder(frame), encoder(frame[:, ::-1])
    large = VideoEncoder(1080, 1920, 10)(np.zeros((1080, 1920, 3), np.uint8))
    size = f'{HEIGHT}x{WIDTH}'
    return {
        'video': (f'video; {size}; 0', first),
        'video second': (f'video; {size}; 1', second),
        'video two': (f'video; {size}; 0', first + second),
        'video large': (f'video; {size}; 0', large),
        'video endless': ('video; 999999x999999; 0', first)}


def _saved(picture: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, **options)
    return file.getvalue()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x010e], exif[0x0112], exif[0x011a] = 'a camera', 6, 72.0
    return exif.tobytes()


# --- strategies ----------------------------------------------------------------------------------

_u16, _u32, _u64 = (st.integers(0, 2 ** bits - 1) for bits in (16, 32, 64))
_f32, _f64 = st.floats(width=32), st.floats()
_share = st.floats(-0.5, 1.5) | st.sampled_from((0.0, 1.0, 5e-324, 1 - 2 ** -53)) | _f64
_text = st.text(max_size=20) | st.sampled_from(('', '\n\x1b[31m' * 9, 'ä' * 3000))
_passed = st.sampled_from((0.0, 0.0, 0.0, 0.1, 9.0, 12.0, 150.0))

_edit = st.one_of(
    st.builds(Edit, st.just('flip'), st.integers(0, 2 ** 20)),
    st.builds(Edit, st.just('flip'), st.integers(0, 300)),  # of a header
    st.builds(Edit, st.just('cut'), st.integers(0, 2 ** 16)),
    st.builds(Edit, st.just('insert'), st.integers(0, 2 ** 16), st.binary(max_size=9)),
    st.builds(Edit, st.just('overwrite'), st.integers(0, 2 ** 16), st.binary(max_size=9)),
    st.builds(Edit, st.just('overwrite'), st.integers(0, 64), st.binary(max_size=9)),
    st.builds(Edit, st.just('noise'), st.integers(0, 4096), _u32),
    st.builds(Edit, st.just('grow'), st.sampled_from((1, 4, 999, 2 ** 20, 2 ** 21))))
_edits = st.lists(_edit, min_size=1, max_size=3).map(tuple)
_no_edits = st.just(())


def _one_of_fields(values: dict[str, st.SearchStrategy]) -> st.SearchStrategy:
    """Draw a change of some field; the strategies by name."""
    return st.one_of([st.tuples(st.just(name), value) for name, value in values.items()])


_UPDATE_FIELDS = {
    'session_id': _u64,
    'key_frame_number': st.integers(0, 9) | _u32,
    'model_id': _text,
    'teacher_id': st.sampled_from((0, TEACHER, TEACHER + 1)) | _u64,
    'teacher': _text,
    'status': st.integers(0, 3) | st.integers(0, 255),
    'refusal': st.sampled_from(REFUSALS) | _text,
    'text': _text,
    'needed_seconds': st.sampled_from((0.0, 12.0, 1e6, 1e300)) | _f64,
    'base_checksum': _u32,
    'weights_checksum': _u32,
    'encoding': st.sampled_from(tuple(ENCODINGS)) | _text,
    'places': st.lists(st.integers(0, 70) | _u16, max_size=9).map(tuple),
    'uncompressed_size': _u32,
    'checksum': _u32,
    'classes': st.lists(st.integers(0, 9) | st.integers(0, 255), max_size=10).map(tuple),
    'metric_before': _share,
    'metric_after': _share,
    'threshold': _share,
    'steps': _u32,
    'max_updates': _u32,
    'teacher_seconds': _f32,
    'training_seconds': _f32}
_update_change = _one_of_fields(_UPDATE_FIELDS)
_update_changes = st.tuples(_update_change) | st.tuples(_update_change, _update_change)

# The cheap ones often, so that there are many.
_changed = st.builds(
    UpdateCase, st.sampled_from(
        6 * ('metric', 'refused', 'too_late', 'metric labelled') + (
            'int4', 'labelled', 'int4+', 'int8', 'fp16', 'fp32', 'back')),
    _update_changes, passed=_passed, twice=st.sampled_from((False, False, False, True)))
_corrupted = st.builds(
    UpdateCase, st.sampled_from(('int4', 'int4', 'int8', 'fp16', 'fp32', 'full int4')),
    _no_edits, _edits, mended=st.sampled_from(('', '', '', '', 'blob', 'weights')))
_mislabelled = st.builds(
    UpdateCase, st.sampled_from(('back labelled', 'back labelled', 'labelled')), label=_edits)
_as_it_is = st.builds(
    UpdateCase, st.sampled_from(4 * ('metric', 'refused', 'too_late') + (
        'int4', 'int4+', 'labelled', 'back', 'full int4')), passed=_passed)
_bombs = st.builds(
    UpdateCase, st.sampled_from((
        'bomb', 'hidden bomb', 'large', 'many tensors', 'fp32 of another size', 'large label',
        'wide label', 'wider label', 'endless label', 'text label', 'label in pieces',
        'many classes')))
_noise = st.builds(
    UpdateCase, st.just('metric'),
    st.tuples(*(st.tuples(st.just(name), value) for name, value in _UPDATE_FIELDS.items()
                if name not in ('session_id', 'key_frame_number'))),
    st.tuples(st.builds(Edit, st.just('noise'), st.integers(0, 999), _u32)),
    mended=st.sampled_from(('', 'blob')))

#: Of a weight update: :class:`UpdateCase`.
update_cases = st.one_of(
    *10 * [_changed], _corrupted, _corrupted, _mislabelled, _as_it_is, _as_it_is, _bombs, _noise)

_class = st.sampled_from(('person', 'background', 'dog', 'auto: car, bus')) | _text

_key_frame_change = _one_of_fields({
    'session_id': _u64,
    'number': st.integers(0, 9) | _u32,
    'frame_index': _u64,
    'model_id': _text,
    'initial_checksum': _u32,
    'weights_version': _u32,
    'weights_checksum': _u32,
    'student_id': st.integers(0, 3) | _u64,
    'student': _text,
    'teacher_id': _u64,
    'useful_seconds': st.sampled_from((-1.0, 0.0, 1e300)) | _f64,
    'classes_digest': _u64,
    'classes_said': st.lists(_class, max_size=4).map(tuple) | st.just(('x',) * 300),
    'background': st.integers(0, 3) | st.integers(0, 255)})
_avif = tuple(
    f'avif {name}' for name in ('4:4:4', 'alpha', 'animated', 'exif', 'endless')
    if 'avif' in _FORMATS)
_videos = tuple(
    f'video{name}' for name in ('', ' second', ' two', ' large', ' endless')
    if not format_fault(VIDEO))
_names = (*_FORMATS, *_avif, *_videos, 'progressive', 'with exif', 'multi-picture', 'animated',
          'animated png', 'lossless', 'png L', 'png RGBA', 'png P', 'png 1', 'png I;16',
          'jpeg CMYK')
_side = st.integers(-1, 100) | _u64
_format = st.none() | st.sampled_from(FORMATS) | _text | st.builds(
    'raw; {}x{}'.format, _side, _side) | st.builds(
    'video; {}x{}; {}'.format, _side, _side, st.integers(-1, 3) | _u64)
_broken_image = st.builds(KeyFrameCase, st.sampled_from(_names), _edits)
_hostile_image = st.builds(
    KeyFrameCase, st.sampled_from((
        'small', 'scans', 'endless', 'just too large', 'too many bytes', 'text', 'in pieces',
        'comments', 'fill')), _no_edits | _edits)

#: Of a key frame: :class:`KeyFrameCase`. Those that are trained on take long.
key_frame_cases = st.one_of(
    *10 * [_broken_image], _hostile_image, _hostile_image,
    st.builds(KeyFrameCase, st.sampled_from(_names), _no_edits, _format),
    st.builds(
        KeyFrameCase, st.sampled_from((*_names, 'least', 'large png', 'large webp')), _no_edits,
        st.none(), st.lists(_key_frame_change, max_size=2).map(tuple), _passed,
        st.sampled_from((0.0, 0.0, 5.0, 1e9)), st.booleans(), st.booleans()))
