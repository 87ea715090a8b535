"""The student's subscription to its camera."""

import threading
import time
from types import SimpleNamespace

from helpers import wait_for
import numpy as np
import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from shadowtutor_ros.nodes import image_subscription
from shadowtutor_ros.nodes.image_subscription import ImageSubscription, LossMeter
from shadowtutor_ros.nodes.parameters import ParameterError
from shadowtutor_ros.nodes.running import qos

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
PARAMETER = 'qos_overrides./image.subscription.reliability'


def feed(stamps):
    """Return a meter that has seen stamps, in seconds."""
    meter = LossMeter()
    for stamp in stamps:
        meter.add(stamp)
    return meter


def camera(count, rate=20.0, jitter=0.05, start=100.0, seed=0):
    """Return the stamps of a camera, with a jitter that is a share of its period."""
    noise = np.random.default_rng(seed).normal(0, jitter, count)
    return start + (np.arange(count) + noise.clip(-3 * jitter, 3 * jitter)) / rate


def some(stamps, share, seed=0):
    """Return the share of the stamps that gets through, by chance."""
    return stamps[np.random.default_rng(seed).random(len(stamps)) < share]


@pytest.mark.parametrize('rate', [7.0, 20.0, 60.0])
@pytest.mark.parametrize('share', [0.4, 0.6, 0.9])
def test_lost_images_are_counted_by_their_stamps(rate, share):
    stamps = camera(2000, rate)
    came = some(stamps, share)
    lost = len(stamps) - len(came)
    # What the last, unfinished block has lost is not counted yet.
    least = 0.85 if share > 0.5 else 0.6
    assert least * lost <= feed(came).lost <= 1.05 * lost


def test_37_of_60_images_are_noticed():
    stamps = camera(60)
    came = np.sort(np.random.default_rng(1).choice(stamps, 37, replace=False))
    meter = feed(came)
    count, lost, seconds = meter.last
    assert meter.lost == lost and 0.25 <= lost / (count + lost) <= 0.5 and 2.0 <= seconds <= 3.0


def pairs_that_get_slower():
    """Return the stamps of a camera that halves its rate in the dark and doubles it again."""
    gaps = [0.05] * 70 + [0.1] * 40 + [0.05] * 90 + [0.1] * 55 + [0.05] * 40
    return 100 + np.cumsum(gaps)


@pytest.mark.parametrize('stamps', [
    camera(600), camera(600, jitter=0.1), pairs_that_get_slower(),
    100 + np.cumsum(([0.05] * 30 + [0.1] * 8) * 10),
    # Periods of no grid, as of a depth camera that waits for its scene.
    100 + np.cumsum(np.random.default_rng(0).uniform(0.02, 0.2, 600)),
    # Exposure that grows bit by bit.
    100 + np.cumsum(np.linspace(0.03, 0.12, 600)),
    # A bag that was stopped, or a camera, more than once.
    np.concatenate([camera(100, start=start) for start in (100, 110, 140)]),
    np.zeros(600)], ids=[
    'steady', 'jitter', 'halved', 'halved often', 'irregular', 'exposure', 'pauses', 'no stamps'])
def test_a_camera_of_which_nothing_is_lost_is_left_alone(stamps):
    assert feed(stamps).lost == 0


def test_stamps_that_jump_back_start_again():
    stamps = camera(100)
    assert feed(np.concatenate([stamps] * 5)).lost == 0
    assert feed(np.concatenate([some(stamps, 0.6, seed) for seed in range(5)])).lost > 100


def image(sec=1):
    message = Image(height=2, width=2, encoding='mono8', step=2, data=bytes(4))
    message.header.stamp.sec = sec
    return message


@pytest.fixture
def subscribe(ros):
    """Return a function that subscribes in a node of its own and returns what comes, too."""
    def subscribe(compressed=False, **overrides):
        node = ros.add(Node('student', context=ros.context, parameter_overrides=[
            Parameter(name, value=value) for name, value in overrides.items()]))
        images = []
        return ImageSubscription(node, compressed, images.append), images
    return subscribe


def asks_for(subscription, reliability):
    return lambda: subscription.reliability == reliability and subscription._former is None


@pytest.mark.parametrize('compressed, kind', [(False, Image), (True, CompressedImage)])
def test_the_reliability_offered_is_asked_for(ros, subscribe, capfd, compressed, kind):
    topic = 'image/compressed' if compressed else 'image'
    subscription, images = subscribe(compressed)
    assert subscription.reliability == BEST_EFFORT and subscription.topic == f'/{topic}'
    first = ros.probe.create_publisher(kind, topic, **qos())
    message = kind()
    message.header.stamp.sec = 1
    wait_for(lambda: first.publish(message) or time.sleep(0.05)
             or asks_for(subscription, RELIABLE)())
    count = len(images)
    first.publish(message)
    wait_for(lambda: len(images) > count)
    # A second one that offers best effort alone would not be heard.
    second = ros.probe.create_publisher(kind, topic, qos(BEST_EFFORT)['qos_profile'])
    wait_for(lambda: subscription.reliability == BEST_EFFORT)
    wait_for(lambda: second.publish(message) or time.sleep(0.05)
             or asks_for(subscription, BEST_EFFORT)())
    ros.probe.destroy_publisher(second)
    wait_for(lambda: subscription.reliability == RELIABLE)
    ros.probe.destroy_publisher(first)
    wait_for(lambda: not ros.probe.count_publishers(topic))
    time.sleep(3 * image_subscription.POLL_PERIOD)
    assert subscription.reliability == RELIABLE
    said = [line for line in capfd.readouterr().err.splitlines() if 'asked for' in line]
    assert ['reliable delivery' in line for line in said] == [True, False, True]


def test_no_image_is_lost_or_doubled_when_the_reliability_changes(ros, subscribe):
    subscription, images = subscribe()
    publisher = ros.probe.create_publisher(Image, 'image', **qos(depth=100))
    wait_for(publisher.get_subscription_count)
    sec = 0
    while not (asks_for(subscription, RELIABLE)() and sec > 40):
        sec += 1
        publisher.publish(image(sec))
        wait_for(lambda: images and images[-1].header.stamp.sec == sec)
    assert [message.header.stamp.sec for message in images] == list(range(1, sec + 1))


def test_the_former_subscription_stays_until_the_new_one_has_brought_an_image(ros, subscribe):
    subscription, images = subscribe()
    former = subscription._subscription
    publisher = ros.probe.create_publisher(Image, 'image', **qos())
    wait_for(lambda: subscription.reliability == RELIABLE)
    time.sleep(3 * image_subscription.POLL_PERIOD)
    assert subscription._former is former
    for each, sec in (
            (former, 1), (subscription._subscription, 1), (subscription._subscription, 2),
            (former, 2)):
        subscription._receive(each, image(sec))
    assert [message.header.stamp.sec for message in images] == [1, 2]
    wait_for(lambda: subscription._former is None)
    ros.probe.destroy_publisher(publisher)


@pytest.mark.parametrize('value, reliability', [
    ('reliable', RELIABLE), ('best_effort', BEST_EFFORT), ('automatic', None)])
@pytest.mark.parametrize('offered', [RELIABLE, BEST_EFFORT])
def test_an_override_is_kept(ros, subscribe, value, reliability, offered):
    subscription, _ = subscribe(**{PARAMETER: value})
    ros.probe.create_publisher(Image, 'image', **qos(offered))
    wait_for(lambda: subscription._offers())
    time.sleep(3 * image_subscription.POLL_PERIOD)
    assert subscription.reliability == (reliability or offered)


def test_an_override_that_is_wrong_is_one_clear_error(subscribe):
    with pytest.raises(ParameterError, match='somewhat.*automatic, reliable, best_effort'):
        subscribe(**{PARAMETER: 'somewhat'})


def test_the_depth_can_be_overridden(ros, subscribe):
    subscription, _ = subscribe(**{'qos_overrides./image.subscription.depth': 7})
    ros.probe.create_publisher(Image, 'image', **qos())
    wait_for(lambda: subscription.reliability == RELIABLE)
    assert subscription._subscription.qos_profile.depth == 7


def test_a_student_that_does_not_look_holds_no_camera_up(ros, subscribe):
    subscription, images = subscribe()
    publisher = ros.probe.create_publisher(Image, 'image', **qos())
    wait_for(lambda: publisher.publish(image()) or time.sleep(0.05)
             or asks_for(subscription, RELIABLE)())
    looks, may_go_on = threading.Event(), threading.Event()
    subscription._on_image = lambda message: looks.set() or may_go_on.wait(60)
    publisher.publish(image())
    assert looks.wait(10)
    done = threading.Event()
    threading.Thread(target=lambda: [publisher.publish(image()) for _ in range(200)]
                     and done.set(), daemon=True).start()
    assert done.wait(20)
    may_go_on.set()


@pytest.mark.parametrize('wanted, offered, hint', [
    ('best_effort', RELIABLE, 'subscription.reliability:=automatic'),
    ('automatic', RELIABLE, 'the camera skips them'),
    ('automatic', BEST_EFFORT, 'offer reliable delivery')])
def test_lost_images_are_said_with_a_remedy(ros, subscribe, capfd, wanted, offered, hint):
    subscription, images = subscribe(**{PARAMETER: wanted})
    publisher = ros.probe.create_publisher(Image, 'image', **qos(offered))
    wanted = offered if wanted == 'automatic' else ReliabilityPolicy[wanted.upper()]
    wait_for(asks_for(subscription, wanted) if wanted == BEST_EFFORT else lambda: (
        publisher.publish(image()) or time.sleep(0.05) or asks_for(subscription, wanted)()))
    wait_for(publisher.get_subscription_count)
    for stamp in some(camera(400), 0.6):
        message = image()
        message.header.stamp.sec = int(stamp)
        message.header.stamp.nanosec = int(stamp % 1 * 1e9)
        subscription._receive(subscription._subscription, message)
    said = [line for line in capfd.readouterr().err.splitlines() if 'were lost' in line]
    assert len(said) == 1 and '/image' in said[0] and hint in said[0]
    assert subscription.images_lost > 80
    subscription.restart()
    assert subscription.images_lost == 0


def test_nothing_is_said_of_a_few_lost_images(subscribe, capfd):
    subscription, images = subscribe()
    for stamp in some(camera(400), 0.97):
        message = image(int(stamp))
        message.header.stamp.nanosec = int(stamp % 1 * 1e9)
        subscription._receive(subscription._subscription, message)
    assert 0 < subscription.images_lost < 30
    assert 'were lost' not in capfd.readouterr().err


@pytest.mark.parametrize('wanted, offered, hint', [
    ('automatic', None, 'nobody publishes there'),
    ('best_effort', RELIABLE, 'subscription.reliability:=automatic'),
    ('reliable', BEST_EFFORT, 'subscription.reliability:=automatic'),
    ('automatic', BEST_EFFORT, 'offer reliable delivery'),
    ('reliable', RELIABLE, 'has the camera stopped?')])
def test_silence_is_said_with_what_to_do(ros, subscribe, capfd, wanted, offered, hint):
    subscription, _ = subscribe(**{PARAMETER: wanted})
    if offered is not None:
        ros.probe.create_publisher(Image, 'image', **qos(offered))
        wait_for(lambda: subscription._offers())
    subscription.say_what_is_missing(7.0)
    error = capfd.readouterr().err
    assert 'no image for 7 s on /image' in error and hint in error


def test_images_of_another_type_are_said(subscribe, capfd, monkeypatch):
    # One process cannot have two types on a topic.
    subscription, _ = subscribe()
    monkeypatch.setattr(subscription, '_offers', lambda: [SimpleNamespace(
        node_namespace='/', node_name='camera', topic_type='sensor_msgs/msg/CompressedImage',
        qos_profile=qos()['qos_profile'])])
    subscription.say_what_is_missing(1.0)
    assert "set image_transport to 'raw' or 'compressed'" in capfd.readouterr().err


def test_a_publisher_that_is_not_discovered_yet_has_no_strange_name():
    offers = [SimpleNamespace(
        node_namespace=namespace, node_name=name, topic_type='sensor_msgs/msg/Image',
        qos_profile=SimpleNamespace(reliability=RELIABLE)) for namespace, name in (
            ('/robot', 'camera'), ('_NODE_NAMESPACE_UNKNOWN_', '_NODE_NAME_UNKNOWN_'))]
    assert image_subscription._names(offers) == (
        '/robot/camera (sensor_msgs/msg/Image, reliable), '
        'a node whose name is not known yet (sensor_msgs/msg/Image, reliable)')
