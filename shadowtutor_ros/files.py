"""Files that are there as a whole or not at all."""

from contextlib import contextmanager
import os
from pathlib import Path
import secrets
from typing import Iterator


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    Give a new file to write, which takes the place of another at the end, once it is on the disk.

    Where writing fails or is broken off nothing is left of it, and the other stays. Its name is
    nobody else's, as another process may do the same; its mode is that of any new file.

    :param path: of the file to be; its folder is made where it is not there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f'{secrets.token_hex(8)}.partial')
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield new
        with new.open('rb') as file:
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
