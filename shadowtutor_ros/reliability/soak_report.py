"""What a soak came to: judged, and held against the queueing model; no ROS here."""

from dataclasses import asdict
from statistics import fmean, median, pvariance
from typing import Any, Sequence

from shadowtutor_ros.algorithms.fleet_model import Service, teacher_load
from shadowtutor_ros.reliability.account import between, quantile, SETTLING, Totals
from shadowtutor_ros.reliability.record import Record, Sample, sums

#: Share of a robot's images that have to have a mask before the next image is due.
MASKS = 0.95

#: By so much of it a process may have grown.
GROWTH = 0.1

#: Share of a process's life in which it fills what it keeps within bounds, such as places and what
#: threads have needed; and seconds that memory is then looked at, at first and at last.
_WARM_UP, _SPAN = 1 / 3, 60.0

#: What model and measurement may differ by; waiting times also by so much of a service.
AGREEMENT = 0.2

#: Key frames that a comparison needs at least.
_ENOUGH = 20


def make_report(record: Record) -> dict[str, Any]:
    """
    Judge a run.

    :returns: what goes into soak.json; times are seconds from its beginning, and None is what
        there is nothing to say of.
    """
    wrong = list(record.wrong)
    robots = [_robot(record, name, wrong) for name in record.accounts]
    memory = {
        'teacher': _memory([
            (sample.time, sample.teacher_bytes and sample.teacher_bytes - sample.remembered_bytes)
            for sample in record.samples]),
        'robots': _memory([
            (sample.time, sample.robots_bytes) for sample in record.samples])}
    for name, judged in memory.items():
        if judged['flat'] is False:
            wrong.append(
                f"the memory of the {name} grew from {judged['first'] / 1e6:.0f} to "
                f"{judged['last'] / 1e6:.0f} MB within {judged['seconds']:.0f} s, by more than "
                f'{GROWTH:.0%}')
    begin = record.begin
    return {
        'settings': asdict(record.settings), 'seconds': record.end - begin, 'robots': robots,
        'teacher': _teacher(record), 'memory': memory, 'model': compare(record),
        'faults': [{**asdict(one), 'begin': one.begin - begin, 'end': min(
            one.end, record.end) - begin} for one in record.happenings],
        'samples': [_sample(sample, begin) for sample in record.samples],
        'wrong': wrong}


def _robot(record: Record, name: str, wrong: list[str]) -> dict[str, Any]:
    account, begin, end = record.accounts[name], record.begin, record.end
    done = Totals()
    if record.samples:
        done = record.samples[-1].totals[name] - record.samples[0].totals[name]
    fates = account.fates(begin, end, record.happenings)
    in_time = done.masks_in_time / done.frames if done.frames else None
    if in_time is not None and in_time < MASKS:
        wrong.append(f'{name}: {in_time:.1%} of its images had a mask in time, {MASKS:.0%} are '
                     'wanted')
    if fates['lost']:
        wrong.append(
            f"{name}: {fates['lost']} key frames got no answer in time, without a fault: they "
            'were lost, or the teacher is too slow for so many robots')
    wrong += [f'{name}: {line}' for line in account.faults(begin, record.happenings)]
    delays = [one.answered - one.sent for one in account.answered(begin)]
    waiting = [one.waiting for one in record.served if one.robot == name and one.time >= begin]
    return {
        'name': name, 'video': record.videos[name], 'frames': done.frames, 'masks': done.masks,
        'masks_in_time': done.masks_in_time, 'key_frames': done.key_frames,
        'updates_applied': done.applied, 'updates_declined': done.declined,
        'refused': dict(done.refused), 'rejected': dict(done.rejected),
        'timed_out': done.timed_out, 'key_frames_by_fate': fates,
        'waiting_s': _spread(waiting), 'update_after_s': _spread(delays),
        'bytes_up': done.bytes_up, 'bytes_down': done.bytes_down}


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    return {'median': quantile(values, 0.5), '95 %': quantile(values, 0.95)}


def _teacher(record: Record) -> dict[str, Any]:
    served = [one for one in record.served if one.time >= record.begin]
    return {
        'key_frames': len(served) + record.missed, 'missed': record.missed,
        'utilisation': _utilisation(record, [(record.begin, record.end)]),
        'waiting_s': _spread([one.waiting for one in served]),
        'service_s': _spread([one.service for one in served]),
        'times_killed': sum(one.name == 'teacher-killed' for one in record.happenings)}


def _utilisation(record: Record, spans: Sequence[tuple[float, float]]) -> float | None:
    """Return the share of some spans of time that the teacher was serving key frames."""
    served = [one.service for one in record.served
              if any(begin <= one.time <= end for begin, end in spans)]
    seconds = sum(end - begin for begin, end in spans)
    if not served or seconds <= 0:
        return None
    # Of those that were missed no times are known; they are as the others.
    missed = record.missed * len(served) / sum(
        one.time >= record.begin for one in record.served)
    return min(1.0, (sum(served) + missed * fmean(served)) / seconds)


def _calm(record: Record, since: float) -> list[tuple[float, float]]:
    """Return the spans of time from then on in which no fault concerned all robots."""
    spans, begin = [], since
    for one in sorted(record.happenings, key=lambda one: one.begin):
        if one.robot == '':
            spans.append((begin, one.begin))
            begin = max(begin, one.end + SETTLING)
    spans.append((begin, record.end))
    return [(begin, end) for begin, end in spans if begin < end]


def _memory(series: list[tuple[float, int | None]]) -> dict[str, Any]:
    """
    Judge whether a process has kept its size.

    A teacher that was killed begins anew: what is looked at is the longest time that the process
    was not, but for its first third: the median of the first minute after that against that of the
    last. Key frames that the teacher remembers, within bounds that it states, are not counted.
    """
    lives, life = [], []
    for at, value in series:
        # A process that is new is loading, and much smaller.
        if value is None or life and value < 0.5 * life[-1][1]:
            lives.append(life)
            life = []
        if value is not None:
            life.append((at, value))
    life = max([*lives, life], key=len)
    seconds = life[-1][0] - life[0][0] if life else 0.0
    if (1 - _WARM_UP) * seconds < 2 * _SPAN:
        last = median(value for _, value in life) if life else None
        return {'seconds': seconds, 'first': last, 'last': last, 'flat': None}
    begin, end = life[0][0] + _WARM_UP * seconds, life[-1][0]
    first = median(value for at, value in life if begin <= at <= begin + _SPAN)
    last = median(value for at, value in life if at >= end - _SPAN)
    return {'seconds': seconds, 'first': first, 'last': last,
            'flat': last <= (1 + GROWTH) * first}


def _sample(sample: Sample, begin: float) -> dict[str, Any]:
    done = sums(sample.totals)
    return {
        **vars(done), 'refused': dict(done.refused), 'rejected': dict(done.rejected),
        'time': sample.time - begin, 'teacher_bytes': sample.teacher_bytes,
        'robots_bytes': sample.robots_bytes, 'remembered_bytes': sample.remembered_bytes}


# --- the model -----------------------------------------------------------------------------------

def compare(record: Record) -> dict[str, Any] | None:
    """
    Hold what the queueing model makes of the measured times against what was measured.

    The first fifth is left out, half a minute at most: all robots have begun at the same time. So
    is what a fault concerned, and what comes within ``SETTLING`` after it: the model knows of
    none, and one key frame that a teacher hung in would stand for a hundred.

    :returns: None where too little was measured.
    """
    since = record.begin + min(30.0, 0.2 * (record.end - record.begin))

    def undisturbed(robot: str, begin: float, end: float) -> bool:
        return begin >= since and not any(
            one.concerns(robot, begin, end) for one in record.happenings)
    served = [one for one in record.served
              if undisturbed(one.robot, one.time - one.waiting - one.service, one.time)]
    answered = [one for name, account in record.accounts.items()
                for one in account.answered(since) if undisturbed(name, one.sent, one.answered)]
    periods = [one for name, account in record.accounts.items()
               for one in between(account.periods, since, record.end)
               if undisturbed(name, one[0] - one[1], one[0])]
    if min(map(len, (served, answered, periods))) < _ENOUGH:
        return None
    service = [one.service for one in served]
    mean = fmean(service)
    answer = fmean(one.answered - one.sent for one in answered)
    # Of one key frame, so that it does not matter which the teacher's status has missed.
    t_net = max(0.0, fmean(one.answered - one.sent - one.total_seconds for one in answered))
    wanted = [seconds for *_, seconds in periods]
    load = teacher_load(
        len(record.accounts), Service(mean, pvariance(service) / mean ** 2), t_net, wanted,
        1 / record.settings.fps)
    measured = {
        'utilisation': _utilisation(record, _calm(record, since)),
        'waiting_s': fmean(one.waiting for one in served), 'update_after_s': answer,
        'period_s': fmean(seconds for _, seconds, _ in periods)}
    predicted = {
        'utilisation': load.utilisation, 'waiting_s': load.waiting, 'update_after_s': load.answer,
        'period_s': load.period}
    return {
        'key_frames': len(served), 'disturbed': bool(record.happenings),
        't_ti_s': fmean(one.teacher for one in served),
        'training_s': fmean(one.training for one in served), 'service_s': mean,
        'service_variation': pvariance(service) / mean ** 2, 't_net_s': t_net,
        'wanted_period_s': fmean(wanted), 'measured': measured, 'predicted': predicted,
        'agrees': {name: abs(predicted[name] - value) <= AGREEMENT * value or (
            name == 'waiting_s' and abs(predicted[name] - value) <= AGREEMENT * mean)
            for name, value in measured.items()}}
