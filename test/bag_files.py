"""Makes bags, as rosbag2 records them."""

import cv2
import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

TYPES = get_typestore(Stores.LATEST)

SECOND = 10**9

#: When the first image of a bag was taken, in ns.
BEGIN = 1_700_000_000 * SECOND


def of(name):
    return TYPES.types[name.replace('/', '/msg/')]


def header(stamp, frame_id='eye'):
    time = of('builtin_interfaces/Time')(*divmod(stamp, SECOND))
    return of('std_msgs/Header')(time, frame_id)


def image(rows, encoding, stamp, width, padding=0, frame_id='eye'):
    """Return an Image of rows of pixels, H×… of any kind, with so many bytes behind each row."""
    rows = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    return of('sensor_msgs/Image')(
        header(stamp, frame_id), len(rows), width, encoding, 0, rows.shape[1], rows.ravel())


def compressed(frame, stamp, kind='.jpg', frame_id='eye'):
    data = cv2.imencode(kind, frame)[1].ravel()
    return of('sensor_msgs/CompressedImage')(header(stamp, frame_id), kind[1:], data)


def text(words):
    return of('std_msgs/String')(words)


def write_bag(path, topics, storage='mcap', compression=None):
    """
    Write a bag.

    :param topics: by name, the messages as pairs of when they were recorded, in ns, and what; of
        images where there are none.
    :param storage: 'mcap' or 'sqlite3'.
    :param compression: 'file', 'message' or 'storage'.
    :returns: the folder.
    """
    with_compression = Writer(path, version=8, storage_plugin=StoragePlugin[storage.upper()])
    if compression:
        with_compression.set_compression(
            CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    with with_compression as writer:
        messages = []
        for topic, pairs in topics.items():
            kind = pairs[0][1].__msgtype__ if pairs else 'sensor_msgs/msg/Image'
            connection = writer.add_connection(topic, kind, typestore=TYPES)
            messages += [(time, connection, TYPES.serialize_cdr(message, kind))
                         for time, message in pairs]
        for time, connection, data in sorted(messages, key=lambda message: message[0]):
            writer.write(connection, time, data)
    return path


def only_file(bag):
    """Return the one file of a bag's folder that holds its messages."""
    (path,) = (path for path in bag.iterdir() if path.suffix in ('.mcap', '.db3'))
    return path
