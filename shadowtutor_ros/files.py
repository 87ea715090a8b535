"""Files that are there as a whole or not at all."""

from contextlib import contextmanager
import os
from pathlib import Path
import tempfile
from typing import Iterator


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    Give a new file to write, which takes the place of another at the end.

    Where writing fails or is broken off nothing is left of it, and the other stays. Its name is
    nobody else's, as another process may do the same.

    :param path: of the file to be; its folder is made where it is not there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp('.partial', dir=path.parent)
    os.close(number)
    try:
        yield Path(name)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
