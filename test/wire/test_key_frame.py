import io
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
from PIL import Image
import pytest
from shadowtutor_ros.wire.key_frame import (
    decode_image, decode_label, encode_image, encode_label, format_fault, FORMATS, KeyFrameError,
    MAX_BYTES, MAX_PIXELS)

#: Those that this machine has.
HERE = [one for one in FORMATS if not format_fault(one)]
FILES = [one for one in HERE if one != 'raw']
LOSSY = [one for one in FILES if one != 'png']


def picture(height=48, width=64):
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def encoded(image_format, frame=None):
    said, data = encode_image(picture() if frame is None else frame, image_format)
    return said, data.tobytes()


# --- round trips --------------------------------------------------------------------------------

@pytest.mark.parametrize('size', [(48, 64), (49, 67)])
@pytest.mark.parametrize('image_format', ['png', 'raw'])
def test_lossless_formats_give_the_frame_back(image_format, size):
    frame = picture(*size)
    said, data = encode_image(frame, image_format)
    assert data.ndim == 1 and data.dtype == np.uint8
    for received in (data, data.tobytes()):
        decoded = decode_image(said, received)
        assert decoded.dtype == np.uint8 and decoded.flags.c_contiguous
        assert (decoded == frame).all()


@pytest.mark.parametrize('image_format', LOSSY)
def test_lossy_formats_give_nearly_the_frame_back(image_format):
    frame = picture(49, 67)
    said, data = encode_image(frame, image_format, quality=95)
    decoded = decode_image(said, data.tobytes())
    assert decoded.shape == frame.shape and decoded.dtype == np.uint8
    # Red and blue swapped would be far off.
    assert np.abs(decoded.astype(int) - frame).mean() < 6
    assert said == image_format


@pytest.mark.parametrize('image_format', LOSSY)
def test_quality_costs_bytes(image_format):
    small, large = (encode_image(picture(), image_format, quality)[1].size for quality in (20, 95))
    assert small < large


@pytest.mark.parametrize('image_format', HERE)
def test_takes_views(image_format):
    big = picture(64, 96)
    for view in (big[8:56, 16:80], big[:, ::-1], big[:, :, ::-1]):
        said, data = encode_image(view, image_format)
        assert (data == encode_image(view.copy(), image_format)[1]).all()
        assert decode_image(said, data).shape == view.shape


def test_wide_frames_are_reduced():
    frame = picture(96, 128)
    assert decode_image(*encode_image(frame, 'png', max_width=64)).shape == (48, 64, 3)
    for width in (0, 128, 1000):
        assert (decode_image(*encode_image(frame, 'png', max_width=width)) == frame).all()


@pytest.mark.parametrize('size', [(3000, 4000), (2185, 3800), (9000, 100), (40, 240_000)])
def test_no_frame_is_sent_that_no_teacher_takes(size):
    said, data = encode_image(np.zeros((*size, 3), np.uint8), 'raw')
    height, width, _ = decode_image(said, data).shape
    assert 0.99 * MAX_PIXELS < height * width <= MAX_PIXELS or size == (9000, 100)


def test_a_label_comes_back():
    label = np.random.default_rng(0).choice(np.array([0, 8, 255], np.uint8), (49, 67))
    decoded = decode_label(encode_label(label), label.shape)
    assert (decoded == label).all() and decoded.dtype == np.uint8 and decoded.flags.writeable


def test_a_label_that_is_none_or_is_cut_is_refused():
    whole = encode_label(np.zeros((64, 96), np.uint8))
    for data in (b'', b'no PNG', whole[:len(whole) // 2], encoded('jpeg')[1]):
        with pytest.raises(KeyFrameError):
            decode_label(data, (9999, 9999))


def test_raw_says_its_size():
    assert encode_image(picture(48, 64), 'raw')[0] == 'raw; 48x64'


def test_unknown_format_to_encode_is_refused():
    with pytest.raises(KeyFrameError, match="'bmp'.*jpeg, webp, avif, png, raw"):
        encode_image(picture(), 'bmp')


@pytest.mark.parametrize('mode', ['L', 'P', '1', 'RGBA', 'LA'])
def test_any_png_becomes_three_channels(mode):
    file = io.BytesIO()
    Image.fromarray(picture()).convert(mode).save(file, 'png')
    decoded = decode_image('png', file.getvalue())
    assert decoded.shape == (48, 64, 3) and decoded.dtype == np.uint8


# --- what must be refused -----------------------------------------------------------------------

@pytest.mark.parametrize('image_format', FILES)
@pytest.mark.parametrize('data', [
    b'', b'\0', bytes(1000), b'\xff' * 1000, b'GIF89a' + bytes(100), b'<svg/>', b'\xff\xd8\xff'])
def test_garbage_is_refused(image_format, data):
    with pytest.raises(KeyFrameError, match=f'{len(data)} bytes.*{image_format}'):
        decode_image(image_format, data)


@pytest.mark.parametrize('image_format', FILES)
def test_truncation_is_refused(image_format):
    said, data = encoded(image_format)
    whole, accepted = decode_image(said, data), []
    for end in range(len(data)):
        try:
            frame = decode_image(said, data[:end])
        except KeyFrameError:
            continue
        # Only check sums and end markers may be missing, no pixel.
        assert (frame == whole).all()
        accepted.append(end)
    assert not accepted or accepted[0] >= len(data) - 24


def test_a_key_frame_has_its_end_marker():
    with pytest.raises(KeyFrameError, match='cut short'):
        decode_image('jpeg', encoded('jpeg')[1][:-2])


def test_one_format_is_not_taken_for_another():
    data = {image_format: encoded(image_format)[1] for image_format in FILES}
    for said in data:
        for really in data:
            if said != really:
                with pytest.raises(KeyFrameError):
                    decode_image(said, data[really])


@pytest.mark.parametrize('image_format', [
    '', 'bmp', 'JPEG', 'jpeg;', '../../etc/passwd', 'x' * 10 ** 5, 'png\n', 'rgb8; jpeg'])
def test_unknown_formats_are_refused(image_format):
    with pytest.raises(KeyFrameError) as caught:
        decode_image(image_format, encoded('jpeg')[1])
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize('said', [
    'raw', 'raw;', 'raw; ', 'raw; 48', 'raw; 48x', 'raw; x64', 'raw; 48x64x3', 'raw; 48x64 ',
    'raw; 48x64\n', 'raw; -48x-64', 'raw; 0x0', 'raw; 048x64', 'raw; 4_8x64', 'raw;48x64',
    'raw; 48.0x64', 'raw; 1e2x64', 'raw' + '9' * 10 ** 5, 'raw; 48x' + '6' * 10 ** 5])
def test_raw_with_a_strange_size_is_refused(said):
    with pytest.raises(KeyFrameError) as caught:
        decode_image(said, encoded('raw')[1])
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize('said, data', [
    ('raw; 48x64', bytes(48 * 64 * 3 - 1)), ('raw; 48x64', bytes(48 * 64 * 3 + 1)),
    ('raw; 48x64', b''), ('raw; 64x49', bytes(48 * 64 * 3)), ('raw; 480x640', bytes(9216))])
def test_raw_of_another_size_is_refused(said, data):
    with pytest.raises(KeyFrameError, match=f'{len(data)} bytes'):
        decode_image(said, data)


@pytest.mark.parametrize('image_format', HERE)
@pytest.mark.parametrize('size', [(8, 64), (64, 8), (1, 1)])
def test_tiny_frames_are_refused(image_format, size):
    with pytest.raises(KeyFrameError, match='too small'):
        decode_image(*encoded(image_format, picture(*size)))


def chunk(kind, data):
    return (struct.pack('>I', len(data)) + kind + data
            + struct.pack('>I', zlib.crc32(kind + data)))


def png_bomb(height, width):
    return (b'\x89PNG\r\n\x1a\n'
            + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(bytes(100))) + chunk(b'IEND', b''))


def jpeg_bomb(height, width):
    data = bytearray(encoded('jpeg')[1])
    start = data.index(b'\xff\xc0') + 5
    data[start:start + 4] = struct.pack('>HH', height, width)
    return bytes(data)


def webp_bomb(height, width):
    data = bytearray(encoded('webp')[1])
    start = data.index(b'\x9d\x01\x2a') + 3
    data[start:start + 4] = struct.pack('<HH', width, height)
    return bytes(data)


BOMBS = {
    'png': png_bomb(60000, 60000),
    'jpeg': jpeg_bomb(65500, 65500),
    'webp': webp_bomb(16383, 16383),
    'raw; 60000x60000': bytes(1000),
    'raw; 999999x999999': bytes(1000),
}


@pytest.mark.parametrize('said', BOMBS)
def test_oversized_frames_are_refused(said):
    with pytest.raises(KeyFrameError):
        decode_image(said, BOMBS[said])


@pytest.mark.filterwarnings('ignore:Image size')
def test_the_limit_is_on_the_pixels():
    height, width = 3840, 2160
    assert height * width == MAX_PIXELS
    with pytest.raises(KeyFrameError, match='larger than the limit.*max_width') as caught:
        decode_image('png', png_bomb(height, width + 1))
    assert caught.value.reason == 'too_large'
    with pytest.raises(KeyFrameError, match='not a whole png'):
        decode_image('png', png_bomb(height, width))


@pytest.mark.parametrize('image_format', FORMATS)
def test_more_bytes_than_any_frame_has_are_not_read(image_format):
    with pytest.raises(KeyFrameError, match='bytes is larger than the limit') as caught:
        decode_image(image_format, np.zeros(MAX_BYTES + 1, np.uint8))
    assert caught.value.reason == 'too_large'


def test_oversized_frames_take_no_memory():
    # In a process of its own, whose peak no other test has raised.
    code = """
import resource, sys
from shadowtutor_ros.wire.key_frame import decode_image, KeyFrameError
bombs = eval(sys.stdin.read())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for said, data in bombs.items():
    try:
        decode_image(said, data)
    except KeyFrameError:
        continue
    sys.exit(said + ' was not refused')
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    result = subprocess.run(
        [sys.executable, '-c', code], input=repr(BOMBS), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 50_000, 'kB of memory were taken'


@pytest.mark.parametrize('image_format', HERE)
@pytest.mark.filterwarnings('ignore:Image size')
def test_mutated_frames_are_frames_or_refused(image_format):
    random = np.random.default_rng(5)
    said, good = encoded(image_format)
    refused = 0
    for _ in range(300):
        data = bytearray(good)
        kind = random.integers(4)
        if kind == 0:
            del data[int(random.integers(len(data))):]
        elif kind == 1:
            start = int(random.integers(len(data)))
            data[start:start] = random.bytes(int(random.integers(1, 20)))
        else:
            # Half of the mutations meet the header.
            end = len(data) if kind == 2 else min(len(data), 80)
            for _ in range(int(random.integers(1, 6))):
                data[int(random.integers(end))] = int(random.integers(256))
        try:
            frame = decode_image(said, bytes(data))
        except KeyFrameError:
            refused += 1
        else:
            assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
            assert min(frame.shape[:2]) >= 33 and frame.size <= 3 * MAX_PIXELS
            assert image_format != 'raw' or frame.shape == picture().shape
    assert refused > 30


def test_a_jpeg_of_endless_scans_is_refused():
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, 'jpeg', progressive=True)
    data = file.getvalue()
    assert decode_image('jpeg', data).shape == (48, 64, 3)
    scan = data[data.rindex(b'\xff\xda'):-2]
    with pytest.raises(KeyFrameError, match='100 scans'):
        decode_image('jpeg', data[:-2] + 100 * scan + data[-2:])


def test_a_jpeg_that_hides_its_size_is_refused():
    data = encoded('jpeg')[1]
    start = data.index(b'\xff\xc0')
    frame = data[start:start + 19]
    other = frame[:5] + struct.pack('>HH', 40, 40) + frame[9:]
    for hidden in (
            data[:2] + b'\xff\xd0\0\2' + data[2:],  # no segment, but libjpeg skips it
            data[:start] + other + data[start:], data[:start] + frame + other + data[start + 19:],
            data[:start] + data[start + 19:], data[:start + 8]):
        with pytest.raises(KeyFrameError, match='not a whole jpeg image'):
            decode_image('jpeg', hidden)


def test_a_jpeg_of_endless_segments_is_refused():
    data = encoded('jpeg')[1]
    for filling in (b'\xff\xfe\0\2', b'\xff'):  # comments, and what stands before a marker
        with pytest.raises(KeyFrameError, match='whole jpeg|256 segments'):
            decode_image('jpeg', data[:2] + 300 * filling + data[2:])
    assert decode_image('jpeg', data[:2] + 9 * b'\xff\xfe\0\2' + data[2:]).shape == (48, 64, 3)


def test_a_png_in_endless_pieces_is_refused():
    data = encoded('png')[1]
    with pytest.raises(KeyFrameError, match='pieces'):
        decode_image('png', data[:33] + 300 * chunk(b'abCd', b'') + data[33:])
    assert decode_image('png', data[:33] + 9 * chunk(b'abCd', b'') + data[33:]).any()


@pytest.mark.parametrize('text', [
    b'zTXtComment\0\0', b'iTXtComment\0\1\0\0\0', b'iCCPsRGB\0\0'])
def test_texts_of_a_png_are_not_unfolded(text):
    data = encoded('png')[1]
    # Pillow itself refuses more than 64 MB of them.
    texts = 70 * chunk(text[:4], text[4:] + zlib.compress(bytes(2 ** 20 - 99)))
    for place in (33, -12):  # before and behind the pixels
        assert (decode_image('png', data[:place] + texts + data[place:]) == picture()).all()


def test_a_label_is_no_larger_than_its_frame():
    label = np.eye(48, 64, dtype=np.uint8)
    assert (decode_label(encode_label(label), (48, 64)) == label).all()
    for most in ((47, 64), (48, 63)):
        with pytest.raises(KeyFrameError, match=f'48x64 pixels are more than the {most[0]}x'):
            decode_label(encode_label(label), most)


def test_a_narrow_frame_stays_large_enough_for_the_student():
    frame = np.zeros((120, 3840, 3), np.uint8)
    kind, data = encode_image(frame, 'raw', max_width=640)
    assert decode_image(kind, data).shape == (33, 640, 3)
