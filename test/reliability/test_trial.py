"""How a fault is judged, on a student that is made up; the real ones run in the command's test."""

import json
import time
from types import SimpleNamespace

import pytest

from shadowtutor_ros.nodes.processes import ProcessError
from shadowtutor_ros.reliability import trial
from shadowtutor_ros.reliability.faults import Fault, FAULTS
from shadowtutor_ros.reliability.ledger import Ledger
from shadowtutor_ros.reliability.tables import as_json, as_markdown
from shadowtutor_ros.reliability.trial import Result, try_fault


class MadeUp:
    """A rig whose student lives ten frames a second, of which every eighth is a key frame."""

    def __init__(self):
        self.camera = SimpleNamespace(ledger=Ledger())
        self.masks, self.answers, self.update_bytes = True, True, 10_000
        self.session_id, self.ended = 1, []
        self._frames = 0
        self._begin()

    def _begin(self):
        self._status = SimpleNamespace(
            session_id=self.session_id, key_frames_sent=0, updates_applied=0, updates_lost=0,
            frames_since_key_frame=0, round_trip_seconds=0.2, bytes_up=0, bytes_down=0,
            rejection_reasons=[], rejection_counts=[])

    def reset(self):
        self.session_id += 1
        self._begin()

    def step(self):
        self._frames += 1
        now, ledger, status = self._frames / 10, self.camera.ledger, self._status
        ledger.add_image((self._frames, 0), now)
        if self.masks:
            ledger.add_mask((self._frames, 0))
        status.frames_since_key_frame = self._frames % 8
        if self._frames % 8 == 0:
            status.key_frames_sent += 1
            status.bytes_up += 5_000
        if self._frames % 8 == 3 and self.answers:
            status.updates_applied += 1
            status.bytes_down += self.update_bytes
        ledger.add_status(status, 10.0, now)

    def steps(self, count):
        for _ in range(count):
            self.step()

    def mark(self):
        self.step()
        return self.camera.ledger.last

    def wait(self, condition, what):
        for _ in range(400):
            if condition():
                return
            self.step()
        raise ProcessError(f'waited for {what}')

    def complaints(self):
        return self.ended


@pytest.fixture
def rig(monkeypatch):
    """Return a rig that lives faster than the clock."""
    monkeypatch.setattr(trial, '_MASK_TIMEOUT', 0.1)
    return MadeUp()


def attempt(rig, inject, goes_on=False):
    return try_fault(Fault('made-up', 'a fault', inject, 'direct', goes_on), rig)


def lasting(rig, frames):
    """Let a fault last for some frames."""
    rig.steps(frames)
    return lambda: True


def test_what_does_no_harm_passes(rig):
    def inject(rig):
        yield lasting(rig, 40)
    result = attempt(rig, inject, goes_on=True)
    assert not result.failed and result.wrong == []
    assert result.masks_kept == 1 and result.key_frames == 1
    assert result.bytes_up % 5_000 == 0 and result.bytes_down >= 50_000


def test_a_silent_teacher_that_comes_back_passes(rig):
    def inject(rig):
        rig.answers = False
        yield lasting(rig, 40)
        rig.answers = True
    result = attempt(rig, inject)
    assert not result.failed and result.key_frames == 1
    assert 'silent' not in str(attempt(MadeUp(), inject, goes_on=True).wrong)


def test_where_adaptation_should_go_on_a_gap_is_a_failure(rig):
    def inject(rig):
        rig.answers = False
        yield lasting(rig, 40)
        rig.answers = True
    result = attempt(rig, inject, goes_on=True)
    assert result.key_frames >= 4 and 'key frames' in result.wrong[0]


def test_one_that_never_recovers_fails(rig):
    def inject(rig):
        rig.answers = False
        yield lasting(rig, 8)
    result = attempt(rig, inject)
    assert result.failed and result.key_frames is None and 'an answer' in result.wrong[0]


def test_one_that_recovers_late_fails(rig):
    def inject(rig):
        rig.answers = False
        yield lasting(rig, 8)
        wait = rig.wait

        def wait_and_answer(condition, what):
            rig.steps(32)
            rig.answers = True
            wait(condition, what)
        rig.wait = wait_and_answer
    result = attempt(rig, inject)
    assert result.key_frames >= 4 and result.failed


@pytest.mark.parametrize('lost, failed', [(3, False), (12, True)])
def test_masks_that_are_missing(rig, lost, failed):
    def inject(rig):
        rig.masks = False
        rig.steps(lost)
        rig.masks = True
        yield lasting(rig, 80)
    result = attempt(rig, inject)
    assert result.failed == failed and 0.8 < result.masks_kept < 1


def test_a_student_that_misses_images_without_a_fault_fails(rig):
    step = rig.step

    def every_fifth_is_missed():
        rig.masks = rig.camera.ledger.mask_count % 4 != 3 or not rig.masks
        step()
    rig.step = every_fifth_is_missed

    def inject(rig):
        yield lasting(rig, 40)
    result = attempt(rig, inject)
    assert result.masks_kept > 0.95 and result.undisturbed < 0.9
    assert len(result.wrong) == 1 and 'undisturbed' in result.wrong[0]


def test_updates_that_cost_too_much_fail(rig):
    def inject(rig):
        rig.update_bytes = 2_000_000
        yield lasting(rig, 20)
    assert 'kB' in attempt(rig, inject).wrong[0]


def test_a_new_session_is_waited_for(rig):
    def inject(rig):
        rig.steps(5)
        rig.reset()
        yield None
    result = attempt(rig, inject)
    assert not result.failed and result.key_frames == 1


def test_an_ended_process_or_a_traceback_fails(rig):
    def inject(rig):
        rig.ended.append('a traceback in student.log')
        yield lasting(rig, 8)
    assert attempt(rig, inject).wrong == ['a traceback in student.log']


def test_a_fault_that_cannot_be_put_in_is_a_failure_and_is_taken_back(rig):
    ended = []

    def inject(rig):
        try:
            yield lambda: False
        finally:
            ended.append(True)
    result = attempt(rig, inject)
    assert 'the fault to happen' in result.wrong[0] and ended


def test_seconds_last(rig):
    def inject(rig):
        yield rig.camera.ledger.last.time - time.monotonic() + 0.2
    begin = time.monotonic()
    assert not attempt(rig, inject).failed
    assert time.monotonic() >= begin


def test_faults_of_one_wiring_follow_one_another():
    wirings = [fault.wiring for fault in FAULTS.values()]
    assert sorted(set(wirings), key=wirings.index) == ['direct', 'relay', 'link']
    assert wirings == sorted(wirings, key=['direct', 'relay', 'link'].index)
    assert len(FAULTS) >= 20 and all(name == fault.name for name, fault in FAULTS.items())


def test_tables():
    results = [
        Result('a', 'fault a', 1.0, 0.996, 1, 0.5, 12_345, 1_234_567, 2,
               {'session': 3, 'checksum': 1}),
        Result('b', 'fault b', wrong=['it ended']), Result('c', 'fault c', skipped='needs root')]
    lines = as_markdown(results).splitlines()
    assert lines[2] == '| fault a | 100% | 1 | 12 | 1,235 | 2 | 1 checksum, 3 session |'
    assert lines[3].startswith('| **fault b** | – | – |')
    assert lines[4] == '| fault c | – | – | – | – | – | skipped: needs root |'
    assert len({line.count('|') for line in lines}) == 1
    assert json.loads(as_json(results))[1]['wrong'] == ['it ended']
