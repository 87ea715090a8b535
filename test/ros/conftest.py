"""Fixtures for tests with real nodes over DDS."""

import os
import threading

import domains
from helpers import wait_for
import numpy as np
import pytest
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
import torch

from shadowtutor_ros.models.student.shadow import Shadow
from shadowtutor_ros.nodes.running import Finished, qos


class Ros:
    """Nodes of one test, spun in a thread, in a DDS domain that no other test has."""

    def __init__(self):
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        self.context = rclpy.Context()
        rclpy.init(context=self.context, args=[], domain_id=domains.draw())
        self.executor = SingleThreadedExecutor(context=self.context)
        self.nodes = []
        self.probe = self.add(Node('probe', context=self.context))
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self):
        while True:
            try:
                return self.executor.spin()
            except ExternalShutdownException:
                return
            except Finished:  # ends a process; here other nodes share it
                continue

    def add(self, node):
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def start(self, kind, remap=(), **parameters):
        """Start a node of the package; ``__`` in a name stands for a dot."""
        overrides = [
            Parameter(name.replace('__', '.'), value=value) for name, value in parameters.items()]
        rules = ['--ros-args', *(word for rule in remap for word in ('-r', rule))]
        return self.add(kind(
            context=self.context, cli_args=rules, parameter_overrides=overrides))

    def stop(self, node):
        self.executor.remove_node(node)
        self.nodes.remove(node)
        node.destroy_node()

    def collect(self, kind, topic, depth=100):
        """Subscribe and return the list that the messages will be in."""
        messages = []
        self.probe.create_subscription(kind, topic, messages.append, **qos(depth=depth))
        return messages

    def publisher(self, kind, topic, subscribers=1):
        """Return a publisher that has found its subscribers."""
        publisher = self.probe.create_publisher(kind, topic, **qos())
        wait_for(lambda: publisher.get_subscription_count() >= subscribers)
        return publisher

    def close(self):
        self.executor.shutdown()
        self._thread.join()
        for node in self.nodes:
            node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def ros(tmp_path, monkeypatch):
    """Return the nodes of the test."""
    # Each test has a home of its own, in which nothing is to go on from.
    monkeypatch.setenv('ROS_HOME', str(tmp_path / 'ros'))
    nodes = Ros()
    yield nodes
    nodes.close()


@pytest.fixture(scope='session')
def weights(tmp_path_factory):
    """Return the path of a small set of weights that anybody can make: random ones."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'student.safetensors'
    Shadow().save(path)
    return str(path)


@pytest.fixture
def frame():
    """Return a frame of 64x96 that is not uniform."""
    return np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
