"""What several tests use."""

import os
from pathlib import Path

import domains
import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / 'shared'


#: Tests that look at all network namespaces of the machine: they run one after the other.
NAMESPACES = ('test_faults.py', 'test_link.py', 'test_veth.py')


def pytest_collection_modifyitems(items):
    """Keep the tests of a file in one process, where several run tests: they share fixtures."""
    for item in items:
        name = item.path.name
        item.add_marker(pytest.mark.xdist_group(
            'namespaces' if name in NAMESPACES else str(item.path)))


@pytest.fixture(scope='session', autouse=True)
def apart():
    """Let the nodes of commands meet in a DDS domain of this process."""
    os.environ['ROS_DOMAIN_ID'] = str(domains.draw())


@pytest.fixture(scope='session')
def shared():
    """Return a function that gives the path of a shared file, or skips where it is not there."""
    def path(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f'{SHARED / name} is not there')
        return SHARED / name
    return path


@pytest.fixture(scope='session')
def first_student(shared):
    """Return the path of the first implementation's student, trained on COCO."""
    return shared('data/models/Student_amended.pth')


@pytest.fixture(scope='session', autouse=True)
def one_thread():
    """Compute on one core: with threads that wait for each other a busy machine is slow."""
    torch.set_num_threads(1)


@pytest.fixture(params=['cpu', pytest.param('cuda', marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason='there is no CUDA device'))])
def device(request):
    """Return a device of PyTorch: what asks for it is tested on each that is there."""
    return request.param
