"""
Serve a page to watch and steer all students and teachers on the ROS graph.

It is there for the browsers of this computer alone, unless ``--host`` says otherwise: who can open
it can change parameters.
"""

import argparse
import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
import errno
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import webbrowser

from shadowtutor_ros.commands import CommandError, needing_ros

#: Where it is served, if that port is free.
DEFAULT_PORT = 8780


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        '--host', default='127.0.0.1', help='address to serve at; 0.0.0.0: all that this '
        'computer has, for whoever reaches it')
    parser.add_argument(
        '--port', type=_port, help='to serve at; 0: any that is free (default: '
        f'{DEFAULT_PORT}, or any where that is taken)')
    parser.add_argument(
        '--read-only', action='store_true', help='show all, change nothing')
    parser.add_argument(
        '--open', action='store_true', help='open the page in a browser, where there is a screen')
    parser.set_defaults(ros_args=[])


def run(arguments: argparse.Namespace) -> int:
    """Serve the page until told to stop; returns the exit status."""
    try:
        import tornado  # noqa: F401
    except ImportError:
        raise CommandError(
            'the dashboard needs Tornado: sudo apt install python3-tornado, or pip install '
            "'tornado>=6.1,<7'") from None
    with needing_ros():
        from shadowtutor_ros import msg  # noqa: F401
    from shadowtutor_ros.nodes.running import large_shared_memory

    sockets = _listen(arguments.host, arguments.port)
    large_shared_memory()
    address = _address(arguments.host, sockets[0].getsockname()[1])
    print(f'dashboard: {address}' + (' (read-only)' if arguments.read_only else ''), flush=True)
    if not _is_local(arguments.host) and not arguments.read_only:
        print('dashboard: whoever reaches this address can change parameters; --read-only '
              'only shows', file=sys.stderr, flush=True)
    if arguments.open and (sys.platform == 'darwin' or {'DISPLAY', 'WAYLAND_DISPLAY'} & (
            os.environ.keys())):
        webbrowser.open(address)
    asyncio.run(_serve(arguments, sockets))
    return 0


async def _serve(arguments: argparse.Namespace, sockets: list[socket.socket]) -> None:
    from shadowtutor_ros.dashboard.server import Dashboard

    end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    await Dashboard(arguments.read_only, arguments.host, arguments.ros_args).run(sockets, end)


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"'{text}' is no port: wanted 0 to 65535")
    return int(text)


@contextmanager
def served() -> Iterator[None]:
    """
    Serve the page beside what a command does, in a process of its own; its address is printed.

    :raises CommandError: if it does not start; it has said why itself.
    """
    with subprocess.Popen(
            [sys.executable, '-m', 'shadowtutor_ros.commands.dashboard', '--open'],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            if not (address := process.stdout.readline()):
                raise CommandError('the dashboard has not started')
            print(address, end='', flush=True)
            yield
        finally:
            process.terminate()


def _listen(host: str, port: int | None) -> list[socket.socket]:
    from tornado.netutil import bind_sockets

    for choice in (DEFAULT_PORT, 0) if port is None else (port,):
        try:
            return bind_sockets(choice, host)
        except OSError as error:
            failure = error
            if error.errno != errno.EADDRINUSE:
                break
    raise CommandError(
        f'cannot serve at {host}, port {choice} ({failure}): give --host an address of this '
        'computer, and --port another number, 0 for any that is free')


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def _address(host: str, port: int) -> str:
    if host in ('0.0.0.0', '::', ''):
        host = socket.gethostname()
    return f'http://[{host}]:{port}/' if ':' in host else f'http://{host}:{port}/'


def main(args: list[str] | None = None) -> int:
    """
    Run the dashboard alone, as ``ros2 run`` and ``ros2 launch`` do.

    :param args: of the command line, with those for ROS; None takes the process's own.
    """
    args = sys.argv[1:] if args is None else args
    parser = argparse.ArgumentParser(
        prog='dashboard', description=__doc__.strip().partition('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_arguments(parser)
    place = args.index('--ros-args') if '--ros-args' in args else len(args)
    arguments = parser.parse_args(args[:place])
    arguments.ros_args = args[place:]
    try:
        return run(arguments)
    except (ValueError, OSError) as error:
        print(f'dashboard: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == '__main__':
    sys.exit(main())
