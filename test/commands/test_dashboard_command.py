"""The command that serves the dashboard."""

import builtins
import socket
import subprocess
import sys
import urllib.request

import pytest
from shadowtutor_ros.commands import CommandError, dashboard
from shadowtutor_ros.commands.main import make_parser

pytest.importorskip('tornado', reason='tornado is not installed')


@pytest.fixture(autouse=True)
def local(monkeypatch):
    """Keep to this machine."""
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    monkeypatch.delenv('DISPLAY', raising=False)


def test_it_serves_to_this_computer_alone_unless_told():
    arguments = make_parser().parse_args(['dashboard'])
    assert (arguments.host, arguments.port, arguments.read_only) == ('127.0.0.1', None, False)


def test_beside_a_command_it_is_there_until_that_has_ended(capfd):
    with dashboard.served():
        address = capfd.readouterr().out.split()[1]
        assert b'ShadowTutor' in urllib.request.urlopen(address, timeout=60).read()
    with pytest.raises(OSError):
        urllib.request.urlopen(address, timeout=60)
    assert capfd.readouterr().err == ''


def test_it_takes_arguments_of_ros_and_ends_when_told():
    with subprocess.Popen(
            [sys.executable, '-m', 'shadowtutor_ros.commands.dashboard', '--port', '0',
             '--host', '0.0.0.0', '--ros-args', '-r', '__node:=page'],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        port = process.stdout.readline().strip().rstrip('/').rpartition(':')[2]
        assert urllib.request.urlopen(f'http://127.0.0.1:{port}/', timeout=60).status == 200
        process.terminate()
        assert process.wait(60) == 0
        # Who opens it to all is told so.
        assert process.stderr.read() == (
            'dashboard: whoever reaches this address can change parameters; --read-only only '
            'shows\n')


def test_a_port_that_is_taken_is_said_or_another_chosen(monkeypatch, capfd):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        assert dashboard.main(['--port', str(port)]) == 1
        assert f'port {port} (' in capfd.readouterr().err
        monkeypatch.setattr(dashboard, 'DEFAULT_PORT', port)
        sockets = dashboard._listen('127.0.0.1', None)
        assert sockets[0].getsockname()[1] != port
        for one in sockets:
            one.close()


@pytest.mark.parametrize('arguments', [
    ['--host', '203.0.113.7'], ['--host', 'no.such.host.']])
def test_where_it_cannot_serve_is_said_in_one_line(arguments, capfd):
    assert dashboard.main(arguments) == 1
    error = capfd.readouterr().err
    assert error.startswith('dashboard: cannot serve at')
    assert error.count('\n') == 1


@pytest.mark.parametrize('port', ['70000', '-1', 'http'])
def test_what_is_no_port_is_refused(port, capfd):
    with pytest.raises(SystemExit):
        dashboard.main([f'--port={port}'])
    assert 'wanted 0 to 65535' in capfd.readouterr().err


def test_without_tornado_it_says_what_to_install(monkeypatch):
    imported = builtins.__import__

    def without(name, *arguments):
        if name.partition('.')[0] == 'tornado':
            raise ImportError
        return imported(name, *arguments)
    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(CommandError, match='sudo apt install python3-tornado, or pip install'):
        dashboard.run(make_parser().parse_args(['dashboard']))
