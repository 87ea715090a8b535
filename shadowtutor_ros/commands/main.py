"""The command `shadowtutor` and its subcommands."""

import argparse
import signal
import sys
from threading import main_thread, Timer

from shadowtutor_ros import __version__
from shadowtutor_ros.nodes.processes import end


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Show defaults, but for those that the text names or that are empty."""

    def _get_help_string(self, action: argparse.Action) -> str:
        empty = action.default is False or action.default in (None, '', [])
        if empty or '(default' in action.help:
            return action.help
        return super()._get_help_string(action)


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line, with all subcommands."""
    from shadowtutor_ros.commands import (
        benchmark, dashboard, demo, evaluate, export, faults, fuzz, link, plan, pretrain, report,
        security, soak)

    parser = argparse.ArgumentParser(
        prog='shadowtutor', description='ShadowTutor: distributed partial distillation of '
        'segmentation networks, for ROS 2.')
    parser.add_argument('--version', action='version', version=__version__)
    subparsers = parser.add_subparsers(required=True, metavar='command')
    for command in (
            benchmark, dashboard, demo, evaluate, export, faults, fuzz, link, plan, pretrain,
            report, security, soak):
        name = command.__name__.rpartition('.')[2]
        summary = command.__doc__.strip().partition('\n')[0].rstrip('.')
        subparser = subparsers.add_parser(
            name, help=summary, description=summary + '.',
            formatter_class=_Help)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def _raise_again(lost: 'sys.UnraisableHookArgs') -> None:
    """Let Ctrl-C count that fell into a place from which nothing can be raised, as a finaliser."""
    if isinstance(lost.exc_value, KeyboardInterrupt):
        Timer(0.01, signal.pthread_kill, (main_thread().ident, signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(lost)


def main(args: list[str] | None = None) -> int:
    """
    Run the command.

    :param args: of the command line; None takes the process's own.
    :returns: the exit status.
    """
    # What takes seconds to import would end in a traceback at Ctrl-C; so the system ends it.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
    parser = make_parser()
    signal.signal(signal.SIGINT, interrupt)
    parsed = parser.parse_args(args)
    signal.signal(signal.SIGTERM, end)
    sys.unraisablehook = _raise_again
    try:
        return parsed.run(parsed)
    except (ValueError, OSError) as error:
        print(f'shadowtutor: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('shadowtutor: interrupted', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())
