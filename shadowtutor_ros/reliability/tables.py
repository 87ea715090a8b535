"""Results as tables: for the terminal, in Markdown, as JSON."""

from dataclasses import asdict
import json
from typing import Iterable

from shadowtutor_ros.reliability.trial import Result

HEAD = ('fault', 'masks kept', 'key frames to recovery', 'kB up', 'kB down', 'lost', 'rejected')


def row(result: Result) -> list[str]:
    """Return what was measured, as a row of the table below :data:`HEAD` without its first."""
    if result.skipped:
        return [*['–'] * (len(HEAD) - 2), f'skipped: {result.skipped}']
    return [
        '–' if result.masks_kept is None else f'{result.masks_kept:.0%}',
        '–' if result.key_frames is None else str(result.key_frames),
        f'{result.bytes_up / 1e3:,.0f}', f'{result.bytes_down / 1e3:,.0f}', str(result.lost),
        ', '.join(f'{count} {reason}' for reason, count in sorted(result.rejected.items()))]


def as_markdown(results: Iterable[Result]) -> str:
    """Return results as a table in Markdown, what failed in bold."""
    lines = [HEAD, ['---'] * len(HEAD)]
    for result in results:
        lines.append([f'**{result.text}**' if result.failed else result.text, *row(result)])
    return ''.join(f"| {' | '.join(line)} |\n" for line in lines)


def as_json(results: Iterable[Result]) -> str:
    """Return all that is known of results as JSON."""
    return json.dumps([asdict(result) for result in results], indent=2) + '\n'
