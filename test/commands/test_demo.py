"""The demo: the whole system as processes over DDS."""

import json
import os
from pathlib import Path
import subprocess
import sys

import cv2
import pytest

from shadowtutor_ros.commands.main import main

ROOT = Path(__file__).parents[2]


def demo(*arguments):
    return subprocess.run(
        [sys.executable, '-m', 'shadowtutor_ros.commands.main', 'demo', *map(str, arguments)],
        cwd=ROOT, env={**os.environ, 'ROS_DOMAIN_ID': '97'}, capture_output=True, text=True,
        timeout=300)


def check(result, out, frames):
    assert result.returncode == 0, result.stderr
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['frames'] == summary['masks'] == frames
    assert summary['key_frames'] >= 1 and summary['updates_applied'] >= 1
    assert summary['updates_rejected'] == 0
    assert summary['key_frame_ratio'] == pytest.approx(summary['key_frames'] / frames)
    assert summary['bytes_up'] > 1000 and summary['fps'] > 0 and summary['duration_s'] > 0
    assert cv2.imread(str(out / 'report.png')).shape[1] > 800
    video = cv2.VideoCapture(str(out / 'overlay.mp4'))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == frames
    return summary


def test_scene(tmp_path):
    result = demo('--frames', 60, '--late-update', 'wait', '--out', tmp_path)
    summary = check(result, tmp_path, 60)
    assert summary['miou'] > summary['miou_without_distillation']
    assert 'wrote' in result.stdout


def test_video(tmp_path, shared):
    result = demo(
        '--video', shared('data/videos/sam2_dog.mp4'), '--frames', 24, '--size', '320x180',
        '--teacher', shared('data/models/yolo11n_seg_coco_dequant_fp32.onnx'),
        '--student', shared('data/models/Student_amended.pth'), '--late-update', 'wait',
        '--out', tmp_path)
    summary = check(result, tmp_path, 24)
    assert summary['miou'] > summary['miou_without_distillation'] + 0.05


@pytest.mark.parametrize('arguments, words', [
    (['--video', '/nowhere.mp4'], ['/nowhere.mp4', 'give a video file']),
    (['--video', '/dev/video0'], ['twice']),
    (['--student', '/nowhere.pth'], ['/nowhere.pth']),
    (['--teacher', 'resnet9000'], ['resnet9000', 'maskrcnn_resnet50_fpn']),
    (['--look', 'psychedelic'], ['psychedelic', 'day'])])
def test_what_is_wrong_is_one_line_and_status_1(arguments, words, capfd, tmp_path):
    assert main(['demo', '--out', str(tmp_path / 'out'), *arguments]) == 1
    error = capfd.readouterr().err.strip()
    assert all(word in error for word in words) and '\n' not in error


def test_a_text_file_is_no_video(tmp_path, capfd):
    path = tmp_path / 'film.mp4'
    path.write_text('once upon a time')
    assert main(['demo', '--video', str(path), '--out', str(tmp_path / 'out')]) == 1
    assert str(path) in capfd.readouterr().err


def test_a_wrong_size_is_refused(capfd):
    with pytest.raises(SystemExit) as ended:
        main(['demo', '--size', 'large'])
    assert ended.value.code == 2 and '640x360' in capfd.readouterr().err
