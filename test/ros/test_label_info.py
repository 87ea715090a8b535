"""The names of ids as vision_msgs has them, which need not be installed for this."""

from types import SimpleNamespace

from rclpy.logging import get_logger
from rclpy.qos import DurabilityPolicy
from std_msgs.msg import Header

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.nodes import label_info
from shadowtutor_ros.nodes.label_info import LabelInfoPublisher


class Recorder:
    """A node and its publisher, which keep what they are given."""

    def __init__(self):
        self.topics, self.messages = [], []

    def get_logger(self):
        return get_logger('recorder')

    def create_publisher(self, kind, topic, qos_profile, qos_overriding_options):
        self.topics.append((kind, topic, qos_profile.durability))
        return SimpleNamespace(publish=self.messages.append)


def test_a_table_is_published_once_and_latched(monkeypatch):
    monkeypatch.setattr(label_info, 'LabelInfo', SimpleNamespace)
    monkeypatch.setattr(label_info, 'VisionClass', SimpleNamespace, raising=False)
    node = Recorder()
    publisher = LabelInfoPublisher(node)
    assert node.topics == [
        (SimpleNamespace, 'segmentation/label_info', DurabilityPolicy.TRANSIENT_LOCAL)]
    first, second = ClassTable.of(['dog']), ClassTable.of(['dog', 'cat'], ids={0: 7, 1: 9})
    for table in (first, first, second, second, first):
        publisher.publish(table, Header(frame_id=str(len(table))))
    assert [[(one.class_id, one.class_name) for one in message.class_map]
            for message in node.messages] == [
        [(0, 'background'), (1, 'dog')], [(0, 'background'), (7, 'dog'), (9, 'cat')],
        [(0, 'background'), (1, 'dog')]]
    assert [message.header.frame_id for message in node.messages] == ['2', '3', '2']


def test_without_vision_msgs_nothing_is_published(monkeypatch):
    monkeypatch.setattr(label_info, 'LabelInfo', None)
    node = Recorder()
    LabelInfoPublisher(node).publish(ClassTable.of(['dog']), Header())
    assert node.topics == []
