"""Files that are there as a whole or not at all."""

from contextlib import contextmanager, suppress
import os
from pathlib import Path
import secrets
import time
from typing import Iterator
import zlib

#: Seconds after which nobody is still writing a file.
_ABANDONED = 3600.0


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    Give a new file to write, which takes the place of another at the end, once it is on the disk.

    Where writing fails or is broken off nothing is left of it, and the other stays. Its name is
    nobody else's, as another process may do the same; its mode is that of any new file. A process
    that was killed, as by a robot's switch, leaves its file: that is removed an hour later, by
    whoever writes next.

    :param path: of the file to be; its folder is made where it is not there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    of_path = f'{zlib.crc32(path.name.encode()):08x}'  # names may be as long as is allowed
    for left in path.parent.glob(f'{of_path}-*.partial'):
        with suppress(OSError):  # it is another's, or gone by now
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink()
    new = path.with_name(f'{of_path}-{secrets.token_hex(8)}.partial')
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield new
        with new.open('rb') as file:
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
