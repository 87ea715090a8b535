"""Topics of images as image_transport has them: the compressed form and calibration beside it."""

import copy

import cv2
import numpy as np
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from shadowtutor_ros.nodes.images import to_bytes, to_message
from shadowtutor_ros.nodes.running import qos

#: Extension and settings of OpenCV's encoder. Higher levels of PNG take longer for little.
_FILES = {'png': ('.png', cv2.IMWRITE_PNG_COMPRESSION), 'jpeg': ('.jpg', cv2.IMWRITE_JPEG_QUALITY)}
_PNG_LEVEL, _JPEG_QUALITY = 3, 80


def compressed_topic(node: Node, image: str) -> str:
    """
    Return the topic of an image's compressed form.

    :param image: of the image, relative: where that is remapped, the compressed form goes with
        it, as in image_transport; a remapping of ``<image>/compressed`` itself comes first.
    """
    return _remapped(node, f'{image}/compressed') or f'{node.resolve_topic_name(image)}/compressed'


def camera_info_topic(node: Node, image: str) -> str:
    """
    Return the topic of a camera's calibration: ``camera_info`` beside the image.

    :param image: of the image, relative; a remapping of ``camera_info`` itself comes first.
    """
    base = node.resolve_topic_name(image).rpartition('/')[0]
    return _remapped(node, 'camera_info') or f'{base}/camera_info'


def _remapped(node: Node, name: str) -> str | None:
    resolved = node.resolve_topic_name(name)
    return resolved if resolved != node.resolve_topic_name(name, only_expand=True) else None


class ImagePublisher:
    """
    Publishes images on a topic, and compressed beside it; each for those who subscribe alone.

    :param node: publishes.
    :param name: of the topic, relative.
    :param encoding: of the images: 'mono8', 'rgb8' or 'bgr8'.
    :param file_format: of the compressed form: 'png', without loss, or 'jpeg'.
    """

    def __init__(self, node: Node, name: str, encoding: str, file_format: str):
        self._encoding, self._file_format = encoding, file_format
        self._images = node.create_publisher(Image, name, **qos())
        self._files = node.create_publisher(
            CompressedImage, compressed_topic(node, name), **qos())

    @property
    def topic_name(self) -> str:
        """The topic of the images."""
        return self._images.topic_name

    @property
    def subscribers(self) -> int:
        """How many subscribe, to the one or the other."""
        return self._images.get_subscription_count() + self._files.get_subscription_count()

    def publish(self, image: np.ndarray, header: Header, quality: int = _JPEG_QUALITY) -> None:
        """
        Publish an image to those who subscribe.

        :param image: H×W or H×W×3 uint8, as the encoding says.
        :param quality: of JPEG, 1 to 100.
        """
        if self._images.get_subscription_count():
            self._images.publish(to_message(image, self._encoding, header))
        if self._files.get_subscription_count():
            self._files.publish(self._compressed(image, header, quality))

    def _compressed(self, image: np.ndarray, header: Header, quality: int) -> CompressedImage:
        extension, setting = _FILES[self._file_format]
        if self._encoding == 'rgb8':
            image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        data = cv2.imencode(extension, image, [
            setting, quality if self._file_format == 'jpeg' else _PNG_LEVEL])[1]
        # What compressed_image_transport reads: the encoding to decode to, and that of the file.
        inner = '' if image.ndim == 2 else 'bgr8'
        return CompressedImage(
            header=header, data=to_bytes(data),
            format=f'{self._encoding}; {self._file_format} compressed {inner}')


class CameraInfoPublisher:
    """
    Publishes the camera's calibration for the masks: with their header, scaled to their size.

    It is that of the last message on ``camera_info`` beside the images.

    :param node: subscribes and publishes.
    """

    def __init__(self, node: Node):
        self._logger = node.get_logger()
        self._info: CameraInfo | None = None
        self._publisher = node.create_publisher(CameraInfo, 'segmentation/camera_info', **qos())
        # Best effort reaches all that publish, and one that is lost makes no difference.
        self._subscription = node.create_subscription(
            CameraInfo, camera_info_topic(node, 'image'), self._on_info,
            **qos(ReliabilityPolicy.BEST_EFFORT))

    def _on_info(self, info: CameraInfo) -> None:
        self._info = info

    def publish(self, frame: tuple[int, int], mask: tuple[int, int], header: Header) -> None:
        """
        Publish the calibration of a mask, where somebody subscribes and the camera has one.

        :param frame: height and width of the camera's image.
        :param mask: height and width of its mask.
        :param header: of the mask.
        """
        info = self._info
        if info is None or not self._publisher.get_subscription_count():
            return
        if _size(info) != frame:
            self._logger.warning(
                f'{self._subscription.topic_name} is of images of {_size(info)[1]}x'
                f'{_size(info)[0]}, but they are {frame[1]}x{frame[0]}: '
                f'{self._publisher.topic_name} is not published; calibrate the camera at this '
                'size, or let what resizes its images resize its camera_info too',
                throttle_duration_sec=60.0)
            return
        self._publisher.publish(scaled(info, mask[1] / frame[1], mask[0] / frame[0], header))


def _size(info: CameraInfo) -> tuple[int, int]:
    """Return height and width of the images that a calibration is for."""
    roi = info.roi
    height, width = (roi.height, roi.width) if roi.height and roi.width else (
        info.height, info.width)
    return height // max(1, info.binning_y), width // max(1, info.binning_x)


def scaled(info: CameraInfo, x: float, y: float, header: Header) -> CameraInfo:
    """
    Return the calibration of a camera whose images are scaled, as image_proc's resize node does.

    :param x: factor of the width.
    :param y: factor of the height.
    :param header: of the result.
    """
    result = copy.deepcopy(info)
    result.header = header
    result.width, result.height = round(info.width * x), round(info.height * y)
    # Row by row: of K 3×3, of P 3×4.
    for matrix, columns in ((result.k, 3), (result.p, 4)):
        matrix[:columns] *= x
        matrix[columns:2 * columns] *= y
    roi = result.roi
    roi.x_offset, roi.width = round(roi.x_offset * x), round(roi.width * x)
    roi.y_offset, roi.height = round(roi.y_offset * y), round(roi.height * y)
    return result
