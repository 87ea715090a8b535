"""A bag of what the demo's nodes say, for ros2 bag play and for Foxglove."""

import os
from pathlib import Path
import shutil
import tempfile
import time
from typing import Any, Mapping

from ament_index_python.packages import get_package_share_directory
from rclpy.serialization import serialize_message

from shadowtutor_ros.commands import CommandError
from shadowtutor_ros.nodes.graph import type_name

#: Of metadata.yaml. The next writes quality of service in a way that Humble and Jazzy cannot read.
_VERSION = 8


class BagWriter:
    """
    Writes messages to a bag, from ``with`` to its end; what was written until then is kept.

    :param path: of the bag, which is not there yet: a single file where it ends in .mcap, else a
        folder.
    :param topics: the kind of message of each topic, by the topic's name in the bag.
    :raises CommandError: if it cannot be written.
    """

    def __init__(self, path: Path, topics: Mapping[str, type]):
        try:
            from rosbags.rosbag2 import (
                CompressionFormat, CompressionMode, StoragePlugin, Writer)
        except ImportError as error:
            raise CommandError(
                f'what writes bags cannot be imported ({error}): pip install '
                '"rosbags>=0.11.9,<0.12"') from None
        self._path = path
        self._topics = topics
        path.parent.mkdir(parents=True, exist_ok=True)
        # A writer always makes a folder, from which the file is taken at the end.
        self._temporary = (Path(tempfile.mkdtemp(prefix='.', dir=path.parent))
                           if path.suffix == '.mcap' else None)
        self._folder = self._temporary / path.stem if self._temporary else path
        self._writer = Writer(self._folder, version=_VERSION, storage_plugin=StoragePlugin.MCAP)
        # By chunks within the file, which all that reads MCAP reads.
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._connections: dict[str, Any] = {}
        self._last = 0

    def __enter__(self) -> 'BagWriter':
        self._writer.open()
        self._connections = {
            topic: self._writer.add_connection(topic, **_definition(kind))
            for topic, kind in self._topics.items()}
        return self

    def __exit__(self, *exception) -> None:
        self._writer.close()
        if self._temporary:
            os.replace(self._folder / f'{self._folder.name}.mcap', self._path)
            shutil.rmtree(self._temporary)

    def write(self, topic: str, message: Any) -> None:
        """Write a message as one that comes now."""
        # The computer's clock may be set back.
        self._last = max(self._last, time.time_ns())
        self._writer.write(self._connections[topic], self._last, serialize_message(message))


def _definition(kind: type) -> dict[str, str]:
    """Return type, definition and hash of a kind of message, as rosbag2 records them."""
    from rosbags.typesys import get_types_from_msg, get_typestore, Stores

    name = type_name(kind)
    package = name.partition('/')[0]
    types = get_typestore(Stores.LATEST)
    if name in types.types:
        definition, _ = types.generate_msgdef(name, ros_version=2)
    else:
        share = Path(get_package_share_directory(package))
        text = (share / f'msg/{kind.__name__}.msg').read_text()
        types.register(get_types_from_msg(text, name))
        # Its own text has comments; those of the types in it follow.
        made, _ = types.generate_msgdef(name, ros_version=2)
        definition = text + made[made.index('=' * 80):]
    return {'msgtype': name, 'msgdef': definition, 'rihs01': types.hash_rihs01(name)}
