"""The command `shadowtutor security`, and the policy that it writes."""

from fnmatch import fnmatchcase
from pathlib import Path
from xml.etree import ElementTree

import pytest
from shadowtutor_ros.commands.main import main

CHECKOUT = Path(__file__).parents[2]
ROBOTS = ['/robot1', '/robot2']
RIGHTS = ('publish', 'subscribe', 'reply', 'request')


def written(tmp_path, *arguments):
    path = tmp_path / 'policy.xml'
    assert main(['security', '--out', str(path), *arguments]) == 0
    return read(path)


def read(path):
    """Read a policy as sros2 does: by enclave, what it may do with which names."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == 'policy' and root.attrib == {'version': '0.2.0'}
    enclaves = {}
    for enclave in root.find('enclaves'):
        names = enclaves[enclave.get('path')] = {right: [] for right in RIGHTS}
        for profile in enclave.find('profiles'):
            space = profile.get('ns').rstrip('/')
            for group in profile:
                (right, verdict), = group.attrib.items()
                assert verdict == 'ALLOW' and len(group)
                assert group.tag == ('topics' if right in RIGHTS[:2] else 'services')
                for one in group:
                    assert one.tag == group.tag[:-1]
                    names[right].append(
                        one.text if one.text.startswith('/') else
                        f"{space}/{profile.get('node')}{one.text[1:]}" if one.text[0] == '~' else
                        f'{space}/{one.text}')
    return enclaves


def who(policy, right, name):
    """Return the enclaves that may do something."""
    return {enclave for enclave, names in policy.items()
            if any(fnmatchcase(name, one) for one in names[right])}


def test_only_robot_and_teacher_reach_key_frames_and_updates(tmp_path):
    policy = written(tmp_path, '--robots', '/robot1,/robot2')
    assert set(policy) == {*ROBOTS, '/teacher', '/dashboard', '/viewer'}
    for robot in ROBOTS:
        assert who(policy, 'publish', f'{robot}/key_frames') == {robot}
        assert who(policy, 'subscribe', f'{robot}/key_frames') == {'/teacher'}
        assert who(policy, 'publish', f'{robot}/weight_updates') == {'/teacher'}
        assert who(policy, 'subscribe', f'{robot}/weight_updates') == {robot}
        others = {'/dashboard', '/viewer'}
        assert who(policy, 'publish', f'{robot}/segmentation/mask') == {robot}
        assert who(policy, 'publish', f'{robot}/camera/image_raw') == {robot}
        assert who(policy, 'subscribe', f'{robot}/segmentation/mask') == {robot} | others
        assert who(policy, 'subscribe', f'{robot}/camera/image_raw') == {robot} | others
        assert who(policy, 'subscribe', f'{robot}/student/status') == others
        for service in ('reset', 'enable', 'set_parameters'):
            assert who(policy, 'request', f'{robot}/student/{service}') == {'/dashboard'}
            assert who(policy, 'reply', f'{robot}/student/{service}') == {robot}
    assert who(policy, 'request', '/teacher/set_parameters') == {'/dashboard'}
    assert who(policy, 'reply', '/teacher/set_parameters') == {'/teacher'}
    assert who(policy, 'publish', '/clock') == set()


def test_who_views_changes_nothing(tmp_path):
    viewer = written(tmp_path, '--robots', '/robot1')['/viewer']
    assert not viewer['request']
    assert set(viewer['publish']) == {'/rosout', '/parameter_events', '/events/write_split'}


def test_nodes_have_the_names_that_are_given(tmp_path):
    policy = written(
        tmp_path, '--robots', 'fleet/a, fleet/b', '--student-name', 'pupil', '--teacher-name',
        'school/master', '--camera-name', 'eye', '--images', 'front,/stereo/left')
    assert who(policy, 'publish', '/fleet/a/pupil/status') == {'/fleet/a'}
    assert who(policy, 'publish', '/school/master/status') == {'/teacher'}
    assert who(policy, 'publish', '/fleet/b/eye/anything') == {'/fleet/b'}
    for image in ('/fleet/a/front', '/fleet/a/front/compressed', '/fleet/a/camera_info'):
        assert '/fleet/a' in who(policy, 'subscribe', image)
    for image in ('/stereo/left', '/stereo/left/compressed', '/stereo/camera_info'):
        assert {'/fleet/a', '/fleet/b'} < who(policy, 'subscribe', image)
    assert who(policy, 'subscribe', '/fleet/a/image') == set()


def test_permissions_do_not_grow_with_the_fleet(tmp_path):
    # Fast DDS has 8192 bytes for a message with permissions, a certificate and more.
    robots = ','.join(f'/warehouse/hall_1/robot{number}' for number in range(100))
    for names in written(tmp_path, '--robots', robots).values():
        assert sum(len(name) + 50 for right in ('publish', 'subscribe') for name in names[right]) \
            + sum(2 * (len(name) + 60) for right in ('reply', 'request')
                  for name in names[right]) < 4000


def test_a_robot_may_have_no_namespace(tmp_path):
    policy = written(tmp_path, '--robots', '')
    assert who(policy, 'publish', '/key_frames') == {'/robot'}
    assert who(policy, 'subscribe', '/weight_updates') == {'/robot'}
    assert who(policy, 'subscribe', '/key_frames') == {'/teacher'}


@pytest.mark.parametrize('arguments, message', [
    (['--robots', '/robot1,robot1/'], 'robots are /robot1, /robot1: expected namespaces that '),
    (['--robots', '/robot-1'], "robots: '/robot-1' is no name of ROS"),
    (['--robots', '/robot1/*'], "robots: '/robot1/*' is no name of ROS"),
    (['--robots', '/robot1', '--images', 'camera/*'], "an image: '/camera/*' is no name of ROS"),
    (['--robots', '/robot1', '--student-name', '*'], "a node: '/*' is no name of ROS"),
    (['--robots', '/teacher'], 'a robot is named /teacher, as an enclave that is there for'),
    (['--robots', ',/robot'], 'a robot is named /robot, as an enclave that is there for'),
    (['--robots', '/a,/a/camera'], 'what /a may do would reach /a/camera/key_frames'),
    (['--robots', '/a,/a/segmentation'],
     'what /a may do would reach /a/segmentation/key_frames')])
def test_a_wrong_name_is_said(tmp_path, capsys, arguments, message):
    path = tmp_path / 'policy.xml'
    assert main(['security', '--out', str(path), *arguments]) == 1
    assert message in capsys.readouterr().err and not path.exists()


def test_the_policy_that_is_shipped_is_that_of_two_robots(tmp_path):
    written(tmp_path, '--robots', '/robot1,/robot2')
    shipped = CHECKOUT / 'config' / 'security' / 'policy.xml'
    assert shipped.read_text() == (tmp_path / 'policy.xml').read_text()


def test_sros2_accepts_it(tmp_path):
    reason = 'the ROS package sros2 is not on PyPI: source a ROS 2 install'
    keystore = pytest.importorskip('sros2.keystore', reason=reason)
    etree = pytest.importorskip('lxml.etree', reason=reason)
    policy = written(tmp_path, '--robots', '/robot1,/robot2')
    keystore.create_keystore(tmp_path / 'keys')
    for enclave, names in policy.items():
        keystore.create_enclave(tmp_path / 'keys', enclave)
        keystore.create_permission(tmp_path / 'keys', enclave, tmp_path / 'policy.xml')
        assert Path(f'{tmp_path}/keys/enclaves{enclave}/permissions.p7s').stat().st_size < 5500
        made = etree.parse(f'{tmp_path}/keys/enclaves{enclave}/permissions.xml')
        topics = {right: {one.text for one in made.findall(f'.//allow_rule/{right}//topic')}
                  for right in ('publish', 'subscribe')}
        # How topics and services of ROS are named in DDS.
        for right, reverse in (('publish', 'subscribe'), ('subscribe', 'publish')):
            asked, answered = ('request', 'reply') if right == 'publish' else ('reply', 'request')
            assert topics[right] == {
                'ros_discovery_info', *(f'rt{name}' for name in names[right]),
                *(f'rq{name}Request' for name in names[asked]),
                *(f'rr{name}Reply' for name in names[answered])}
        assert made.find('.//default').text == 'DENY'
