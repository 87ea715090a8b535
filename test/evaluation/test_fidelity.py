"""The first implementation's figures on real videos, where they are at hand."""

from dataclasses import replace
import json

import pytest

from shadowtutor_ros.algorithms.student_training import StudentTrainer
from shadowtutor_ros.classes import LVS
from shadowtutor_ros.evaluation.profile import load_profile
from shadowtutor_ros.evaluation.settings import make_method, PAPER_SETTINGS
from shadowtutor_ros.evaluation.simulate import Simulation
from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.models.teachers import load_teacher
from shadowtutor_ros.sources.videos import Clip


@pytest.mark.parametrize('video, scope, run', [
    ('sam2_dog', 'partial', 'p8'), ('ahmet_pedestrian', 'partial', 'p8'),
    ('davis_dog', 'partial', 'p8'), ('davis_bus', 'full', 'f1')])
def test_the_first_key_frame_gives_the_first_implementations_figures(
        shared, first_student, video, scope, run):
    teacher = load_teacher(str(shared('data/models/yolo11n_seg_coco_dequant_fp32.onnx')))
    wanted = json.loads(shared('golden/baseline.json').read_text())[video][run]['key_frames'][0]
    # Its student saw what JPEG leaves of the frames, its teacher the frames.
    clip = Clip(str(shared(f'data/videos/{video}.mp4')), 640, jpeg=97)
    frame, seen = (next(iter(source)) for source in (clip.open(), clip.delivered()))
    settings = replace(make_method('partial', 8, PAPER_SETTINGS).server, scope=scope)
    result = StudentTrainer(Student.load(first_student), settings)(seen, teacher(frame, LVS))
    assert result.steps == wanted['steps']
    assert result.metric_before == pytest.approx(wanted['metric_before'], abs=1e-4)
    # Rounding grows from step to step.
    assert result.metric_after == pytest.approx(wanted['metric_after'], abs=1e-3)


def test_a_whole_clip_gives_the_first_implementations_figures(shared, first_student):
    teacher = load_teacher(str(shared('data/models/yolo11n_seg_coco_dequant_fp32.onnx')))
    wanted = json.loads(shared('golden/baseline.json').read_text())['davis_dog']['p8']
    clip = Clip(str(shared('data/videos/davis_dog.mp4')), 640, jpeg=97)
    simulation = Simulation(
        make_method('partial', 8, PAPER_SETTINGS), Student.load(first_student),
        load_profile('paper'))
    run = simulation.run(clip.delivered(), [teacher(frame, LVS) for frame in clip.open()])
    assert [(record.frame, record.steps) for record in run.key_frames] == [
        (record['frame'], record['steps']) for record in wanted['key_frames']]
    # Rounding, which differs from one version of PyTorch to the next, grows over a run.
    assert run.miou == pytest.approx(wanted['miou'], abs=0.01)
    assert run.miou_present == pytest.approx(wanted['miou_present'], abs=0.01)
