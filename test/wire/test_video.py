import os
import sys

import cv2
import numpy as np
import pytest
from shadowtutor_ros.wire import key_frame, video
from shadowtutor_ros.wire.key_frame import (
    AUTO, decode_image, encode_image, KeyFrame, KeyFrameDecoder, KeyFrameEncoder, KeyFrameError,
    MAX_BYTES, VIDEO)
from shadowtutor_ros.wire.video import VideoDecoder, VideoEncoder, VideoError

HEIGHT, WIDTH = 72, 96


@pytest.fixture(autouse=True)
def needs_video(request):
    if 'without' not in request.node.name and not video.has_video():
        pytest.skip('there is no PyAV with AV1 here')


def scene(index=0, height=HEIGHT, width=WIDTH):
    """Make a frame of a scene in which a thing moves."""
    random = np.random.default_rng(3)
    frame = cv2.resize(random.integers(0, 256, (9, 16, 3), np.uint8), (width, height))
    frame = cv2.add(frame, np.dstack(3 * [random.integers(0, 20, (height, width), np.uint8)]))
    frame[20:50, 10 + 5 * index:40 + 5 * index] = 200, 90, 30
    return frame


def frame_of(number, answered, session_id=1, picture=None):
    return KeyFrame(
        session_id, number, 9 * number, 'model', 0, 0, 0,
        scene(number) if picture is None else picture, answered=answered)


def psnr(one, other):
    return 10 * np.log10(255 ** 2 / np.square(one.astype(float) - other).mean())


@pytest.fixture
def encoder():
    encode = KeyFrameEncoder()
    return lambda one, quality=50, max_width=0: encode(one, VIDEO, quality, max_width)


# --- what two ends that hear one another do -----------------------------------------------------

@pytest.mark.parametrize('size', [(HEIGHT, WIDTH), (73, 97), (33, 40), (360, 640)])
def test_pictures_come_back(size):
    encode, decode = VideoEncoder(*size, 70), VideoDecoder(*size)
    for index in range(5):
        frame = scene(index, *size)
        received = decode(encode(frame))
        assert received.shape == frame.shape and received.dtype == np.uint8
        assert received.flags.c_contiguous and psnr(received, frame) > 20


def test_every_picture_is_as_good_as_the_first_and_smaller():
    encode, decode = VideoEncoder(360, 640, 50), VideoDecoder(360, 640)
    coded = [encode(scene(index, 360, 640)) for index in range(6)]
    quality = [psnr(decode(data), scene(index, 360, 640)) for index, data in enumerate(coded)]
    assert max(quality) - min(quality) < 1.5, quality
    assert max(map(len, coded[1:])) < len(coded[0]) / 3, list(map(len, coded))


@pytest.mark.parametrize('quality', [20, 50, 80])
def test_its_quality_is_that_of_webp(quality):
    frame = scene(0, 360, 640)
    by_webp = psnr(frame, decode_image(*encode_image(frame, 'webp', quality)))
    by_video = psnr(frame, VideoDecoder(360, 640)(VideoEncoder(360, 640, quality)(frame)))
    assert abs(by_video - by_webp) < 2.5


def test_two_decoders_read_the_same_to_the_bit():
    encode, one, other = VideoEncoder(HEIGHT, WIDTH, 50), *(
        VideoDecoder(HEIGHT, WIDTH) for _ in range(2))
    for index in range(4):
        data = encode(scene(index))
        assert (one(data) == other(data)).all()


def test_a_key_frame_refers_to_the_last_one_where_that_was_answered(encoder):
    decode = KeyFrameDecoder()
    for number in (1, 2, 3):
        said, data = encoder(frame_of(number, number - 1))
        assert said == f'video; {HEIGHT}x{WIDTH}; {number - 1}'
        frame, kept = decode(1, number, said, data)
        assert psnr(frame, scene(number)) > 22
        assert (decode_image(*kept) == frame).all()


def test_one_that_comes_twice_is_read_once(encoder):
    decode = KeyFrameDecoder()
    first, second = (encoder(frame_of(number, number - 1)) for number in (1, 2))
    once = decode(1, 1, *first)[0]
    assert (decode(1, 1, *first)[0] == once).all()
    assert psnr(decode(1, 2, *second)[0], scene(2)) > 22


def test_where_one_was_lost_or_refused_a_stream_begins(encoder):
    decode = KeyFrameDecoder()
    decode(1, 1, *encoder(frame_of(1, 0)))
    encoder(frame_of(2, 1))  # is lost
    said, data = encoder(frame_of(3, 1))
    assert said.endswith('; 0')
    decode(1, 3, said, data)
    said, data = encoder(frame_of(4, 3))
    assert said.endswith('; 3') and psnr(decode(1, 4, said, data)[0], scene(4)) > 22


@pytest.mark.parametrize('change', [
    {'session_id': 2}, {'picture': scene(2, 90, 96)}, {'quality': 60}, {'max_width': 64}])
def test_another_session_size_or_quality_begins_a_stream(encoder, change):
    options = {name: change.pop(name) for name in ('quality', 'max_width') if name in change}
    encoder(frame_of(1, 0))
    assert encoder(frame_of(2, 1, **change), **options)[0].endswith('; 0')


def test_a_still_between_them_begins_a_stream():
    encode = KeyFrameEncoder()
    encode(frame_of(1, 0), VIDEO, 50, 0)
    assert encode(frame_of(2, 1), 'png', 50, 0)[0] == 'png'
    assert encode(frame_of(3, 2), VIDEO, 50, 0)[0].endswith('; 0')


# --- what must be refused ------------------------------------------------------------------------

def test_what_follows_another_key_frame_is_refused_and_the_next_stream_is_read(encoder):
    first, second = (encoder(frame_of(number, number - 1)) for number in (1, 2))
    fresh, other, ahead = (KeyFrameDecoder() for _ in range(3))
    other(2, 1, *first)
    ahead(1, 5, *first)
    for decode in (fresh, other, ahead):  # restarted; of another session; of another key frame
        with pytest.raises(KeyFrameError, match='since key frame 1, which is not the last'):
            decode(1, 2, *second)
        assert decode(1, 3, *encoder(frame_of(3, 0)))[0].shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize('said', [
    'video', 'video; ', 'video; 72x96', 'video; 72x96; ', 'video; 72x96; -1', 'video; 72x96; 00',
    'video; 072x96; 0', 'video; 72x96; 0\n', 'video; 72x96; 0 ', 'videos; 72x96; 0',
    'video; 72x96; ' + '9' * 10 ** 5, 'video; 0x96; 0'])
def test_strange_formats_are_refused(said, encoder):
    with pytest.raises(KeyFrameError, match="is not 'video; <height>x<width>") as caught:
        KeyFrameDecoder()(1, 1, said, encoder(frame_of(1, 0))[1])
    assert len(str(caught.value)) < 200


def test_the_size_is_limited_before_anything_is_decoded(encoder):
    data = encoder(frame_of(1, 0))[1]
    for said, why in (('9999x9999', 'larger than the limit'), ('16x96', 'too small')):
        with pytest.raises(KeyFrameError, match=why):
            KeyFrameDecoder()(1, 1, f'video; {said}; 0', data)
    with pytest.raises(KeyFrameError, match='bytes is larger than the limit') as caught:
        KeyFrameDecoder()(1, 1, 'video; 72x96; 0', bytes(MAX_BYTES + 1))
    assert caught.value.reason == 'too_large'


def test_a_picture_larger_than_it_says_is_not_decoded():
    # Of one that was decoded, and has another size, the error says so.
    for size in ((HEIGHT, WIDTH + 2), (HEIGHT + 2, WIDTH), (1080, 1920)):
        data = VideoEncoder(*size, 10)(scene(0, *size))
        with pytest.raises(VideoError, match='it is no picture of an AV1 video'):
            VideoDecoder(HEIGHT, WIDTH)(data)


def test_a_smaller_picture_than_it_says_is_refused():
    data = VideoEncoder(HEIGHT, WIDTH, 50)(scene())
    for size in ((HEIGHT + 2, WIDTH), (HEIGHT, WIDTH + 2), (WIDTH, HEIGHT)):
        with pytest.raises(VideoError, match='it is not one picture'):
            VideoDecoder(*size)(data)


def test_a_picture_is_one_frame():
    encode = VideoEncoder(HEIGHT, WIDTH, 50)
    first, second = encode(scene(0)), encode(scene(1))
    header = first[2:4 + first[3]]
    assert first[:3] == b'\x12\0\x0a'
    for data in (
            b'', first + second, first + first, first[2:], first + first[:2], header,
            first[:2] + header + header + first[2 + len(header):], bytes(100), b'\xff' * 1000,
            first[:2] + b'\x0a' + b'\x80' * 10 ** 6):
        with pytest.raises(VideoError, match='it is no picture of an AV1 video'):
            VideoDecoder(HEIGHT, WIDTH)(data)


def test_what_was_cut_or_damaged_is_refused_or_a_picture():
    random = np.random.default_rng(5)
    encode = VideoEncoder(HEIGHT, WIDTH, 50)
    good = [encode(scene(index)) for index in range(2)]
    refused = 0
    for trial in range(200):
        decode, data = VideoDecoder(HEIGHT, WIDTH), bytearray(good[trial % 2])
        if trial % 2:
            decode(good[0])
        if trial % 3:
            for _ in range(3):
                data[int(random.integers(min(len(data), 60)))] = int(random.integers(256))
        else:
            del data[int(random.integers(len(data))):]
        try:
            frame = decode(bytes(data))
        except VideoError:
            refused += 1
        else:
            assert frame.shape == (HEIGHT, WIDTH, 3) and frame.dtype == np.uint8 and trial % 3
    assert refused > 100


def test_after_a_damaged_one_nothing_is_read_until_a_stream_begins(encoder):
    decode = KeyFrameDecoder()
    decode(1, 1, *encoder(frame_of(1, 0)))
    said, data = encoder(frame_of(2, 1))
    with pytest.raises(KeyFrameError, match='not whole'):
        decode(1, 2, said, data[:-9])
    with pytest.raises(KeyFrameError, match='not the last'):
        decode(1, 2, said, data)


def test_video_is_no_still():
    with pytest.raises(KeyFrameError, match="'video' is unknown"):
        encode_image(scene(), VIDEO)
    with pytest.raises(KeyFrameError, match='unknown'):
        decode_image('video; 72x96; 0', b'')


def test_without_it_it_is_refused_in_a_line_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(key_frame, 'has_video', lambda: False)
    with pytest.raises(KeyFrameError, match=r"no PyAV.*pip install 'av>=15', or .*webp"):
        KeyFrameEncoder()(frame_of(1, 0), VIDEO, 50, 0)
    with pytest.raises(KeyFrameError, match='cannot be read.*no PyAV') as caught:
        KeyFrameDecoder()(1, 1, 'video; 72x96; 0', b'x')
    assert '\n' not in str(caught.value) and caught.value.reason == 'format'
    said, data = KeyFrameEncoder()(frame_of(1, 0), 'webp', 50, 0)
    assert KeyFrameDecoder()(1, 1, said, data)[0].shape == (HEIGHT, WIDTH, 3)


def test_auto_is_video_where_both_ends_have_it(encoder):
    encode = KeyFrameEncoder()
    assert encode(frame_of(1, 0), AUTO, 50, 0)[0].startswith('video; ')
    encode.no_video = True  # the teacher has said so
    assert encode(frame_of(2, 1), AUTO, 50, 0)[0] == 'webp'
    encode.no_video = False
    assert encode(frame_of(3, 2), AUTO, 50, 0)[0].endswith('; 0')


def test_without_it_auto_is_webp(monkeypatch):
    monkeypatch.setattr(key_frame, 'has_video', lambda: False)
    assert KeyFrameEncoder()(frame_of(1, 0), AUTO, 50, 0)[0] == 'webp'
    assert not key_frame.format_fault(AUTO)


def test_without_pyav_nothing_fails(monkeypatch):
    monkeypatch.setitem(sys.modules, 'av', None)
    for cached in (video._av, video.has_video):
        cached.cache_clear()
    try:
        assert video.has_video() is False
    finally:
        for cached in (video._av, video.has_video):
            cached.cache_clear()


def test_coding_leaves_the_scheduling_of_all_threads_as_it_was():
    before = os.sched_getscheduler(0)
    encoder = VideoEncoder(64, 96, 50)
    for _ in range(2):
        encoder(np.zeros((64, 96, 3), np.uint8))
    assert {os.sched_getscheduler(int(thread)) for thread in os.listdir('/proc/self/task')} == {
        before}
