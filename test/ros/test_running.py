import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from shadowtutor_ros.nodes import running


@pytest.fixture
def environment(monkeypatch):
    """Return the environment, without what may be set in it; it is set back afterwards."""
    monkeypatch.setattr(os, 'environ', {'HOME': '/home/robot'})
    monkeypatch.setattr(running, '_SHARED_MEMORY', 0)
    return os.environ


@pytest.mark.parametrize('distribution, variable', [
    ('humble', 'FASTRTPS_DEFAULT_PROFILES_FILE'), ('jazzy', 'FASTRTPS_DEFAULT_PROFILES_FILE'),
    ('kilted', 'FASTDDS_DEFAULT_PROFILES_FILE'), ('', 'FASTDDS_DEFAULT_PROFILES_FILE')])
def test_fast_dds_is_given_shared_memory_for_images(environment, distribution, variable):
    environment['ROS_DISTRO'] = distribution
    running.large_shared_memory()
    profile = ElementTree.parse(environment[variable])
    sizes = [int(element.text) for element in profile.iter() if
             element.tag.endswith('segment_size')]
    assert sizes and min(sizes) > 3 * 1920 * 1080 * 3


@pytest.mark.parametrize('name, value', [
    ('FASTDDS_DEFAULT_PROFILES_FILE', '/own.xml'), ('FASTDDS_BUILTIN_TRANSPORTS', 'LARGE_DATA'),
    ('ROS_LOCALHOST_ONLY', '1')])
def test_what_the_user_set_up_stays(environment, name, value):
    environment[name] = value
    before = dict(environment)
    running.large_shared_memory()
    assert environment == before


def test_little_shared_memory_is_left_alone(environment, monkeypatch):
    monkeypatch.setattr(running, '_SHARED_MEMORY', 2 ** 60)
    before = dict(environment)
    running.large_shared_memory()
    assert environment == before


def test_the_profile_is_installed_with_the_package():
    assert Path(running.__file__).with_name('fastdds.xml').is_file()
