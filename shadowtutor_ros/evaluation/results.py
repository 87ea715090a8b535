"""Results of an evaluation: what is kept of each run, as JSON and CSV."""

import csv
from dataclasses import asdict
import json
import math
from pathlib import Path
from typing import Any

from shadowtutor_ros.algorithms.analytic_model import Bounds
from shadowtutor_ros.evaluation.evaluator import Trial
from shadowtutor_ros.evaluation.label_cache import fingerprint
from shadowtutor_ros.evaluation.simulate import Run
from shadowtutor_ros.files import replacing

#: The columns of the CSV.
COLUMNS = (
    'video', 'label', 'method', 'update_delay', 'mbit_per_s_link_up', 'mbit_per_s_link_down',
    'frames', 'dropped', 'rate', 'miou', 'miou_present', 'key_frames', 'key_frame_ratio', 'steps',
    'lost', 'round_trip', 'bytes_up', 'bytes_down', 'bytes_up_per_key_frame',
    'bytes_down_per_key_frame', 'bytes_per_key_frame', 'bytes_per_frame', 'kbit_per_s_at_rate',
    'seconds', 'fps', 'mbit_per_s_up', 'mbit_per_s_down', 'mbit_per_s', 'cycle_fps',
    'cycle_mbit_per_s', 'within_bounds')

#: What people can tell runs apart by.
NAMES = ('video', 'label', 'method', 'update_delay', 'mbit_per_s_link_up',
         'mbit_per_s_link_down')

# Where measured and computed agree, they may differ in the last bits.
_ROUNDING = 1e-9


class ResultsError(ValueError):
    """What is wrong with a file of results, in one line."""


def identify(
        trial: Trial, label: str, settings: dict[str, Any], weights: int, threads: int
) -> dict[str, Any]:
    """
    Tell what a run is of: two with the same identity have the same results.

    :param trial: what is run.
    :param label: of the configuration, for people.
    :param settings: by the names of the nodes' parameters.
    :param weights: checksum of those that the student begins with.
    :param threads: that PyTorch computes with: they change what is rounded.
    :returns: what JSON can hold.
    """
    labelling, method = trial.labelling, trial.method
    profile = asdict(trial.profile)
    link = profile.pop('link')
    del profile['derivation']
    return json.loads(json.dumps({
        'video': labelling.name, 'label': label, 'method': method.name,
        'update_delay': method.update_delay,
        **{f'mbit_per_s_link_{way}': link[f'bandwidth_{way}'] / 1e6 if method.on_network else None
           for way in ('up', 'down')},
        'settings': settings,
        'conditions': {
            'teacher': labelling.teacher, 'teacher_weights': labelling.teacher_weights,
            'inputs': fingerprint(
                *(one.clip.video for one in labelling.parts), labelling.teacher,
                labelling.teacher_weights),
            'classes': labelling.classes.entries,
            'scored': (trial.scored or labelling.classes).entries,
            'student': trial.student, 'student_weights': f'{weights:08x}',
            'width': labelling.clip.width, 'frames': labelling.clip.frames,
            'fps': labelling.clip.fps, 'camera_jpeg': labelling.clip.jpeg,
            'real_time': trial.real_time, 'device': labelling.device, 'threads': threads,
            'profile': profile, 'link': link if method.on_network else None}}))


def summarize(identity: dict[str, Any], rate: float, run: Run) -> dict[str, Any]:
    """
    Turn a run into what is reported.

    :param identity: of :func:`identify`.
    :param rate: frames a second of the video, as far as they are evaluated.
    :param run: what was measured.
    :returns: what JSON can hold: the identity, rates, ratios and means, and what they are made of.
        What the run says nothing about is None: times where the update's delay was fixed.
    """
    count = len(run.key_frames)
    up = sum(record.bytes_up for record in run.key_frames)
    down = sum(record.bytes_down for record in run.key_frames)
    # On the virtual clock time passes in every run, but means something where there is a network
    # or a camera alone.
    is_timed = identity['mbit_per_s_link_up'] or identity['conditions']['real_time']
    seconds = run.seconds if is_timed else math.nan
    trips = [one.round_trip for one in run.key_frames if one.round_trip is not None]
    bounded = run.throughput_bounds is not None and run.cycle_throughput > 0
    summary = {
        **identity,
        'frames': run.frames, 'dropped': run.dropped, 'rate': rate,
        'miou': run.miou, 'miou_present': run.miou_present,
        'key_frames': count, 'key_frame_ratio': count / run.frames,
        'steps': sum(record.steps for record in run.key_frames),
        'lost': sum(record.lost for record in run.key_frames),
        'round_trip': sum(trips) / len(trips) if trips and is_timed else None,
        'bytes_up': up, 'bytes_down': down,
        'bytes_up_per_key_frame': up / count if count else 0.0,
        'bytes_down_per_key_frame': down / count if count else 0.0,
        'bytes_per_key_frame': (up + down) / count if count else 0.0,
        'bytes_per_frame': (up + down) / run.frames,
        'kbit_per_s_at_rate': 8e-3 * (up + down) / run.frames * rate,
        'seconds': seconds, 'fps': run.frames / seconds,
        'mbit_per_s_up': 8e-6 * up / seconds, 'mbit_per_s_down': 8e-6 * down / seconds,
        'mbit_per_s': 8e-6 * (up + down) / seconds,
        'cycle_fps': run.cycle_throughput if bounded else None,
        'fps_bounds': asdict(run.throughput_bounds) if bounded else None,
        'cycle_mbit_per_s': 1e-6 * run.cycle_traffic if bounded else None,
        'mbit_per_s_bounds': {
            side: 1e-6 * value for side, value in asdict(run.traffic_bounds).items()}
        if bounded else None,
        'within_bounds': _within(run.cycle_throughput, run.throughput_bounds)
        and _within(run.cycle_traffic, run.traffic_bounds) if bounded else None,
        'health': list(map(asdict, run.health)),
        'key_frame_records': list(map(asdict, run.key_frames)),
        'miou_by_frame': [round(value, 4) for value in run.miou_by_frame],
        'miou_present_by_frame': [round(value, 4) for value in run.miou_present_by_frame]}
    return _finite(summary)


def _within(value: float, bounds: Bounds) -> bool:
    return bounds.lower * (1 - _ROUNDING) <= value <= bounds.upper * (1 + _ROUNDING)


def _finite(value: Any) -> Any:
    """Put None for what is no number, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(_finite, value))
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_runs(path: Path) -> list[dict[str, Any]]:
    """
    Read a results.json.

    :raises ResultsError: if it cannot be read or is something else.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise ResultsError(
            f"results '{path}' cannot be read ({error.strerror}): give a folder that "
            'shadowtutor evaluate has written') from None
    except ValueError as error:
        raise ResultsError(
            f"results '{path}' are not JSON ({error}): move the file away, or mend it") from None
    runs = content.get('runs') if isinstance(content, dict) else None
    wanted = {*NAMES, *COLUMNS, 'settings', 'conditions', 'key_frame_records'}
    if not isinstance(runs, list) or not all(
            isinstance(run, dict) and wanted <= run.keys() for run in runs):
        raise ResultsError(
            f"results '{path}' are not those of this version of shadowtutor evaluate: move the "
            'file away, and evaluate again')
    return runs


def save_runs(runs: list[dict[str, Any]], folder: Path) -> None:
    """Write runs as results.json, one a line, and their numbers as results.csv."""
    lines = ',\n'.join(json.dumps(run, allow_nan=False) for run in runs)
    _write(folder / 'results.json', f'{{"runs": [\n{lines}\n]}}\n')
    with (folder / 'results.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction='ignore')
        writer.writeheader()
        writer.writerows(runs)


def _write(path: Path, text: str) -> None:
    with replacing(path) as new:
        new.write_text(text)


class Results:
    """
    The runs so far, written after each.

    :param folder: gets results.json and results.csv. Those of an earlier evaluation that is not
        gone on with are kept as results.json.bak.
    :param resume: go on from the results that are there.
    :param plan: the identities of all runs, in the order in which they are written.
    :raises ResultsError: if the results to go on from cannot be read.
    """

    def __init__(self, folder: Path, resume: bool, plan: list[dict[str, Any]]):
        self._folder = folder
        self._plan = plan
        self.runs: list[dict[str, Any]] = []
        path = folder / 'results.json'
        if path.is_file():
            if resume:
                self.runs = load_runs(path)
            else:
                path.replace(path.with_suffix('.json.bak'))

    def has(self, identity: dict[str, Any]) -> bool:
        """Tell whether a run of the same identity is among the results."""
        return any(_same(run, identity, identity) for run in self.runs)

    def add(self, summary: dict[str, Any]) -> None:
        """
        Add a run and write all down.

        It takes the place of one that people could not tell from it: with the same names, but
        other settings or conditions.
        """
        self.runs = [run for run in self.runs if not _same(run, summary, NAMES)] + [summary]
        planned = [[identity[name] for name in NAMES] for identity in self._plan]

        def place(run: dict[str, Any]) -> int:
            names = [run[name] for name in NAMES]
            return planned.index(names) if names in planned else -1

        self.runs.sort(key=place)
        save_runs(self.runs, self._folder)


def _same(run: dict[str, Any], other: dict[str, Any], keys: Any) -> bool:
    return all(run[key] == other[key] for key in keys)
