"""Bags into the demo, and the bag that it writes."""

import json
from pathlib import Path
import subprocess
import sys

from bag_files import BEGIN, image, SECOND, write_bag
import cv2
import numpy as np
import pytest

from shadowtutor_ros.commands.main import main
from shadowtutor_ros.sources.videos import open_source
from shadowtutor_ros.world.scenes import Scene

pytest.importorskip('rclpy')

from ament_index_python.packages import get_package_share_directory  # noqa: E402
from mcap.reader import make_reader  # noqa: E402
from mcap_ros2.decoder import DecoderFactory  # noqa: E402
from rclpy.serialization import deserialize_message  # noqa: E402
from rosbags.highlevel import AnyReader  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from shadowtutor_ros.commands import demo_bag  # noqa: E402
from shadowtutor_ros.commands.demo_bag import BagWriter  # noqa: E402
from shadowtutor_ros.commands.demo_recorder import TOPICS  # noqa: E402
from shadowtutor_ros.msg import KeyFrame, TutorStatus, WeightUpdate  # noqa: E402
from shadowtutor_ros.nodes.images import to_bytes, to_message  # noqa: E402

ROOT = Path(__file__).parents[2]

FRAMES = 24


def taken(index):
    """Return the stamp of a frame: not in even steps."""
    return BEGIN + index * SECOND // 25 + (index % 3) * SECOND // 100


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    """Return the bag of the scene that a demo was run on, and the bag that it has written."""
    folder = tmp_path_factory.mktemp('demo')
    scene = Scene(1, 'day', 320, 180)
    bag = write_bag(folder / 'drive', {'/camera': [
        (taken(index) + SECOND // 100,
         image(scene.render(index).image, 'bgr8', taken(index), 320, padding=4))
        for index in range(FRAMES)]}, 'sqlite3')
    out = folder / 'new' / 'out.mcap'
    done = subprocess.run(
        [sys.executable, '-m', 'shadowtutor_ros.commands.main', 'demo', '--video', str(bag),
         '--teacher', 'scene', '--late-update', 'wait', '--out', str(folder / 'demo'),
         '--record', str(out)], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f'wrote {out}' in done.stdout
    assert [path.name for path in out.parent.iterdir()] == ['out.mcap']
    return bag, out, json.loads((folder / 'demo' / 'summary.json').read_text())


def read(path):
    """Return the messages of a bag by topic, by rosbags and the definitions in the bag."""
    messages = {}
    with AnyReader([path]) as reader:
        for connection, _, data in reader.messages():
            messages.setdefault(connection.topic, []).append(
                reader.deserialize(data, connection.msgtype))
    return messages


def stamp_of(message):
    stamp = message.header.stamp
    return stamp.sec * SECOND + stamp.nanosec


def test_every_frame_of_a_bag_gets_its_mask_with_its_stamp(recorded):
    bag, out, summary = recorded
    assert summary['frames'] == summary['masks'] == FRAMES
    assert summary['miou'] > summary['miou_without_distillation']
    messages = read(out)
    assert set(messages) == set(TOPICS)
    for topic in ('/image', '/segmentation/mask'):
        assert [stamp_of(one) for one in messages[topic]] == [taken(i) for i in range(FRAMES)]
        assert {one.header.frame_id for one in messages[topic]} == {'eye'}
    assert {(one.encoding, one.height, one.width) for one in messages['/segmentation/mask']} == {
        ('mono8', 180, 320)}
    assert len(messages['/key_frames']) == summary['key_frames'] >= 1
    # The last one may come when no frame is left that it could be applied at.
    numbers = [one.key_frame_number for one in messages['/weight_updates']]
    assert numbers == [one.key_frame_number for one in messages['/key_frames']][:len(numbers)]
    assert summary['key_frames'] >= len(numbers) >= summary['updates_applied'] >= 1
    assert messages['/student/status'][-1].updates_applied == summary['updates_applied']
    assert messages['/weight_updates'][0].blob.size > 1000
    assert messages['/student/status'][-1].masks_published == FRAMES


def test_the_reader_of_foxglove_reads_it_too(recorded):
    _, out, _ = recorded
    with out.open('rb') as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        header, summary = reader.get_header(), reader.get_summary()
        decoded = list(reader.iter_decoded_messages())
        in_file = list(reader.iter_messages(log_time_order=False))
    assert header.profile == 'ros2'
    assert {channel.topic for channel in summary.channels.values()} == set(TOPICS)
    assert {channel.message_encoding for channel in summary.channels.values()} == {'cdr'}
    counts = {topic: len(messages) for topic, messages in read(out).items()}
    assert {channel.topic: summary.statistics.channel_message_counts[channel.id]
            for channel in summary.channels.values()} == counts
    times = [message.log_time for _, _, message in in_file]
    assert times == sorted(times) and len(times) == sum(counts.values())
    masks = [message for _, channel, _, message in decoded
             if channel.topic == '/segmentation/mask']
    assert len(masks) == FRAMES and len(masks[0].data) == 320 * 180
    updates = [message for schema, _, _, message in decoded
               if schema.name == 'shadowtutor_ros/msg/WeightUpdate']
    assert 0 <= updates[0].metric_before <= 1 and updates[0].teacher.endswith('/teacher')


def test_it_can_be_played_into_the_camera_again(recorded):
    bag, out, _ = recorded
    again = list(open_source(f'{out}:/image').recorded())
    before = list(open_source(str(bag)).recorded())
    assert [one.stamp for one in again] == [one.stamp for one in before]
    assert all(np.array_equal(one.decode(), other.decode())
               for one, other in zip(again, before))


def messages():
    picture = np.full((40, 48, 3), 7, np.uint8)
    header = Header(frame_id='eye')
    return {
        '/image': to_message(picture, 'bgr8', header),
        '/segmentation/mask': to_message(picture[..., 0], 'mono8', header),
        '/key_frames': KeyFrame(
            student='/robot', classes=['person', 'auto: car'],
            image=CompressedImage(format='jpeg', data=to_bytes(b'123'))),
        '/weight_updates': WeightUpdate(tensors=[3, 5], blob=to_bytes(b'abc'), metric_before=0.5),
        '/student/status': TutorStatus(state=2, classes=['x'], rejection_counts=[1, 2])}


@pytest.mark.parametrize('name', ['out.mcap', 'out'])
def test_what_is_written_is_what_is_read(tmp_path, name):
    path = tmp_path / name
    with BagWriter(path, TOPICS) as bag:
        for topic, message in messages().items():
            bag.write(topic, message)
    assert path.is_file() == (name == 'out.mcap')
    assert [one.name for one in tmp_path.iterdir()] == [name]
    with AnyReader([path]) as reader:
        for connection, _, data in reader.messages():
            assert deserialize_message(
                data, TOPICS[connection.topic]) == messages()[connection.topic]
        assert reader.message_count == len(TOPICS)


def test_definitions_are_those_of_the_package(tmp_path):
    path = tmp_path / 'out.mcap'
    with BagWriter(path, TOPICS) as bag:
        bag.write('/image', messages()['/image'])
    with path.open('rb') as file:
        schemas = {one.name: one.data.decode()
                   for one in make_reader(file).get_summary().schemas.values()}
    with AnyReader([path]) as reader:
        digests = {one.msgtype: one.digest for one in reader.connections}
        types = reader.typestore
    assert set(schemas) == {'sensor_msgs/msg/Image'} | {
        f'shadowtutor_ros/msg/{name}' for name in ('KeyFrame', 'WeightUpdate', 'TutorStatus')}
    for name in ('KeyFrame', 'WeightUpdate', 'TutorStatus'):
        text, kind = (ROOT / f'msg/{name}.msg').read_text(), f'shadowtutor_ros/msg/{name}'
        assert schemas[kind].startswith(text)
        assert 'MSG: std_msgs/Header' in schemas[kind]
        described = Path(get_package_share_directory('shadowtutor_ros'), f'msg/{name}.json')
        if described.exists():  # from Jazzy on
            hashes = {one['type_name']: one['hash_string']
                      for one in json.loads(described.read_text())['type_hashes']}
            assert types.hash_rihs01(kind) == hashes[kind]
            assert digests.get(kind) in (hashes[kind], '')


def test_time_does_not_go_back_where_the_computers_does(tmp_path, monkeypatch):
    times = iter([50, 70, 60, 80])
    monkeypatch.setattr(demo_bag.time, 'time_ns', lambda: next(times))
    with BagWriter(tmp_path / 'out.mcap', {'/image': Image}) as bag:
        for _ in range(4):
            bag.write('/image', messages()['/image'])
    with AnyReader([tmp_path / 'out.mcap']) as reader:
        assert [time for _, time, _ in reader.messages()] == [50, 70, 70, 80]


def test_what_was_written_before_an_interrupt_is_kept(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with BagWriter(tmp_path / 'out.mcap', TOPICS) as bag:
            bag.write('/image', messages()['/image'])
            raise KeyboardInterrupt
    assert len(read(tmp_path / 'out.mcap')['/image']) == 1


def test_a_bag_that_is_there_is_not_written_over(tmp_path, capfd):
    path = tmp_path / 'out.mcap'
    path.write_text('mine')
    assert main(['demo', '--record', str(path), '--out', str(tmp_path / 'demo')]) == 1
    assert 'is there already' in capfd.readouterr().err and path.read_text() == 'mine'


def test_bags_give_the_results_of_the_same_frames_as_images(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    scene = Scene(2, 'day', 320, 184)
    (tmp_path / 'images').mkdir()
    frames = [scene.render(index).image for index in range(8)]
    for index, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / 'images' / f'{index}.png'), frame)
    # At the rate that a folder of images has.
    topic = [(BEGIN + index * SECOND // 25, image(frame, 'bgr8', BEGIN, 320))
             for index, frame in enumerate(frames)]
    bag = write_bag(tmp_path / 'bag', {'/left': topic, '/right': topic[::-1][:1]})
    sources = [str(tmp_path / 'images'), f'{bag}:/left']
    for name, source in zip('ab', sources):
        assert main(['evaluate', source, '--teacher', 'scene', '--width', '320', '--methods',
                     'wild,partial', '--set', 'max_updates=2', '--set', 'threshold=0.95',
                     '--out', str(tmp_path / name)]) == 0
    runs = [json.loads((tmp_path / name / 'results.json').read_text())['runs'] for name in 'ab']
    assert [run['video'] for run in runs[1]] == ['bag:/left'] * 2
    assert runs[1][0]['rate'] == pytest.approx(25)
    for one, other in zip(*runs):
        assert len(one['miou_by_frame']) == 8
        assert one['miou_by_frame'] == other['miou_by_frame']
        assert one['key_frames'] == other['key_frames']


def test_two_topics_of_a_bag_are_two_videos(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    scene = Scene(2, 'day', 320, 184)
    bag = write_bag(tmp_path / 'bag', {
        f'/eye_{eye}': [(BEGIN + index, image(scene.render(index + 9 * eye).image, 'bgr8', 0, 320))
                        for index in range(3)] for eye in (0, 1)})
    options = ['--teacher', 'scene', '--width', '320', '--methods', 'wild', '--out',
               str(tmp_path / 'out')]
    assert main(['evaluate', str(bag), *options]) == 1
    assert '/eye_0, /eye_1' in capfd.readouterr().err
    assert main(['evaluate', f'{bag}:/eye_0', f'{bag}:/eye_1', *options]) == 0
    runs = json.loads((tmp_path / 'out' / 'results.json').read_text())['runs']
    assert [run['video'] for run in runs] == ['bag:/eye_0', 'bag:/eye_1']
    assert runs[0]['miou_by_frame'] != runs[1]['miou_by_frame']
