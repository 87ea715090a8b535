"""The slot between two threads."""

import threading

from helpers import wait_for

from shadowtutor_ros.nodes.mailbox import Mailbox


def test_the_newest_wins():
    mailbox = Mailbox()
    assert not mailbox.put(1)
    assert mailbox.put(2), 'the first was never taken'
    assert mailbox.get() == 2
    assert not mailbox.put(3)


def test_get_waits_for_an_item():
    mailbox, got = Mailbox(), []
    thread = threading.Thread(target=lambda: got.append(mailbox.get()))
    thread.start()
    mailbox.put('late')
    thread.join(120)
    assert got == ['late']


def test_close_ends_the_wait():
    mailbox, got = Mailbox(), []
    thread = threading.Thread(target=lambda: got.append(mailbox.get()))
    thread.start()
    mailbox.close()
    thread.join(120)
    assert got == [None] and mailbox.closed
    wait_for(lambda: not thread.is_alive())
