"""Images to arrays and back."""

import io

import cv2
import numpy as np
import PIL.Image
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from shadowtutor_ros.nodes import images
from shadowtutor_ros.nodes.images import to_bgr, to_bytes, to_message
from shadowtutor_ros.wire import image_messages
from shadowtutor_ros.wire.image_messages import ImageMessageError


def test_round_trip_is_without_loss_and_without_a_copy(frame):
    message = to_message(frame, 'bgr8', Header(frame_id='eye'))
    assert message.header.frame_id == 'eye'
    back = to_bgr(message)
    assert np.array_equal(back, frame)
    assert np.shares_memory(back, np.frombuffer(message.data, np.uint8))


def test_views_are_made_whole(frame):
    assert np.array_equal(to_bgr(to_message(frame[:, ::-1], 'bgr8', Header())), frame[:, ::-1])


def test_rows_may_be_padded(frame):
    padded = np.zeros((64, 96 * 3 + 8), np.uint8)
    padded[:, :96 * 3] = frame.reshape(64, -1)
    message = to_message(frame, 'bgr8', Header())
    message.step, message.data = padded.shape[1], to_bytes(padded)
    assert np.array_equal(to_bgr(message), frame)


def test_rgb_is_turned(frame):
    assert np.array_equal(to_bgr(to_message(frame, 'rgb8', Header())), frame[:, :, ::-1])


@pytest.mark.parametrize('change', [
    {'encoding': 'sixteen_bit_rainbow'}, {'height': 63},
    {'height': 8, 'data': to_bytes(bytes(8 * 288))},
    {'step': 10}, {'encoding': 'bgr8', 'step': 0, 'data': to_bytes(b'')},
    {'data': to_bytes(bytes(64 * 288 - 1))}, {'data': to_bytes(bytes(64 * 288 + 1))},
    {'encoding': 'bgra8'}, {'encoding': 'bgr16'}, {'encoding': '32FC1'}, {'encoding': '64FC3'},
    {'encoding': '16SC1'}, {'encoding': 'i420'}, {'encoding': 'nv12'},
    {'encoding': 'rgb8', 'width': 97}, {'encoding': 'yuv422', 'width': 95},
    {'encoding': 'nv12', 'width': 95, 'step': 95, 'data': to_bytes(bytes(96 * 95))}])
def test_what_cannot_be_converted_is_one_clear_error(frame, change):
    message = to_message(frame, 'bgr8', Header())
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ImageMessageError) as error:
        to_bgr(message)
    assert '\n' not in str(error.value)


# --- every encoding ------------------------------------------------------------------------------

def picture():
    """Return 48×66 BGR whose every channel, row and column differs."""
    y, x = np.mgrid[:48, :66]
    return np.dstack([3 * x + 40, 4 * y + 20, 2 * (x + y) + 10]).astype(np.uint8)


def grey(frame):
    return cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)


def bayer(pattern):
    """Look at the picture through a filter: H×W."""
    frame, mosaic = picture(), np.empty((48, 66), np.uint8)
    for place, letter in enumerate(pattern):
        row, column = divmod(place, 2)
        mosaic[row::2, column::2] = frame[row::2, column::2, 'bgr'.index(letter)]
    return mosaic


def with_alpha(frame):
    return np.dstack([frame, np.arange(48 * 66, dtype=np.uint8).reshape(48, 66)])


def yuv():
    """Return brightness H×W, half as many colours each way (h×w×2), and OpenCV's BGR of them."""
    planes = cv2.cvtColor(picture(), cv2.COLOR_BGR2YUV_I420)
    u, v = planes[48:].reshape(2, 24, 33)
    return planes[:48], np.dstack([u, v]), cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)


def packed(order):
    luma, chroma, _ = yuv()
    pairs = {'y': luma[:, ::2], 'Y': luma[:, 1::2], 'u': chroma[..., 0].repeat(2, 0),
             'v': chroma[..., 1].repeat(2, 0)}
    return np.dstack([pairs[letter] for letter in order]).reshape(48, -1)


RGB = picture()[:, :, ::-1]
UNIT = (picture() / 255).astype(np.float32)

# Encoding: the pixels as they are sent, what they are, and by how much it may differ.
ENCODINGS = {
    'bgr8': (picture(), picture(), 0), 'rgb8': (RGB, picture(), 0),
    '8UC3': (picture(), picture(), 0),
    'bgra8': (with_alpha(picture()), picture(), 0), 'rgba8': (with_alpha(RGB), picture(), 0),
    '8UC4': (with_alpha(picture()), picture(), 0),
    'mono8': (grey(picture())[..., 0], grey(picture()), 0),
    '8UC1': (grey(picture())[..., 0], grey(picture()), 0),
    '32FC1': (UNIT[..., 0], np.dstack([picture()[..., 0]] * 3), 0),
    '32FC3': (UNIT, picture(), 0),
    '32FC4': (np.dstack([UNIT, UNIT[..., 0]]), picture(), 0),
    'uyvy': (packed('uyvY'), yuv()[2], 0), 'yuv422': (packed('uyvY'), yuv()[2], 0),
    'yuyv': (packed('yuYv'), yuv()[2], 0), 'yuv422_yuy2': (packed('yuYv'), yuv()[2], 0),
} | {
    f'bayer_{pattern}8': (bayer(pattern), picture(), 3)
    for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')}
ENCODINGS |= {
    name.replace('8UC', '16UC') if 'UC' in name else f'{name[:-1]}16': (
        257 * data.astype(np.uint16), right, most)
    for name, (data, right, most) in ENCODINGS.items() if '8' in name and 'yu' not in name.lower()
    and data.dtype == np.uint8}


def message_of(data, encoding, padding=0, bigendian=False, size=(48, 66)):
    rows = data.astype(data.dtype.newbyteorder('>' if bigendian else '<')).reshape(len(data), -1)
    rows = np.ascontiguousarray(rows).view(np.uint8)
    filled = np.full((len(rows), rows.shape[1] + padding), 99, np.uint8)
    filled[:, :rows.shape[1]] = rows
    message = Image(height=size[0], width=size[1], encoding=encoding, is_bigendian=bigendian)
    message.step, message.data = filled.shape[1], to_bytes(filled)
    return message


@pytest.mark.parametrize('bigendian', [False, True])
@pytest.mark.parametrize('padding', [0, 1, 2, 3, 4, 12, 62])
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_every_encoding_is_right_however_rows_are_padded(encoding, padding, bigendian):
    data, right, most = ENCODINGS[encoding]
    frame = to_bgr(message_of(data, encoding, padding, bigendian))
    assert frame.dtype == np.uint8 and frame.shape == right.shape
    # Of a Bayer pattern the outermost pixels are known from one side alone.
    inside = slice(2, -2) if 'bayer' in encoding else slice(None)
    assert np.abs(frame.astype(int) - right)[inside, inside].max() <= most


def test_every_encoding_is_tested():
    assert {*image_messages._ENCODINGS} == {*ENCODINGS}
    assert {*image_messages._PLANES} == {'nv12', 'nv21', 'nv24'}


def planes_of(encoding):
    luma, chroma, right = yuv()
    if encoding == 'nv24':
        # A row of colours is two of the brightness, whose padding is twice as long.
        return luma, chroma.repeat(2, 0).repeat(2, 1).reshape(48, 132), right
    return luma, (chroma[..., ::-1] if encoding == 'nv21' else chroma).reshape(24, 66), right


@pytest.mark.parametrize('padding', [0, 1, 30, 66])
@pytest.mark.parametrize('encoding', ['nv12', 'nv21', 'nv24'])
def test_planes_are_right_however_rows_are_padded(encoding, padding):
    luma, chroma, right = planes_of(encoding)
    data = b''.join(
        row.tobytes() + bytes(pad) for plane, pad in (
            (luma, padding), (chroma, padding * chroma.shape[1] // 66)) for row in plane)
    message = Image(height=48, width=66, step=66 + padding, encoding=encoding)
    message.data = to_bytes(data)
    assert np.abs(to_bgr(message).astype(int) - right).max() <= (encoding == 'nv24')
    if not padding:
        # The same bytes as sensor_msgs would have them: height times step.
        message.step = len(data) // 48
        assert np.abs(to_bgr(message).astype(int) - right).max() <= (encoding == 'nv24')
    for wrong in (data[:-1], data + b'0'):
        message.data = to_bytes(wrong)
        with pytest.raises(ImageMessageError, match='its publisher is at fault'):
            to_bgr(message)


def test_sixteen_bits_and_floats_are_scaled_as_said():
    for encoding in ('mono16', '16UC1'):
        values = np.array([0, 128, 129, 257, 32768, 65535], np.uint16)
        frame = to_bgr(message_of(np.resize(values, (48, 66)), encoding))
        assert frame[0, :6, 1].tolist() == [0, 0, 1, 1, 128, 255]
    values = np.array([0, 0.5, 1, 7, -3, np.nan, np.inf, -np.inf], np.float32)
    frame = to_bgr(message_of(np.resize(values, (48, 66)), '32FC1'))
    assert frame[0, :8, 1].tolist() == [0, 128, 255, 255, 0, 0, 255, 0]


class Bridge:
    """cv_bridge, as far as it is asked."""

    asked: list[str]
    result: np.ndarray | Exception

    def imgmsg_to_cv2(self, message, wanted):
        self.asked.append(message.encoding)
        assert wanted == 'bgr8'
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.mark.parametrize('result', [
    picture() // 2, np.zeros((48, 65, 3), np.uint8), np.zeros((48, 66), np.uint8),
    RuntimeError('built for NumPy 1')])
def test_cv_bridge_converts_what_it_has_right(monkeypatch, result):
    monkeypatch.setattr(images, 'CvBridge', type('Fresh', (Bridge,), {
        'asked': [], 'result': result}))
    expected = result if np.shape(result) == (48, 66, 3) else picture()
    assert np.array_equal(to_bgr(message_of(RGB, 'rgb8')), expected)
    assert images.CvBridge.asked == ['rgb8']
    # Not padded rows, nor another byte order, nor what it does not call a colour.
    assert np.array_equal(to_bgr(message_of(RGB, 'rgb8', padding=1)), picture())
    data = ENCODINGS['rgb16'][0]
    assert np.array_equal(to_bgr(message_of(data, 'rgb16', bigendian=True)), picture())
    assert np.array_equal(to_bgr(message_of(UNIT, '32FC3')), picture())
    assert images.CvBridge.asked == ['rgb8']


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_the_real_cv_bridge_says_the_same(encoding, monkeypatch):
    pytest.importorskip('cv_bridge')
    message = message_of(ENCODINGS[encoding][0], encoding)
    by_bridge = to_bgr(message)
    monkeypatch.setattr(images, 'CvBridge', None)
    assert np.abs(to_bgr(message).astype(int) - by_bridge).max() <= 1


# --- compressed ----------------------------------------------------------------------------------

def test_garbage_is_no_compressed_image():
    with pytest.raises(ImageMessageError, match='cannot be decoded'):
        to_bgr(CompressedImage(format='jpeg', data=to_bytes(b'garbage')))
    with pytest.raises(ImageMessageError, match='cannot be decoded'):
        to_bgr(CompressedImage(format='jpeg'))


def test_a_compressed_image_may_be_too_large():
    file = io.BytesIO()
    PIL.Image.new('1', (10000, 10000)).save(file, 'png')
    with pytest.raises(ImageMessageError, match='10000x10000 pixels is larger'):
        to_bgr(CompressedImage(format='png', data=to_bytes(file.getvalue())))


def test_an_endless_encoding_is_cut():
    message = Image(height=64, width=96, step=96, encoding='x' * 10 ** 6)
    message.data = to_bytes(bytes(64 * 96))
    with pytest.raises(ImageMessageError) as error:
        to_bgr(message)
    assert len(str(error.value)) < 300


def test_a_compressed_image_may_be_too_small_too():
    data = cv2.imencode('.png', np.zeros((20, 64, 3), np.uint8))[1]
    with pytest.raises(ImageMessageError, match='64x20 pixels is too small: expected 33x33'):
        to_bgr(CompressedImage(format='png', data=to_bytes(data)))


@pytest.mark.parametrize('kind', ['jpg', 'png', 'webp', 'bmp', 'tiff'])
def test_any_usual_file_is_read(kind):
    data = cv2.imencode(f'.{kind}', picture())[1]
    frame = to_bgr(CompressedImage(format='said wrongly', data=to_bytes(data)))
    assert np.array_equal(frame, cv2.imdecode(data, cv2.IMREAD_COLOR))


def test_a_compressed_image_of_16_bits_is_scaled_as_a_raw_one():
    grey_values = np.resize(np.array([0, 257, 32768, 65535], np.uint16), (48, 66))
    data = cv2.imencode('.png', grey_values)[1]
    frame = to_bgr(CompressedImage(format='mono16; png compressed', data=to_bytes(data)))
    assert np.array_equal(frame, to_bgr(message_of(grey_values, 'mono16')))


@pytest.mark.parametrize('missing', [1, 2])
def test_a_jpeg_without_its_end_marker_is_mended(missing):
    data = cv2.imencode('.jpg', picture())[1].tobytes()
    frame = to_bgr(CompressedImage(format='jpeg', data=to_bytes(data[:-missing])))
    assert np.array_equal(frame, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    # Buffers of a fixed size have something behind it.
    frame = to_bgr(CompressedImage(format='jpeg', data=to_bytes(data + bytes(100))))
    assert frame.shape == (48, 66, 3)


@pytest.mark.parametrize('kind', [
    {}, {'progressive': True}, {'subsampling': 0}, {'quality': 30}])
@pytest.mark.parametrize('mode', ['RGB', 'L'])
def test_a_cut_jpeg_is_called_cut(kind, mode):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 60, (48, 66, 3), np.uint8)
    PIL.Image.fromarray(picture() // 2 + noise).convert(mode).save(file, 'jpeg', **kind)
    data = file.getvalue()
    whole, scan = to_bgr(CompressedImage(data=to_bytes(data))), data.index(b'\xff\xda')
    mended = 0
    for end in range(scan + 20, len(data) - 1):
        try:
            frame = to_bgr(CompressedImage(data=to_bytes(data[:end])))
        except ImageMessageError as error:
            assert 'cannot be decoded: it is cut short' in str(error)
        else:
            mended += 1
            # Of the last block's detail some may be missing.
            differs = (frame != whole).any(2)
            differs[32:, 64 if differs.shape[1] > 64 else 48:] = False
            assert not differs.any()
    # A progressive one may lack detail everywhere, for all that can be told.
    assert not mended if 'progressive' in kind else 1 <= mended < 16
