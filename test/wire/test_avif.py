import io
import struct
import subprocess
import sys

import cv2
import numpy as np
from PIL import Image
import pytest
from shadowtutor_ros.wire import avif, key_frame
from shadowtutor_ros.wire.key_frame import decode_image, encode_image, KeyFrameError, MAX_PIXELS

HEIGHT, WIDTH = 48, 64


@pytest.fixture(autouse=True)
def needs_avif(request):
    if 'without' not in request.node.name and not avif.has_avif():
        pytest.skip('Pillow has no AVIF here')


def picture(height=HEIGHT, width=WIDTH):
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def saved(alpha=255, **options):
    file, image = io.BytesIO(), Image.fromarray(picture())
    if alpha < 255:
        image.putalpha(alpha)
    image.save(file, 'AVIF', **options)
    return file.getvalue()


def exif():
    tags = Image.Exif()
    tags[0x010e] = 'a camera'
    return tags


def psnr(one, other):
    return 10 * np.log10(255 ** 2 / np.square(one.astype(float) - other).mean())


def sized(said, real):
    """Make an AVIF file that says one size, height and width, and whose picture has another."""
    data = saved()
    place = data.index(b'ispe') + 8
    data = data[:place] + struct.pack('>II', *said[::-1]) + data[place + 8:]
    begin = data.index(b'mdat') + 4
    head = begin + 4  # past what begins every time, and past the sequence header's own size
    assert data[begin:begin + 3] == b'\x12\0\x0a' and data[head] == 0x18
    length = data[begin + 3]
    bits = ''.join(f'{byte:08b}' for byte in data[head:head + length])
    wide, high = int(bits[10:14], 2) + 1, int(bits[14:18], 2) + 1
    bits = (bits[:10] + 2 * '1111' + ''.join(f'{one - 1:016b}' for one in real[::-1])
            + bits[18 + wide + high:])
    bits += -len(bits) % 8 * '0'
    header = bytes(int(bits[at:at + 8], 2) for at in range(0, len(bits), 8))
    more = len(header) - length
    mdat = data[begin:begin + 3] + bytes([len(header)]) + header + data[head + length:]
    iloc = data.index(b'iloc') + 18
    offset, size = struct.unpack_from('>II', data, iloc)
    return (data[:iloc] + struct.pack('>II', offset, size + more) + data[iloc + 8:begin - 8]
            + struct.pack('>I', len(mdat) + 8) + b'mdat' + mdat)


def scene():
    """Make a picture with edges and texture, on which formats differ as on a camera's."""
    random = np.random.default_rng(3)
    frame = cv2.resize(random.integers(0, 256, (9, 16, 3), np.uint8), (320, 180))
    frame[40:120, 60:150] = 200, 90, 30
    return cv2.add(frame, cv2.resize(random.integers(0, 40, (90, 160, 3), np.uint8), (320, 180)))


@pytest.mark.parametrize('quality', [20, 50, 80])
def test_its_quality_is_that_of_webp(quality):
    frame = scene()
    by = {image_format: psnr(frame, decode_image(*encode_image(frame, image_format, quality)))
          for image_format in ('webp', 'avif')}
    assert abs(by['avif'] - by['webp']) < 2.5, by


@pytest.mark.parametrize('options', [{'subsampling': '4:4:4'}, {'speed': 10}, {'quality': 100}])
def test_other_plain_pictures_are_read(options):
    assert psnr(decode_image('avif', saved(**options)), picture()[:, :, ::-1]) > 25


@pytest.mark.parametrize('data', [
    lambda: saved(alpha=99), lambda: saved(exif=exif()), lambda: saved(xmp=b'<x/>'),
    lambda: saved(save_all=True, append_images=[Image.fromarray(picture()[::-1])])],
    ids=['alpha', 'exif', 'xmp', 'animated'])
def test_what_is_not_one_plain_picture_is_refused(data):
    with pytest.raises(KeyFrameError, match='one plain picture'):
        decode_image('avif', data())


def test_a_picture_may_not_have_another_size_than_the_file_says():
    assert decode_image('avif', saved()).shape == (HEIGHT, WIDTH, 3)
    for said, real in (
            ((HEIGHT, WIDTH), (16384, 16384)), ((HEIGHT, WIDTH), (HEIGHT, WIDTH + 1)),
            ((2000, 3000), (HEIGHT, WIDTH)), ((WIDTH, HEIGHT), (HEIGHT, WIDTH))):
        with pytest.raises(KeyFrameError, match=f'says {said[0]}x{said[1]} .*{real[0]}x{real[1]}'):
            decode_image('avif', sized(said, real))


def test_the_limit_is_on_the_pixels():
    with pytest.raises(KeyFrameError, match='larger than the limit') as caught:
        decode_image('avif', sized((3840, 2161), (3840, 2161)))
    assert caught.value.reason == 'too_large'
    assert 3840 * 2160 == MAX_PIXELS
    with pytest.raises(KeyFrameError, match='not a whole avif'):
        decode_image('avif', sized((3840, 2160), (3840, 2160)))


def test_oversized_pictures_take_no_memory():
    # In a process of its own, whose peak no other test has raised.
    code = """
import resource, sys
from shadowtutor_ros.wire.key_frame import decode_image, KeyFrameError
good, *bombs = eval(sys.stdin.read())
decode_image('avif', good)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for data in bombs:
    try:
        decode_image('avif', data)
    except KeyFrameError:
        continue
    sys.exit('one was not refused')
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    large, small = (16384, 16384), (HEIGHT, WIDTH)
    files = [saved(), sized(large, large), sized(small, large), sized(large, small)]
    result = subprocess.run(
        [sys.executable, '-c', code], input=repr(files), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 20_000, 'kB of memory were taken'


def test_a_second_frame_or_header_is_refused():
    data = saved()
    begin = data.index(b'mdat') + 4
    iloc = data.index(b'iloc') + 18

    def with_item(item):
        return (data[:iloc] + struct.pack('>II', begin, len(item)) + data[iloc + 8:begin - 8]
                + struct.pack('>I', len(item) + 8) + b'mdat' + item)

    item = data[begin:]
    assert with_item(item) == data
    head = item[2:4 + item[3]]  # the sequence header
    frame = item[2 + len(head):]
    assert (decode_image('avif', with_item(head + frame)) == decode_image('avif', data)).all()
    for other in (
            item + frame, item + head, head + item, frame + head, head, b'', item + b'\x12\0',
            item + b'\x12' + b'\x80' * 10 ** 6, item + b'\x12'):
        with pytest.raises(KeyFrameError, match='one plain picture'):
            decode_image('avif', with_item(other))


@pytest.mark.parametrize('place, old, new', [
    ('iloc', '4400000100010000000100', '4400000100010000000200'),  # two pieces
    ('iloc', '00000000440000', '01000000440000'),  # another version
    ('iinf', '000000000001', '000000000002'),  # two items
    ('meta', '6d657461', '66726565'),  # free space
])
def test_other_containers_are_refused(place, old, new):
    data = saved()
    begin = data.index(place.encode())
    head = data[begin:begin + 30].hex()
    assert old in head
    head = bytes.fromhex(head.replace(old, new, 1))
    with pytest.raises(KeyFrameError, match='one plain picture'):
        decode_image('avif', data[:begin] + head + data[begin + 30:])


def test_without_avif_it_is_refused_in_a_line_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(key_frame, 'has_avif', lambda: False)
    with pytest.raises(KeyFrameError, match=r"has no AVIF: pip install 'pillow>=11.3', or .*webp"):
        encode_image(picture(), 'avif')
    with pytest.raises(KeyFrameError, match='cannot be read.*has no AVIF') as caught:
        decode_image('avif', b'')
    assert '\n' not in str(caught.value) and caught.value.reason == 'format'
    assert not key_frame.format_fault('webp')
    assert decode_image(*encode_image(picture(), 'webp')).shape == (HEIGHT, WIDTH, 3)


def test_without_its_plugin_pillow_is_found_out(monkeypatch):
    Image.init()
    monkeypatch.delitem(Image.SAVE, 'AVIF', raising=False)
    avif.has_avif.cache_clear()
    try:
        assert avif.has_avif() is False
    finally:
        avif.has_avif.cache_clear()
