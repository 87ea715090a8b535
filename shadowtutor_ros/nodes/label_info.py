"""The names of a mask's ids as vision_msgs/LabelInfo, where vision_msgs is installed."""

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy
from std_msgs.msg import Header

from shadowtutor_ros.classes import ClassTable
from shadowtutor_ros.nodes.running import qos

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # the masks are the same without it
    LabelInfo = None


class LabelInfoPublisher:
    """
    Publishes the classes of masks on ``segmentation/label_info``, once a table; latched.

    :param node: that publishes the masks.
    """

    def __init__(self, node: Node):
        self._logger = node.get_logger()
        self._published: ClassTable | None = None
        self._publisher = None
        if LabelInfo is None:
            self._logger.info(
                'vision_msgs is not installed, so segmentation/label_info is not published')
            return
        self._publisher = node.create_publisher(
            LabelInfo, 'segmentation/label_info',
            **qos(durability=DurabilityPolicy.TRANSIENT_LOCAL))

    def publish(self, classes: ClassTable, header: Header) -> None:
        """
        Publish a table, and say it, unless it is out already.

        :param header: of the first mask with these classes.
        """
        if classes == self._published:
            return
        self._published = classes
        names = ', '.join(f'{one} {name}' for one, name in zip(classes.ids, classes.names))
        self._logger.info(f'masks have the classes {names[:500]}')
        if self._publisher is not None:
            self._publisher.publish(LabelInfo(header=header, threshold=0.0, class_map=[
                VisionClass(class_id=one, class_name=name)
                for one, name in zip(classes.ids, classes.names)]))
