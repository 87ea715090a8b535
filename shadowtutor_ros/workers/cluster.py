"""Ray, where it is installed, and the cluster that this process works with."""

import os
from types import ModuleType

from shadowtutor_ros.workers.base import WorkersError

#: Says where the head of a cluster is, as all of Ray has it; without it one is made here.
ADDRESS = 'RAY_ADDRESS'


def import_ray() -> ModuleType:
    """
    Import Ray.

    :raises WorkersError: if it is not installed, or cannot be imported.
    """
    # Nothing is told to anybody; read when it is imported, and handed on to what it starts.
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    try:
        import ray
    except (ImportError, OSError) as error:
        raise WorkersError(
            f'work on a Ray cluster needs ray, which cannot be imported ({error}): pip install '
            "'ray>=2.9,<3', on every machine of the cluster") from None
    return ray


def connect() -> ModuleType:
    """
    Connect this process with the cluster of ``RAY_ADDRESS``, or else make one of this machine.

    One that was made here ends with this process. The thread that calls this has to live as long.

    :returns: the module.
    :raises WorkersError: if there is no Ray, or no cluster at that address.
    """
    ray = import_ray()
    if ray.is_initialized():
        return ray
    address = os.environ.get(ADDRESS)
    # A dashboard is a web server more.
    options = {} if address else {'include_dashboard': False}
    try:
        ray.init(address or 'local', logging_level='ERROR', **options)
    except Exception as error:  # of many kinds
        where = f'at {ADDRESS}={address}' if address else 'on this machine'
        raise WorkersError(
            f"there is no Ray cluster {where} ({' '.join(str(error).split())[:300]}): start one "
            f'with ray start --head, or leave {ADDRESS} unset') from None
    return ray
