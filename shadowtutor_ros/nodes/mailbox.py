"""Hand-over between threads: one slot, the newest wins."""

import threading
from typing import Generic, TypeVar

T = TypeVar('T')


class Mailbox(Generic[T]):
    """A slot for one item: a new item takes the place of one that nobody took yet."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> bool:
        """Put an item in; tell whether it took the place of another."""
        with self._condition:
            replaced = self._item is not None
            self._item = item
            self._condition.notify()
            return replaced

    def get(self) -> T | None:
        """Take the item out, waiting for one; None once the mailbox is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return None if self._closed else item

    def clear(self) -> None:
        """Throw away what nobody took yet."""
        with self._condition:
            self._item = None

    @property
    def closed(self) -> bool:
        """Whether the mailbox was closed."""
        return self._closed

    def close(self) -> None:
        """Wake whoever waits; nothing comes out any more."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
