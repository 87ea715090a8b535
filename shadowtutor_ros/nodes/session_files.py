"""Sessions of robots on a disk: tensors as safetensors, all else as JSON in their header."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from shadowtutor_ros.algorithms import SessionError
from shadowtutor_ros.files import replacing
from shadowtutor_ros.models.safetensors_file import load_file, SafetensorsError, save_file
from shadowtutor_ros.models.student.base import Weights

#: Of what is in a file; another one is not gone on from.
VERSION = '1'


def state_folder(text: str) -> Path | None:
    """
    Return the folder that a parameter names.

    :param text: a path; ``~`` and ``~/.ros`` are as for ROS's own files; empty: none.
    """
    if not text:
        return None
    path, home = Path(text), os.environ.get('ROS_HOME')
    if home and path.parts[:2] == ('~', '.ros'):
        return Path(home, *path.parts[2:])
    return path.expanduser()


def load_kept(path: Path) -> tuple[Weights, dict[str, Any]] | None:
    """
    Load what a session, of a teacher or of a student, was kept as.

    :returns: tensors by name, and all else; None where there is no file.
    :raises SessionError: if it is no such file, or of another version.
    :raises OSError: if it cannot be read.
    """
    if not path.exists():
        return None
    try:
        tensors, metadata = load_file(path)
        if metadata.get('version') != VERSION:
            raise SessionError('it is of another version')
        meta = json.loads(metadata['session'])
    except SessionError:
        raise
    except (SafetensorsError, KeyError, ValueError, RecursionError) as error:
        raise SessionError(f'it is no session ({error})') from None
    if not isinstance(meta, dict):
        raise SessionError('it is no session')
    return tensors, meta


class SessionFiles:
    """
    The sessions of a teacher, a file for each robot.

    :param folder: is made where it is not there.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, key_frames: str) -> Path:
        """
        Return the file of a robot.

        :param key_frames: the topic of its key frames, fully qualified.
        """
        return self.folder / f'{quote(key_frames, safe="")}.session'

    def save(self, key_frames: str, tensors: Weights, meta: dict[str, Any]) -> None:
        """
        Save a session in place of the one before, which stays where that fails.

        :raises OSError: if it cannot be written.
        """
        with replacing(self.path(key_frames)) as new:
            new.chmod(0o600)  # it holds images of what the robot has seen
            save_file(tensors, new, {'version': VERSION, 'session': json.dumps(meta)})

    def load(self, key_frames: str) -> tuple[Weights, dict[str, Any]] | None:
        """
        Load the session of a robot.

        :returns, raises: as :func:`load_kept`.
        """
        return load_kept(self.path(key_frames))
