"""Results of an evaluation: kept as JSON and CSV, shown as tables in the paper's layout."""

import csv
from dataclasses import asdict
import json
from pathlib import Path

import numpy as np

from shadowtutor_ros.evaluation.simulate import Method, Run

#: The columns of the CSV, and what the tables are made of.
COLUMNS = (
    'video', 'label', 'method', 'update_delay', 'frames', 'seconds', 'fps', 'miou', 'miou_present',
    'key_frames', 'key_frame_ratio', 'steps', 'bytes_up', 'bytes_down', 'bytes_per_key_frame',
    'mbit_per_s_up', 'mbit_per_s_down', 'mbit_per_s')


def identify(
        video: str, label: str, method: Method, settings: dict, conditions: dict) -> dict:
    """
    Tell what a run is of: two with the same identity have the same results.

    :param video: its name.
    :param label: of the configuration, for people.
    :param method: its name and delay count; the rest of it is in the settings.
    :param settings: by the names of the nodes' parameters.
    :param conditions: whatever else the run depends on: teacher, student, size, rate, profile.
    """
    return {'video': video, 'label': label, 'method': method.name,
            'update_delay': method.update_delay, 'settings': settings, 'conditions': conditions}


def summarize(identity: dict, run: Run) -> dict:
    """Turn a run into what is reported: rates, ratios and means, with the key frames behind."""
    count = len(run.key_frames)
    up = sum(record.bytes_up for record in run.key_frames)
    down = sum(record.bytes_down for record in run.key_frames)
    # The wild student takes time too, but a run of fixed delay has none that means anything.
    seconds = run.seconds or float('nan')
    return {
        **identity,
        'frames': run.frames, 'seconds': run.seconds, 'fps': run.frames / seconds,
        'miou': run.miou, 'miou_present': run.miou_present,
        'key_frames': count, 'key_frame_ratio': count / run.frames,
        'steps': sum(record.steps for record in run.key_frames),
        'bytes_up': up, 'bytes_down': down,
        'bytes_per_key_frame': (up + down) / count if count else 0.0,
        'mbit_per_s_up': 8e-6 * up / seconds, 'mbit_per_s_down': 8e-6 * down / seconds,
        'mbit_per_s': 8e-6 * (up + down) / seconds,
        'throughput_bounds': run.throughput_bounds and asdict(run.throughput_bounds),
        'traffic_bounds': run.traffic_bounds and asdict(run.traffic_bounds),
        'key_frame_records': [asdict(record) for record in run.key_frames]}


class Results:
    """
    The runs so far, written after each.

    :param folder: gets results.json, results.csv and tables.md.
    :param resume: go on from the results that are there.
    """

    def __init__(self, folder: Path, resume: bool = False):
        self._folder = folder
        self._path = folder / 'results.json'
        self.runs: list[dict] = []
        if resume and self._path.is_file():
            self.runs = json.loads(self._path.read_text())['runs']

    def has(self, identity: dict) -> bool:
        """Tell whether a run of the same identity is among the results."""
        # As it reads when it comes back from the file, where a tuple is a list.
        wanted = json.loads(json.dumps(identity))
        return any(all(run.get(key) == value for key, value in wanted.items())
                   for run in self.runs)

    def add(self, identity: dict, run: Run) -> dict:
        """
        Add a run and write all down.

        It takes the place of one that people could not tell from it: with the same video, label,
        method and delay, but other settings or conditions.

        :returns: its summary.
        """
        summary = summarize(identity, run)
        names = 'video', 'label', 'method', 'update_delay'
        self.runs = [other for other in self.runs
                     if any(other.get(name) != summary[name] for name in names)]
        self.runs.append(summary)
        partial = self._path.with_suffix('.partial')
        partial.write_text(json.dumps({'runs': self.runs}, indent=1) + '\n')
        partial.replace(self._path)
        with (self._folder / 'results.csv').open('w', newline='') as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction='ignore')
            writer.writeheader()
            writer.writerows(self.runs)
        (self._folder / 'tables.md').write_text(self.tables())
        return summary

    def tables(self) -> str:
        """Write accuracy, key-frame ratio, throughput and traffic as Markdown tables."""
        return '\n'.join([
            self._table('Mean IoU, %', 'miou', 100),
            self._table('Mean IoU over the classes in the label, %', 'miou_present', 100),
            self._table('Key frames, % of all frames', 'key_frame_ratio', 100),
            self._table('Throughput, frames/s on the virtual clock', 'fps', 1),
            self._table('Traffic up and down, Mbit/s on the virtual clock', 'mbit_per_s', 1)])

    def _table(self, title: str, field: str, factor: float) -> str:
        def name(run: dict) -> str:
            delay = run['update_delay']
            method = run['method'] if delay is None else f"{run['method']}-{delay}"
            return f"{run.get('label', '')} {method}".strip()

        methods = list(dict.fromkeys(map(name, self.runs)))
        videos = list(dict.fromkeys(run['video'] for run in self.runs))
        values = {(run['video'], name(run)): factor * run[field] for run in self.runs}
        lines = [f'### {title}', '', f"| video | {' | '.join(methods)} |",
                 '|---' * (len(methods) + 1) + '|']
        rows = {video: [values.get((video, method), np.nan) for method in methods]
                for video in videos}
        rows['**mean**'] = np.nanmean(list(rows.values()), axis=0)
        for video, numbers in rows.items():
            cells = ('' if np.isnan(number) else f'{number:.2f}' for number in numbers)
            lines.append(f"| {video} | {' | '.join(cells)} |")
        return '\n'.join([*lines, ''])
