"""The demo: the whole system as processes over DDS."""

import json
from pathlib import Path
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from shadowtutor_ros.commands.main import main
from shadowtutor_ros.nodes.processes import Nodes, ProcessError

ROOT = Path(__file__).parents[2]


def demo(*arguments):
    return subprocess.run(
        [sys.executable, '-m', 'shadowtutor_ros.commands.main', 'demo', *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=300)


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


def test_without_ros_the_demo_says_so(tmp_path):
    code = ("import sys; sys.modules['rclpy'] = None; "
            'from shadowtutor_ros.commands.main import main; sys.exit(main(sys.argv[1:]))')
    result = subprocess.run(
        [sys.executable, '-c', code, 'demo', '--frames', '2', '--out', str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1
    error = result.stderr.strip()
    assert 'ROS 2 or the messages of this package are missing' in error and '\n' not in error


def test_nodes_end_with_a_demo_that_is_told_to(tmp_path):
    process = subprocess.Popen(
        [sys.executable, '-m', 'shadowtutor_ros.commands.main', 'demo', '--out', str(tmp_path)],
        cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
        log = tmp_path / 'student.log'
        end = time.monotonic() + 120
        while not (log.is_file() and 'segmenting' in log.read_text()):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.1)
        nodes = [int(number) for number in children.read_text().split()]
        assert len(nodes) >= 1
        process.terminate()
        assert process.wait(120) == 128 + signal.SIGTERM
        assert not any(Path(f'/proc/{number}').exists() for number in nodes)
    finally:
        process.kill()


def test_frames_that_are_too_small_are_one_clear_error(tmp_path):
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images' / '1.png'), np.zeros((20, 64, 3), np.uint8))
    result = demo('--video', tmp_path / 'images', '--teacher', 'scene', '--out', tmp_path / 'out')
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    assert '64x20, which is too small' in result.stderr


def run_teacher(folder, action, error=None):
    """Run a process that does so on SIGTERM, and raise the error beside it."""
    code = (f'import signal, time; signal.signal(signal.SIGTERM, signal.{action}); '
            "print('ready', flush=True); time.sleep(60)")
    with Nodes('/demo', {'teacher': {}}, folder, folder) as nodes:
        nodes.start('teacher', (sys.executable, '-c', code))
        while 'ready' not in (folder / 'teacher.log').read_text():
            time.sleep(0.1)
        if error:
            raise error


def test_parameters_reach_a_node_as_they_are(tmp_path):
    values = {'source': 'a 😀: "ü"\n\x7f\x85.mp4', 'no': 'off', 'rate': 2.5, 'list': ['1', 'y']}
    with Nodes('/demo', {'teacher': values}, tmp_path, tmp_path) as nodes:
        nodes.start('teacher', (sys.executable, '-c', ''))
        nodes.wait('teacher', 30)
    rclpy = pytest.importorskip('rclpy')
    context = rclpy.Context()
    rclpy.init(args=['--ros-args', '--params-file', str(tmp_path / 'teacher.yaml')],
               context=context)
    try:
        node = rclpy.create_node(
            'any', context=context, automatically_declare_parameters_from_overrides=True)
        assert {name: node.get_parameter(name).value for name in values} == values
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)


def test_a_node_that_has_to_be_killed_fails_the_demo(tmp_path, monkeypatch, capfd):
    run_teacher(tmp_path, 'SIG_DFL')
    monkeypatch.setattr('shadowtutor_ros.nodes.processes.END_TIMEOUT', 1.0)
    with pytest.raises(ProcessError, match='killed.*teacher'):
        run_teacher(tmp_path, 'SIG_IGN')
    assert not capfd.readouterr().err
    with pytest.raises(KeyError):  # what has gone wrong before counts more
        run_teacher(tmp_path, 'SIG_IGN', KeyError())
    assert 'killed' in capfd.readouterr().err


@pytest.mark.parametrize('delay', [0.1, 0.5, 1.0, 1.5, 2.5])
def test_ctrl_c_at_the_start_is_no_traceback(delay):
    # What comes before the first words here is Python itself.
    code = ("import os; from shadowtutor_ros.commands.main import main; os.write(1, b'begun'); "
            "raise SystemExit(main(['demo', '--video', '/nowhere.mp4']))")
    process = subprocess.Popen(
        [sys.executable, '-c', code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.read(5) == b'begun'
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1].decode()
    assert process.returncode in (-signal.SIGINT, 130, 1) and 'Traceback' not in error
