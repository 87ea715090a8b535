"""The command `shadowtutor plan`."""

import json
import math
import sys
from types import SimpleNamespace

import cv2
import pytest
from shadowtutor_ros.algorithms.fleet_model import Service, teacher_load
from shadowtutor_ros.commands import plan
from shadowtutor_ros.commands.main import main

STATUS = {
    't_si': 0.05, 't_sd': 0.1, 't_ti': 0.2, 't_net': 0.3, 'key_frame_bytes': 100_000.0,
    'update_bytes': 50_000.0, 'throughput_lower': 4.0}


def planned(tmp_path, *options):
    path = tmp_path / 'plan.json'
    assert main(['plan', '--json', str(path), *options]) == 0
    return json.loads(path.read_text())


def test_prints_the_plan_of_the_paper(monkeypatch, capfd):
    monkeypatch.setenv('COLUMNS', '140')
    assert main(['plan']) == 0
    said = capfd.readouterr().out
    for text in ('4.47 to 6.67 frames/s', '2.50 to 21.19 Mbit/s', '1,200 ms', '428 ms to 588 ms',
                 'none', '23.3 Mbit/s', '27.3 Mbit/s', 'recommended MIN_STRIDE', 'out of reach'):
        assert text in said


def test_json_by_hand(tmp_path):
    values = planned(
        tmp_path, '--t-si', '0.1', '--t-sd', '0.05', '--t-ti', '0.2', '--key-frame-bytes',
        '900000', '--update-bytes', '100000', '--bandwidth', '80', '--latency', '0.15',
        '--target-fps', '8')
    assert values['t_net_s'] == pytest.approx(0.1 + 0.3)
    assert values['throughput_fps'] == {
        'lower': pytest.approx(8 / 1.8), 'upper': pytest.approx(10)}
    assert values['traffic_bit_per_s'] == {
        'lower': pytest.approx(8e6 / 7.4), 'upper': pytest.approx(10e6)}
    assert values['wait_s'] == {'least': 0, 'most': pytest.approx(0.2)}
    assert values['recommended_min_stride'] == 10
    # 0.8 s of inference less the teacher and the latency leave 0.3 s for 8 Mbit; steps, nothing.
    assert values['no_wait_from_bit_per_s'] == {
        'least': {'up': pytest.approx(8e6 / 0.3), 'down': pytest.approx(8e6 / 0.3)}, 'most': None}
    # 1 s for 8 frames less teacher, steps and latency: 0.1 s.
    assert values['needed_bit_per_s']['sustained'] == {
        'up': pytest.approx(80e6), 'down': pytest.approx(80e6)}
    assert values['needed_bit_per_s']['guaranteed'] is None
    assert values['profile']['derivation']['t_si'] == 'Given to the command.'


def test_bandwidths_one_by_one(tmp_path):
    link = planned(tmp_path, '--bandwidth', '10', '--bandwidth-down', '20')['profile']['link']
    assert (link['bandwidth_up'], link['bandwidth_down']) == (10e6, 20e6)
    link = planned(tmp_path, '--bandwidth-up', '5')['profile']['link']
    assert (link['bandwidth_up'], link['bandwidth_down']) == (5e6, 80e6)


def test_needed_bandwidth_gives_what_it_is_needed_for(tmp_path):
    needed = planned(tmp_path, '--target-fps', '4')['needed_bit_per_s']
    for name, side in (('possible', 'upper'), ('guaranteed', 'lower')):
        megabits = str(needed[name]['up'] / 1e6)
        assert planned(tmp_path, '--bandwidth', megabits)['throughput_fps'][side] == (
            pytest.approx(4))


def test_profile_from_a_file(tmp_path):
    profile = plan.load_profile('paper')
    plan.replace(profile, name='mine', t_si=0.02).save(tmp_path / 'mine.json')
    values = planned(tmp_path, '--profile', str(tmp_path / 'mine.json'))
    assert values['profile']['name'] == 'mine'
    assert values['throughput_without_waiting_fps'] == pytest.approx(50)


@pytest.mark.parametrize('options', [
    [], ['--bandwidth-up', '0.2', '--bandwidth-down', '900'], ['--t-ti', '60', '--latency', '5']])
def test_plot_is_a_picture(tmp_path, options):
    assert main(['plan', '--plot', str(tmp_path / 'plan.png'), *options]) == 0
    picture = cv2.imread(str(tmp_path / 'plan.png'))
    assert picture.shape[0] > 500 and picture.std() > 10


@pytest.mark.parametrize('options, said', [
    (['--t-si', '0'], 't_si is 0.0'), (['--bandwidth', '-3'], 'bandwidth_up is'),
    (['--min-stride', '65'], 'strides are 65 to 64'), (['--target-fps', '0'], 'throughput is 0.0'),
    (['--profile', 'nowhere'], "'nowhere' cannot be read"), (['--plot', 'plan.txt'], '.png'),
    (['--json', '/nowhere/plan.json'], '/nowhere/plan.json')])
def test_errors_are_one_line(options, said, capfd):
    assert main(['plan', *options]) == 1
    error = capfd.readouterr().err
    assert said in error and error.count('\n') == 1


# --- a running system --------------------------------------------------------------------------

def test_status_by_hand():
    profile = plan.profile_from_status(SimpleNamespace(**STATUS), '/student/status')
    assert (profile.t_si, profile.t_sd, profile.t_ti) == (0.05, 0.1, 0.2)
    assert (profile.key_frame_bytes, profile.update_bytes) == (100_000, 50_000)
    assert profile.costs.t_net == pytest.approx(0.3)


def test_status_without_a_measurement_is_refused():
    status = SimpleNamespace(**{**STATUS, 'throughput_lower': math.nan})
    with pytest.raises(plan.CommandError, match='/student/status.* no update with weights'):
        plan.profile_from_status(status, '/student/status')


def test_settings_are_those_of_the_running_system_unless_given(tmp_path, monkeypatch):
    profile = plan.profile_from_status(SimpleNamespace(**STATUS), '/student/status')
    running = {'min_stride': 4, 'max_stride': 32, 'max_updates': 2}
    monkeypatch.setattr(plan, 'measure', lambda topic: (profile, running))
    assert planned(tmp_path, '--status')['settings'] == running
    assert planned(tmp_path, '--status', '--max-stride', '16')['settings'] == {
        **running, 'max_stride': 16}


def test_status_without_ros_is_one_line(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, 'rclpy', None)
    assert main(['plan', '--status']) == 1
    error = capfd.readouterr().err
    assert '--status needs ROS 2' in error and error.count('\n') == 1


# --- several robots ------------------------------------------------------------------------------

TEACHER = ('--t-si', '0.05', '--t-ti', '0.1', '--t-sd', '0.02', '--latency', '0.02',
           '--key-frame-bytes', '20000', '--update-bytes', '20000', '--min-stride', '10')


def test_a_fleet_by_the_model(tmp_path):
    fleet = planned(tmp_path, *TEACHER, '--robots', '3', '--period', '2', '--steps', '5')['fleet']
    service = Service.of(0.1, 0.02, 8, 5)
    load = teacher_load(3, service, 0.04 + 40000 * 8 / 80e6, 2.0)
    assert fleet['utilisation'] == pytest.approx(load.utilisation)
    assert fleet['waiting_s'] == pytest.approx(load.waiting)
    assert fleet['update_after_frames'] == pytest.approx(load.answer / 0.05)
    # So many can be served, and no more.
    for count, late in ((fleet['robots_in_time'], False), (fleet['robots_in_time'] + 1, True)):
        more = planned(
            tmp_path, *TEACHER, '--robots', str(count), '--period', '2', '--steps', '5')['fleet']
        assert (more['update_after_s'] > 2) == late


def test_an_overloaded_teacher_is_said(monkeypatch, capfd):
    monkeypatch.setenv('COLUMNS', '140')
    assert main(['plan', *TEACHER, '--robots', '50']) == 0
    said = capfd.readouterr().out
    assert '50 robots and one teacher' in said and 'the teacher is overloaded' in said
    assert '100% of the time' in said


@pytest.mark.parametrize('options', [
    ('--robots', '0'), ('--robots', '3', '--period', '0'), ('--robots', '3', '--steps', '9')])
def test_fleets_that_cannot_be(options, capfd):
    assert main(['plan', *TEACHER, *options]) == 1
    assert capfd.readouterr().err.count('\n') == 1
