"""Files of PyTorch's own format, which are pickles: opened where that runs none of their code."""

from collections.abc import Collection
import hashlib
import io
from pathlib import Path
import shlex

import torch
from torch.torch_version import TorchVersion

#: From here on ``weights_only`` holds what it says, as far as is known: CVE-2025-32434 is of torch
#: up to 2.5.1, CVE-2026-24747 of all below this.
SAFE_TORCH = '2.10'

#: SHA-256 of files that any torch may read: the first implementation's Student_amended.pth.
KNOWN = ('da54d670c8382e04d9705499bdc570566053a520f7c125e7961c4ba23c59da60',)

_CONVERT = (
    'import sys, torch, safetensors.torch as s; s.save_file({k: v.clone().contiguous() for k, v '
    "in torch.load(sys.argv[1], map_location='cpu', weights_only=True).items()}, sys.argv[2])")


class UnknownPthError(ValueError):
    """A file that this version of PyTorch had better not open; one line says what to do."""


def load_pth(path: Path, known: Collection[str] = KNOWN) -> object:
    """
    Read a ``.pth`` file with ``weights_only=True``.

    :param known: SHA-256 of files, or their first hex digits, that are read by a torch older than
        :data:`SAFE_TORCH` too; any other is not opened by that.
    :returns: what the file holds, on the CPU; usually tensors by name.
    :raises UnknownPthError: if the file is not known and torch is older.
    :raises Exception: of nearly any type, from ``torch.load``, if the file is garbage.
    """
    if TorchVersion(torch.__version__) >= SAFE_TORCH:
        return torch.load(path, map_location='cpu', weights_only=True)
    # What is hashed is what is read, even if the file changes meanwhile.
    data = path.read_bytes()
    if not hashlib.sha256(data).hexdigest().startswith(tuple(known)):
        raise UnknownPthError(
            f'torch {torch.__version__} may run code that hides in a .pth file, and the SHA-256 '
            f'of this one is not known: convert it with torch {SAFE_TORCH} or newer by '
            f"{shlex.join(['python3', '-c', _CONVERT, str(path)])} "
            f"{shlex.quote(str(path.with_suffix('.safetensors')))} and give that file")
    return torch.load(io.BytesIO(data), map_location='cpu', weights_only=True)
