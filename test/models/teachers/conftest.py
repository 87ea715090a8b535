"""Tiny checkpoints of transformers."""

import os

import hf_files
import pytest

# Read when transformers is imported: nothing is asked of the network.
os.environ['HF_HUB_OFFLINE'] = '1'


@pytest.fixture(scope='session')
def transformers():
    return pytest.importorskip('transformers')


@pytest.fixture(scope='session')
def checkpoint(transformers, tmp_path_factory):
    """Return a function that gives the folder of one of the checkpoints of hf_files, by name."""
    root, made = tmp_path_factory.mktemp('checkpoints'), {}

    def checkpoint(name):
        if name == 'sam3' and not hasattr(transformers, 'Sam3Model'):
            pytest.skip(f'transformers {transformers.__version__} has no SAM 3')
        if name not in made:
            made[name] = getattr(hf_files, name)(transformers, root / name)
        return made[name]
    return checkpoint
