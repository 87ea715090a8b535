"""The student's subscription to its camera: as reliable as offered, and what gets lost of it."""

from itertools import groupby
from statistics import median
from typing import Callable

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CompressedImage, Image

from shadowtutor_ros.nodes.graph import node_name, type_name
from shadowtutor_ros.nodes.image_topics import compressed_topic
from shadowtutor_ros.nodes.parameters import ParameterError
from shadowtutor_ros.nodes.running import qos, steady_clock

#: Seconds between two looks at what is offered.
POLL_PERIOD = 0.25

#: What the parameter that overrides the reliability may be.
RELIABILITIES = ('automatic', 'reliable', 'best_effort')

#: Images that are judged together: so many at least, over so many seconds of their stamps.
BLOCK_IMAGES, BLOCK_SECONDS = 16, 2.0

#: Share of lost images above which that is said.
LOST_SHARE = 0.1

#: Seconds between two stamps above which the camera or the bag has paused.
PAUSE = 2.0

#: From so many equal gaps in a row on it is the camera that has become slower.
_SLOWER = 4

#: Up to so many periods a gap must be a whole number of them; the errors of stamps add up beyond.
_COUNTABLE = 8


class LossMeter:
    """
    Estimates from stamps how many images of a camera have not come.

    The stamps of a camera with a steady period are whole periods apart. Where gaps of one period
    and of several are mixed, images are missing. Nothing is claimed of a camera whose periods are
    not steady; and what a camera itself skips now and then looks the same.

    :ivar lost: images, in all.
    :ivar last: of the last block that was judged: images that came, images lost, and seconds.
    """

    def __init__(self) -> None:
        self.lost = 0
        self.last = (0, 0, 0.0)
        self._stamps: list[float] = []

    def begin(self) -> None:
        """Begin anew: what lies between the last image and the next one is not judged."""
        self._stamps = []

    def add(self, stamp: float) -> bool:
        """
        Count an image.

        :param stamp: seconds.
        :returns: whether a block is judged now, in :attr:`last`.
        """
        stamps = self._stamps
        if stamps and not 0 < stamp - stamps[-1] <= PAUSE:
            # Another run of a bag, a pause, or no stamps, which are all 0.
            stamps.clear()
        stamps.append(stamp)
        seconds = stamps[-1] - stamps[0]
        if len(stamps) < BLOCK_IMAGES or seconds < BLOCK_SECONDS:
            return False
        lost, again = _missing([after - before for before, after in zip(stamps, stamps[1:])])
        self.last = (len(stamps) - 1, lost, seconds)
        self.lost += lost
        self._stamps = stamps[-1 - again:]
        return True


def _missing(gaps: list[float]) -> tuple[int, int]:
    """
    Count the images that are missing in gaps between images; 0 where they are not steady.

    :returns: with it, how many of the last gaps are to be looked at again with those to come,
        which tell whether the camera has become slower.
    """
    # Stamps jitter, so not the shortest; and up to four fifths of the images may be lost.
    short = sorted(gaps)[len(gaps) // 5]
    period = median(gap for gap in gaps if 0.75 * short <= gap <= 1.5 * short)
    counts = [round(gap / period) for gap in gaps]
    countable = [gap / period for gap, count in zip(gaps, counts) if count <= _COUNTABLE]
    steady = sum(abs(gap - round(gap)) <= 0.25 and gap >= 0.75 for gap in countable)
    if steady < 0.9 * len(countable):
        return 0, 0
    runs = [(count, len(list(run))) for count, run in groupby(counts)]
    again = min(runs[-1][1], _SLOWER)
    if again < _SLOWER:
        runs.pop()
    return sum(
        length * max(0, count - 1) for count, length in runs if length < _SLOWER), again


class ImageSubscription:
    """
    Subscribes to a camera's images and keeps the subscription fitting to what is offered.

    It is reliable where all publishers of the type offer that, since large images get lost at best
    effort even on one machine; else best effort, which reaches all. The parameter
    ``qos_overrides.<topic>.subscription.reliability`` decides instead where it is not 'automatic'.
    The newest image alone is kept, so that a slow student does not hold the camera up.

    :param node: subscribes, looks at the graph and logs, with a timer of its own.
    :param compressed: whether to subscribe to CompressedImage on ``image/compressed`` rather than
        Image on ``image``; a remapping of ``image`` moves both.
    :param on_image: called with every image.
    :ivar topic: fully qualified.
    :raises ParameterError: if the parameter is something else.
    """

    def __init__(
            self, node: Node, compressed: bool,
            on_image: Callable[[Image | CompressedImage], None]):
        self._node = node
        self._type = CompressedImage if compressed else Image
        self._on_image = on_image
        self.topic = (
            compressed_topic(node, 'image') if compressed else node.resolve_topic_name('image'))
        self._meter = LossMeter()
        self._counted_from = 0
        self._override = self._declare_override()
        #: The subscription before, until the new one has brought an image; none is lost meanwhile.
        self._former: Subscription | None = None
        self._superseded = False
        self._subscription: Subscription | None = None
        self.resume()
        self._last_stamp: tuple[int, int] | None = None
        node.create_timer(POLL_PERIOD, self._follow, clock=steady_clock())

    @property
    def reliability(self) -> ReliabilityPolicy:
        """What is asked for now."""
        return self._subscription.qos_profile.reliability

    @property
    def images_lost(self) -> int:
        """How many images have not come, by their stamps, since the start or :meth:`restart`."""
        return self._meter.lost - self._counted_from

    def pause(self) -> None:
        """Take no images; the camera sends none then."""
        self._end_former()
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def resume(self) -> None:
        """Take images, where none were taken; what was missed meanwhile is not lost."""
        if self._subscription is None:
            self._meter.begin()
            self._subscription = self._subscribe(
                ReliabilityPolicy.BEST_EFFORT if self._override is None else self._override)

    def restart(self) -> None:
        """Count lost images from 0 again."""
        self._counted_from = self._meter.lost

    def _declare_override(self) -> ReliabilityPolicy | None:
        # Declared here, since what rclpy declares stays what it was at the first subscription.
        parameter = f'qos_overrides.{self.topic}.subscription.reliability'
        value = self._node.declare_parameter(parameter, RELIABILITIES[0], ParameterDescriptor(
            description='how images are asked for; automatic: as all their publishers offer it',
            additional_constraints=f"one of {', '.join(RELIABILITIES)}", read_only=True)).value
        if value not in RELIABILITIES:
            raise ParameterError(
                f"{parameter} is '{value}': choose one of {', '.join(RELIABILITIES)}")
        return None if value == RELIABILITIES[0] else ReliabilityPolicy[value.upper()]

    def _subscribe(self, reliability: ReliabilityPolicy) -> Subscription:
        def receive(message: Image | CompressedImage) -> None:
            self._receive(subscription, message)
        subscription = self._node.create_subscription(
            self._type, self.topic, receive, **{
                **qos(reliability), 'qos_overriding_options': QoSOverridingOptions(
                    (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH))})
        return subscription

    def _receive(self, subscription: Subscription, message: Image | CompressedImage) -> None:
        stamp = message.header.stamp.sec, message.header.stamp.nanosec
        if self._former is not None:
            if subscription is not self._subscription:
                if self._superseded:
                    return
            else:
                self._superseded = True
                if stamp == self._last_stamp and any(stamp):
                    return  # it came by the former one too
        self._last_stamp = stamp
        if self._meter.add(stamp[0] + stamp[1] / 1e9):
            self._say_what_is_lost()
        self._on_image(message)

    def _follow(self) -> None:
        """Look at what is offered, and subscribe anew where that asks for it."""
        if self._subscription is None:
            return
        if self._superseded:
            self._end_former()
        offers = self._fitting(self._offers())
        if self._override is not None or not offers:
            return
        wanted = ReliabilityPolicy.BEST_EFFORT
        if all(_is_reliable(offer) for offer in offers):
            wanted = ReliabilityPolicy.RELIABLE
        if wanted != self.reliability:
            self._end_former()
            self._former, self._subscription = self._subscription, self._subscribe(wanted)
            self._node.get_logger().info(
                f'images on {self.topic} are asked for with {_words(wanted)} delivery from now '
                f'on, as offered by {_names(offers)}')

    def _end_former(self) -> None:
        if self._former is not None:
            self._node.destroy_subscription(self._former)
        self._former, self._superseded = None, False

    def _offers(self) -> list[TopicEndpointInfo]:
        return self._node.get_publishers_info_by_topic(self.topic)

    def _fitting(self, offers: list[TopicEndpointInfo]) -> list[TopicEndpointInfo]:
        kind = type_name(self._type)
        return [offer for offer in offers if offer.topic_type == kind]

    def _hint(self, reliability: str) -> str:
        return (f'image_reliability:={reliability} with ros2 launch, '
                f'-p qos_overrides.{self.topic}.subscription.reliability:={reliability} with '
                'ros2 run')

    def _say_what_is_lost(self) -> None:
        came, lost, seconds = self._meter.last
        if lost < LOST_SHARE * (came + lost):
            return
        offers = self._fitting(self._offers())
        if self.reliability == ReliabilityPolicy.RELIABLE:
            hint = ('they are asked for reliably, so the camera skips them, the network is too '
                    'slow for them, or this computer is too busy: try smaller or compressed '
                    'images')
        elif offers and all(_is_reliable(offer) for offer in offers):
            hint = f'large images get lost at best effort: try {self._hint(RELIABILITIES[0])}'
        else:
            hint = ('large images get lost at best effort: let all that publish them offer '
                    'reliable delivery, or try smaller or compressed images; or the camera itself '
                    'skips them')
        self._node.get_logger().warning(
            f'by their stamps {lost} of {came + lost} images on {self.topic} were lost in '
            f'{seconds:.1f} s; {hint}', throttle_duration_sec=30.0)

    def say_what_is_missing(self, silent: float) -> None:
        """
        Say that no images come, what is wanted and what is offered, and what to do.

        :param silent: seconds since the last image.
        """
        offers, wanted = self._offers(), self.reliability
        fitting = self._fitting(offers)
        if not offers:
            hint = ('nobody publishes there: start the camera, or name its topic: image_topic:='
                    '/its/topic with ros2 launch, --ros-args -r image:=/its/topic with ros2 run')
        elif not fitting:
            hint = "the type differs: set image_transport to 'raw' or 'compressed'"
        elif self._override is None and wanted != ReliabilityPolicy.RELIABLE:
            hint = ('has the camera stopped? Large images get lost at best effort, too: let all '
                    'that publish them offer reliable delivery')
        elif self._override is None:
            hint = 'has the camera stopped?'
        elif wanted == ReliabilityPolicy.RELIABLE and not any(map(_is_reliable, fitting)):
            hint = f'it is offered at best effort alone: try {self._hint(RELIABILITIES[0])}'
        elif wanted != ReliabilityPolicy.RELIABLE and any(map(_is_reliable, fitting)):
            hint = ('large images may be lost at best effort: try '
                    f'{self._hint(RELIABILITIES[0])}')
        else:
            hint = 'has the camera stopped?'
        self._node.get_logger().warning(
            f'no image for {silent:.0f} s on {self.topic} (wanted: {_words(wanted)}, '
            f'{self._type.__name__}); '
            + (f'published there by {_names(offers)}; ' if offers else '') + hint,
            throttle_duration_sec=10.0)


def _is_reliable(offer: TopicEndpointInfo) -> bool:
    return offer.qos_profile.reliability == ReliabilityPolicy.RELIABLE


def _names(offers: list[TopicEndpointInfo]) -> str:
    return ', '.join(
        f"{node_name(offer) or 'a node whose name is not known yet'} ({offer.topic_type}, "
        f'{_words(offer.qos_profile.reliability)})'
        for offer in offers)


def _words(reliability: ReliabilityPolicy) -> str:
    return reliability.name.lower().replace('_', ' ')
