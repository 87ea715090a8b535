"""The tables of the README name the topics, services and parameters that running nodes have."""

from pathlib import Path
import re
import shlex

import pytest
from rclpy.parameter import Parameter
import yaml

from shadowtutor_ros.nodes.camera_node import CameraNode
from shadowtutor_ros.nodes.label_info import LabelInfo
from shadowtutor_ros.nodes.parameter_files import TABLES
from shadowtutor_ros.nodes.student_node import StudentNode
from shadowtutor_ros.nodes.teacher_node import TeacherNode

CHECKOUT = Path(__file__).parents[2]
README = (CHECKOUT / 'README.md').read_text()
PAGES = '\n'.join(path.read_text() for path in sorted(
    [*CHECKOUT.glob('*.md'), *CHECKOUT.glob('docs/*.md')]))

#: What every node has.
COMMON_TOPICS = {'/rosout', '/parameter_events'}
COMMON_SERVICES = {
    'describe_parameters', 'get_parameter_types', 'get_parameters', 'get_type_description',
    'list_parameters', 'set_parameters', 'set_parameters_atomically'}


def section(node):
    """Return what the README has about a node."""
    return re.search(rf'^### {node}\n(.*?)^##', README, re.M | re.S)[1]


def table(node, kind):
    """Return the first two columns of a table: the names in them, and the text of the second."""
    rows = re.search(rf'^\| {kind} \|.*\n\|---.*\n((?:\|.*\n)+)', section(node), re.M)[1]
    columns = [re.split(r'(?<!\\)\|', row)[1:3] for row in rows.splitlines()]
    return [(re.findall(r'`([^`]+)`', first), second) for first, second in columns]


def absolute(name, node):
    """Resolve a name of the README for a node without a namespace."""
    return name.replace('~', f'/{node}') if name.startswith(('~', '/')) else f'/{name}'


@pytest.fixture
def nodes(ros, weights):
    """Return a student, a teacher and a camera."""
    return {
        'student': ros.start(StudentNode, weights=weights),
        'teacher': ros.start(TeacherNode, weights=weights, teacher='scene', threads=1),
        'camera': ros.start(CameraNode, width=96, height=64, rate=0.0)}


def test_topics_and_their_types(nodes):
    for name in ('student', 'teacher'):
        node = nodes[name]
        has = dict(node.get_publisher_names_and_types_by_node(name, '/'))
        has |= dict(node.get_subscriber_names_and_types_by_node(name, '/'))
        told = set()
        for topics, kinds in table(f'{name}_node', 'topic'):
            for topic in topics:
                if topic.startswith('<') or ':' in topic or topic == 'robots':
                    continue  # of another node, or a parameter
                topic = absolute(topic, name)
                if topic.endswith('label_info') and LabelInfo is None:
                    continue
                told.add(topic)
                if topic.endswith('/compressed'):
                    continue  # one of two
                assert topic in has, topic
                kind = has[topic][0].replace('/msg/', '/')
                assert kind in kinds, f'{topic}: {kind}'
        # The compressed form of an image is told of once for all of them.
        images = {topic.removesuffix('/compressed') for topic in has}
        assert images - COMMON_TOPICS <= told


def test_services_and_their_types(nodes):
    told = {absolute(services[0], 'student'): kind.strip().replace('/', '/srv/')
            for services, kind in table('student_node', 'service')}
    for name, node in nodes.items():
        has = {service: kinds[0] for service, kinds in
               node.get_service_names_and_types_by_node(name, '/')
               if service.rpartition('/')[2] not in COMMON_SERVICES}
        assert has == (told if name == 'student' else {})


@pytest.mark.parametrize('name', ['student', 'teacher'])
def test_parameters_and_their_defaults(nodes, name):
    told = []
    for parameters, defaults in table(f'{name}_node', 'parameter'):
        full = []
        for parameter in parameters:
            if parameter.startswith('.'):  # of the group of the one before
                parameter = full[-1].partition('.')[0] + parameter
            full.append(parameter)
        told += full
        values = [value.strip(' `') for value in defaults.split(',')] if defaults.strip() else []
        for parameter, value in zip(full, values if len(values) == len(full) else []):
            default = nodes[name].get_parameter(parameter).value
            own = next(one.default for one in TABLES[name] if one.name == parameter)
            text = str(own).lower() if isinstance(own, bool) else str(own)
            assert value.strip("[]'") == text.strip("[]'"), f'{parameter}: {value}, {default}'
    assert sorted(told) == sorted(parameter.name for parameter in TABLES[name])


def test_every_parameter_of_the_camera_is_named():
    for parameter in TABLES['camera']:
        assert f'`{parameter.name}`' in section('camera_node'), parameter.name


# --- what people are told to type ----------------------------------------------------------------

def typed(command):
    """Return what follows a command of ros2, in blocks and in running text."""
    return [re.sub(r' +#.*', '', rest) for rest in re.findall(
        rf'ros2 {command} ([^`\n]+)', PAGES)]


def at_home(name):
    """Return a name without the robots' namespaces of the examples."""
    return re.sub(r'^/robot\d', '', name)


def test_parameters_that_people_are_told_to_set_can_be_set(nodes):
    assert typed('param set')
    for line in typed('param set'):
        node, name, value = shlex.split(line)
        result = nodes[at_home(node).strip('/')].set_parameters(
            [Parameter(name, value=yaml.safe_load(value))])[0]
        assert result.successful, f'{line}: {result.reason}'


def test_topics_that_people_are_told_to_look_at_are_there(nodes):
    there = {name for name, _ in nodes['student'].get_topic_names_and_types()}
    lines = typed('topic (?:echo|info|hz|bw)')
    assert lines
    for line in lines:
        topic = at_home(next(word for word in line.split() if word.startswith('/')))
        assert topic in there or topic.startswith('/camera/'), line


def test_services_that_people_are_told_to_call_are_there(nodes):
    there = dict(nodes['student'].get_service_names_and_types())
    assert typed('service call')
    for line in typed('service call'):
        service, kind, *_ = line.split()
        assert there[at_home(service)] == [kind], line


#: What looks like a parameter with its value and is none: a union, a driver's own.
NO_PARAMETERS = {'auto', 'pixel_format'}


def test_parameters_that_are_named_with_values_can_have_them():
    tables = {parameter.name: parameter for table in TABLES.values() for parameter in table}
    found = re.findall(r'`([a-z_.]+): ([^`\n]+)`', PAGES)
    assert found
    for name, text in found:
        if name not in NO_PARAMETERS:
            value = yaml.safe_load(text)
            if isinstance(tables[name].default, list) and isinstance(value, str):
                value = [value]
            assert tables[name].fault(tables[name].typed(value)) is None, f'{name}: {text}'


def test_topics_and_services_that_are_named_are_there(nodes):
    there = {name for name, _ in nodes['student'].get_topic_names_and_types()}
    there |= {name for name, _ in nodes['student'].get_service_names_and_types()}
    names = set(re.findall(
        r'`(~/\w+|segmentation/[\w/]+|image/compressed|camera_info|key_frames|weight_updates'
        r'|/diagnostics)`', PAGES))
    if LabelInfo is None:
        names.discard('segmentation/label_info')
    assert {name for name in names if absolute(name, 'student') not in there} == set()
