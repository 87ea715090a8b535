"""A link of a given bandwidth between two namespaces."""

import os
import socket
import subprocess
import threading
import time

import pytest

from shadowtutor_ros.reliability import veth
from shadowtutor_ros.reliability.veth import BURST, enter, VethError, VethLink


def namespaces():
    return subprocess.run(['ip', 'netns', 'list'], capture_output=True, text=True).stdout


@pytest.fixture
def link():
    """Return a link of 8 Mbit/s, or skip where none can be made."""
    try:
        with VethLink() as link:
            link.limit(8e6)
            yield link
    except VethError as error:
        pytest.skip(str(error))


def within(namespace, function):
    """Call a function in a thread that has entered a namespace."""
    results = []

    def call():
        enter(namespace)
        results.append(function())
    thread = threading.Thread(target=call)
    thread.start()
    return lambda: thread.join(120) or results[0]


def test_bytes_take_the_time_that_the_bandwidth_gives_them(link):
    size = 400_000
    listening = threading.Event()

    def receive():
        with socket.create_server(('10.0.0.2', 5000)) as server:
            listening.set()
            connection, _ = server.accept()
            with connection:
                while connection.recv(65536):
                    pass
        return time.monotonic()

    def send():
        with socket.create_connection(('10.0.0.2', 5000)) as connection:
            begin = time.monotonic()
            connection.sendall(bytes(size))
        return begin

    end = within(link.workstation, receive)
    assert listening.wait(120)
    begin = within(link.robot, send)()
    assert end() - begin >= 8 * (size - BURST) / 8e6
    up, down = link.bytes_sent()
    assert size < up < 1.2 * size and 0 < down < size


def test_nothing_is_left_even_after_a_failure(link):
    assert link.robot in namespaces() and link.workstation in namespaces()
    with pytest.raises(ZeroDivisionError):
        with VethLink() as broken:
            assert broken.robot in namespaces()
            raise ZeroDivisionError
    assert broken.robot not in namespaces() and broken.workstation not in namespaces()
    with pytest.raises(VethError, match="'tc .*no link can be made here"):
        link.limit(0)


def test_the_calling_thread_alone_enters(link):
    def devices():
        return {name for _, name in socket.if_nameindex()}
    outside = devices()
    assert within(link.robot, devices)() == {'lo', 'veth0'} and devices() == outside


def test_where_it_is_not_allowed_one_line_says_why(monkeypatch):
    monkeypatch.setattr(os, 'geteuid', lambda: 0)
    monkeypatch.setattr(veth.shutil, 'which', lambda tool: None)
    with pytest.raises(VethError, match='install iproute2'):
        VethLink().__enter__()
    monkeypatch.setattr(os, 'geteuid', lambda: 1000)
    with pytest.raises(VethError, match='need root'):
        VethLink().__enter__()
    with pytest.raises(OSError):
        enter('no-such-namespace')
