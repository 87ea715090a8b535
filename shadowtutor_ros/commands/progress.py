"""How far long work is: bars in a terminal, elsewhere a line every ten seconds."""

from threading import Event, Thread
import time
from typing import Callable

from rich.console import Console
from rich.progress import Progress, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn

#: Seconds from one line to the next.
PERIOD = 10.0


def shows_bars(console: Console) -> bool:
    """Tell whether what is shown on a console can be changed afterwards."""
    return console.is_terminal and not console.is_dumb_terminal


class Speaker:
    """
    Prints a line every :data:`PERIOD`, from ``with`` to its end, where no bars are shown.

    :param console: that it prints on.
    :param line: makes the line, in a thread; empty where there is nothing to say.
    :param wait: waits so many seconds, and tells whether this has ended meanwhile; that of an
        event of its own by default.
    """

    def __init__(
            self, console: Console, line: Callable[[], str],
            wait: Callable[[float], bool] | None = None):
        self._console = console
        self._line = line
        self._ended = Event()
        self._wait = wait or self._ended.wait
        self._thread = Thread(target=self._speak, name='speaker', daemon=True)

    def __enter__(self) -> 'Speaker':
        if not shows_bars(self._console):
            self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._ended.set()

    def say(self) -> None:
        """Print the line now."""
        line = self._line()
        if line:
            # Whole, whatever width a file is thought to have.
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _speak(self) -> None:
        while not self._wait(PERIOD) and not self._ended.is_set():
            self.say()


class WorkProgress(Progress):
    """
    The progress bars of rich in a terminal; elsewhere what its columns of text say, as lines.

    :param columns: of rich; those of text and of times are in the lines too.
    :param console: that they are shown on.
    :param wait: as for :class:`Speaker`.
    :param options: of rich's Progress.
    """

    def __init__(
            self, *columns, console: Console, wait: Callable[[float], bool] | None = None,
            **options):
        super().__init__(
            *columns, console=console, disable=not shows_bars(console), **options)
        self._speaker = Speaker(console, self._line, wait)

    def start(self) -> None:
        """Show the bars, or begin to print lines."""
        super().start()
        self._speaker.__enter__()

    def stop(self) -> None:
        """Leave the bars as they are, or say how it ended, unless they are transient."""
        self._speaker.__exit__()
        super().stop()
        if self.disable and not self.live.transient:
            self._speaker.say()

    def _line(self) -> str:
        tasks = [task for task in self.tasks if task.visible]
        # One that does not know its end does not say when that has come.
        going_on = [task for task in tasks if task is tasks[-1] or (
            task.total and task.completed < task.total)]
        return '; '.join(map(self._describe, going_on))

    def _describe(self, task: Task) -> str:
        texts = (column.render(task).plain for column in self.columns
                 if isinstance(column, TextColumn))
        line, kinds = ' '.join(filter(None, texts)), {*map(type, self.columns)}
        if task.description not in line:
            line = f'{task.description} {line}'
        left = task.time_remaining
        if TimeRemainingColumn in kinds and left and task.total and task.completed < task.total:
            line += f', {_clock(left)} left'
        if TimeElapsedColumn in kinds and task.elapsed is not None:
            line += f', after {_clock(task.elapsed)}'
        return line


class WorkStatus:
    """
    A spinner with a text in a terminal; elsewhere the text, as lines.

    :param text: what is being done.
    :param wait: as for :class:`Speaker`.
    :param get_time: the time in seconds.
    """

    def __init__(
            self, console: Console, text: str, wait: Callable[[float], bool] | None = None,
            get_time: Callable[[], float] = time.monotonic):
        self._text = text
        self._get_time = get_time
        self._since = get_time()
        self._status = console.status(text) if shows_bars(console) else None
        self._speaker = Speaker(console, self._line, wait)

    def __enter__(self) -> 'WorkStatus':
        if self._status:
            self._status.start()
        self._speaker.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        self._speaker.__exit__()
        if self._status:
            self._status.stop()

    def update(self, text: str) -> None:
        """Say what is being done from now on."""
        self._text, self._since = text, self._get_time()
        if self._status:
            self._status.update(text)

    def _line(self) -> str:
        return f'{self._text}, for {_clock(self._get_time() - self._since)}'


def _clock(seconds: float) -> str:
    """Write a time as rich's columns do."""
    minutes, seconds = divmod(int(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02}:{seconds:02}'
