"""The benchmark, whose figures are of no interest here."""

import json
import math
import os
from pathlib import Path
import subprocess
import sys

import pytest

from shadowtutor_ros.commands.main import main

ROOT = Path(__file__).parents[2]


def test_measures_everything_over_dds(tmp_path):
    path = tmp_path / 'figures.json'
    result = subprocess.run(
        [sys.executable, '-m', 'shadowtutor_ros.commands.main', 'benchmark', '--size', '160x96',
         '--rounds', '1', '--frames', '6', '--json', str(path)],
        cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    figures = json.loads(path.read_text())
    assert figures['conditions']['size'] == '160x96' and figures['machine']['cores'] >= 1
    assert figures['inference']['exact']['equal_pixels'] > 0.999
    assert figures['training']['largest_loss_difference'] < 1e-3
    assert figures['classes']['classes'] == 81 and figures['classes']['step_growth'] > 0
    assert figures['key_frames']['raw']['bytes'] == 160 * 96 * 3
    assert figures['updates']['fp32']['bytes'] > figures['updates']['fp16']['bytes']
    node = figures['node']
    for name in ('bare_ms', 'end_to_end_ms', 'inference_in_node_ms', 'rate',
                 'resident_mib_before', 'resident_mib_after', 'assign_array_ms'):
        assert node[name] > 0
    # May be below 0 where other work comes and goes.
    assert math.isfinite(node['overhead_in_node_ms'])
    for words in ('inference, exact', 'training step', 'Key frames', 'Weight updates'):
        assert words in result.stdout


def test_measures_what_is_asked_for(tmp_path, capfd):
    path = tmp_path / 'figures.json'
    assert main(['benchmark', '--size', '64x48', '--parts', 'key_frames',
                 '--json', str(path)]) == 0
    assert set(json.loads(path.read_text())) == {'machine', 'conditions', 'key_frames'}
    assert 'Key frames' in capfd.readouterr().out


@pytest.mark.parametrize('arguments, words', [
    (['--parts', 'inference,coffee'], ['coffee', 'key_frames']),
    (['--video', '/nowhere.mp4'], ['/nowhere.mp4', 'give a video file']),
    (['--student', '/nowhere.pth'], ['/nowhere.pth']),
    (['--rounds', '0'], ['--rounds']),
    (['--device', 'abacus'], ['abacus', 'cpu'])])
def test_what_is_wrong_is_one_line_and_status_1(arguments, words, capfd):
    assert main(['benchmark', *arguments]) == 1
    error = capfd.readouterr().err.strip()
    assert all(word in error for word in words) and '\n' not in error
