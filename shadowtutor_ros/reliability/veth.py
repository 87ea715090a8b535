"""A link of a given bandwidth between two network namespaces of one machine (Linux, as root)."""

import ctypes
import json
import os
import secrets
import shutil
import subprocess

_DEVICE = 'veth0'
_CLONE_NEWNET = 0x40000000

#: Bytes that may pass at once, whatever the bandwidth: some Ethernet frames.
BURST = 8_000

# More than a sender's socket holds by default, so that it is made to wait and nothing is lost.
_QUEUE = 4_000_000


class VethError(OSError):
    """A link that cannot be made here; one line says why."""


class VethLink:
    """
    Exists from ``with`` to its end: a veth pair whose two ends send at a given rate (tc tbf).

    Nothing else is reached from within, and nothing else of the machine changes.

    :ivar robot, workstation: names of the namespaces.
    :raises VethError: on entering, where this is not allowed.
    """

    def __init__(self) -> None:
        token = secrets.token_hex(3)
        self.robot, self.workstation = (
            f'shadowtutor-{token}-{end}' for end in ('robot', 'workstation'))

    def __enter__(self) -> 'VethLink':
        if os.geteuid():
            raise VethError('network namespaces need root: run this with sudo')
        for tool in ('ip', 'tc'):
            if not shutil.which(tool):
                raise VethError(f"'{tool}' is not installed: install iproute2")
        try:
            for namespace in (self.robot, self.workstation):
                _call('ip', 'netns', 'add', namespace)
            _call('ip', 'link', 'add', _DEVICE, 'netns', self.robot, 'type', 'veth',
                  'peer', 'name', _DEVICE, 'netns', self.workstation)
            for number, namespace in enumerate((self.robot, self.workstation), 1):
                _call('ip', '-n', namespace, 'address', 'add', f'10.0.0.{number}/24',
                      'dev', _DEVICE)
                for device in ('lo', _DEVICE):
                    _call('ip', '-n', namespace, 'link', 'set', device, 'up')
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception) -> None:
        for namespace in (self.robot, self.workstation):
            # The devices go with their namespace.
            subprocess.run(['ip', 'netns', 'delete', namespace], stderr=subprocess.DEVNULL)

    def limit(self, bandwidth: float) -> None:
        """Hold both ends to so many bits a second; before the first call they have no limit."""
        for namespace in (self.robot, self.workstation):
            _call('tc', '-n', namespace, 'qdisc', 'replace', 'dev', _DEVICE, 'root', 'tbf',
                  'rate', f'{bandwidth:.0f}bit', 'burst', str(BURST), 'limit', str(_QUEUE))

    def connect(self, connected: bool) -> None:
        """Plug the workstation's end in, or out."""
        _call('ip', '-n', self.workstation, 'link', 'set', _DEVICE, 'up' if connected else 'down')

    def bytes_sent(self) -> tuple[int, int]:
        """Return the bytes that have crossed the link: from the robot, from the workstation."""
        statistics = json.loads(_call(
            'ip', '-n', self.robot, '-s', '-j', 'link', 'show', 'dev', _DEVICE))[0]['stats64']
        return statistics['tx']['bytes'], statistics['rx']['bytes']


def enter(namespace: str) -> None:
    """Move the calling thread, and the threads and processes it starts, into a namespace."""
    with open(f'/run/netns/{namespace}') as file:
        # os.setns is there from Python 3.12 on.
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise VethError(number, f'namespace {namespace} cannot be entered: '
                            f'{os.strerror(number)}')


def _call(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise VethError(f"'{' '.join(command)}' failed, so no link can be made here: "
                        f"{' '.join(result.stderr.split()) or 'it does not say why'}")
    return result.stdout
