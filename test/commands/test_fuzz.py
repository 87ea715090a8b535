"""Noise into client and server: a bounded run, and faults that it must notice."""

import json
import re
import sys

import pytest

from shadowtutor_ros.algorithms import client, server
from shadowtutor_ros.commands.main import main
from shadowtutor_ros.reliability import fuzzing
from shadowtutor_ros.wire.weight_update import REFUSALS, REJECTION_REASONS


def test_nothing_breaks_and_all_is_counted(tmp_path, capsys):
    out = tmp_path / 'fuzz.json'
    assert main([
        'fuzz', '--cases', '2000', '--seed', '1', '--report-only', '--json', str(out)]) == 0
    results = json.loads(out.read_text())
    robot, teacher = results['outcomes']['robot'], results['outcomes']['teacher']
    assert results['cases'] == sum(robot.values()) + sum(teacher.values()) >= 2000
    rejected = {outcome.split(': ')[1] for outcome in robot if ':' in outcome}
    # The others are rare, and what Hypothesis draws differs from version to version.
    assert {'session', 'key_frame', 'model', 'size', 'checksum', 'layout', 'label'} <= rejected
    assert rejected <= set(REJECTION_REASONS)
    assert min(robot[outcome] for outcome in (
        'applied', 'declined', 'metric taken', 'refusal taken')) > 5
    refused = {outcome.split(': ')[1] for outcome in teacher if ':' in outcome}
    assert 'unreadable' in refused and refused <= set(REFUSALS)
    assert teacher['answered']
    shown = capsys.readouterr().out
    assert f"{robot['applied']} " in shown and 'rejected: session' in shown


def break_unpack(monkeypatch):
    real = client.unpack

    def unpack(packed, base):
        if packed.encoding == 'fp16':
            raise IndexError('list index out of range')
        return real(packed, base)
    monkeypatch.setattr(client, 'unpack', unpack)


def swap_before_the_check(monkeypatch):
    real = client.Client._check

    def check(self, update):
        base = self._unanswered[update.key_frame_number].bases.get(update.base_checksum)
        try:
            if base is not None:
                self.engine.swap(client.unpack(update.tensors, base))
        except client.UpdateRejected:
            pass
        return real(self, update)
    monkeypatch.setattr(client.Client, '_check', check)


def write_into_known_weights(monkeypatch):
    real = client.Client.screen

    def screen(self, *arguments):
        self.engine._weights['out_conv3.bias'].add_(1)
        real(self, *arguments)
    monkeypatch.setattr(client.Client, 'screen', screen)


def let_any_metric_in(monkeypatch):
    monkeypatch.setattr(client.Client, '_check_figures', lambda self, update: None)


def break_the_server(monkeypatch):
    def check(self, key_frame, waited):
        raise KeyError(key_frame.useful_seconds)
    monkeypatch.setattr(server.Server, '_check_time', check)


@pytest.mark.parametrize('fault, said', [
    (break_unpack, "IndexError.*'fp16'"),
    (swap_before_the_check, 'has changed the robot'),
    (write_into_known_weights, 'has changed weights'),
    (let_any_metric_in, 'Error'),
    (break_the_server, 'KeyError')])
def test_a_fault_is_noticed_and_said_how_to_see_it_again(monkeypatch, capsys, fault, said):
    fault(monkeypatch)
    assert main(['fuzz', '--cases', '1000', '--seed', '7', '--report-only']) == 1
    shown = ' '.join(capsys.readouterr().err.split())
    assert re.search(said, shown), shown
    assert re.search(r'(UpdateCase|KeyFrameCase)\(.*again: shadowtutor fuzz --seed \d+', shown)


def test_what_is_slow_or_large_fails(monkeypatch, capsys):
    monkeypatch.setattr(fuzzing, 'SLOWEST', 1e-9)
    assert main(['fuzz', '--cases', '50', '--seed', '1']) == 1
    assert 'ms at the robot' in capsys.readouterr().err


def test_without_hypothesis_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'hypothesis', None)
    for name in ('fuzzing', 'fuzz_cases'):
        monkeypatch.delitem(sys.modules, f'shadowtutor_ros.reliability.{name}', raising=False)
    assert main(['fuzz']) == 1
    assert 'pip install "hypothesis' in capsys.readouterr().err


@pytest.mark.parametrize('arguments', [['--cases', '0'], ['--seed', '-1']])
def test_wrong_arguments_are_one_line(capsys, arguments):
    assert main(['fuzz', *arguments]) == 1
    assert capsys.readouterr().err.count('\n') == 1
