"""A teacher whose work is done on a Ray cluster of several machines, one of which dies."""

import os
from pathlib import Path
import sys
import time

from helpers import wait_for
import pytest
from std_msgs.msg import Header

from shadowtutor_ros.models.student.base import Student
from shadowtutor_ros.msg import KeyFrame, WeightUpdate
from shadowtutor_ros.nodes.messages import key_frame_to_message
from shadowtutor_ros.nodes.teacher_node import TeacherNode
from shadowtutor_ros.wire import key_frame as wire
from shadowtutor_ros.wire.weight_update import Status
from shadowtutor_ros.workers.base import WorkersError
from shadowtutor_ros.world.scenes import Scene

NAMES = '/a', '/b', '/c'

#: Seconds after which a robot does not wait for an answer any more, as ``update_timeout``.
TIMEOUT = 5.0


def start(ros, weights, **parameters):
    return ros.start(TeacherNode, weights=weights, teacher='scene', workers='ray', device='cpu',
                     robots=list(NAMES), max_updates=1, **parameters)


def test_without_ray_there_is_one_clear_error(ros, weights, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(WorkersError, match="pip install 'ray") as raised:
        start(ros, weights)
    assert '\n' not in str(raised.value)


def test_without_a_cluster_there_is_one_clear_error(ros, weights, monkeypatch):
    pytest.importorskip('ray', reason='ray is not installed')
    monkeypatch.setenv('RAY_ADDRESS', 'nowhere')
    with pytest.raises(WorkersError, match='RAY_ADDRESS=nowhere.*ray start') as raised:
        start(ros, weights)
    assert '\n' not in str(raised.value)


@pytest.fixture
def cluster(monkeypatch):
    """Return a cluster of three machines that are processes of this one."""
    pytest.importorskip('ray', reason='ray is not installed')
    from ray.cluster_utils import Cluster
    # What the machines have to find is what this process finds.
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(
        [str(Path(__file__).parent), os.environ.get('PYTHONPATH', '')]))
    monkeypatch.setenv('RAY_USAGE_STATS_ENABLED', '0')
    # No process that may be of use later: this is one machine, of two cores at times.
    monkeypatch.setenv('RAY_prestart_worker_first_driver', '0')
    monkeypatch.setenv('RAY_enable_worker_prestart', '0')
    options = {'num_cpus': 1, 'object_store_memory': 100 * 2 ** 20}
    cluster = Cluster(
        initialize_head=True, head_node_args={**options, 'include_dashboard': False})
    for _ in range(2):
        cluster.add_node(**options)
    monkeypatch.setenv('RAY_ADDRESS', cluster.address)
    yield cluster
    import ray
    wait_for(lambda: not ray.is_initialized())  # the node has left it
    cluster.shutdown()


class Robot:
    """Sends key frames, one at a time; one that is not answered in time is lost."""

    def __init__(self, ros, student, name, seed):
        self._student, self._scene = student, Scene(seed, 'day', 160, 90)
        self.updates = ros.collect(WeightUpdate, f'{name}/weight_updates')
        self._publisher = ros.publisher(KeyFrame, f'{name}/key_frames')
        self.number, self.lost, self.sent = 0, 0, 0.0

    def send(self):
        """Send the next key frame, unless one is awaited."""
        awaits = self.number > 0 and not self.answered
        if awaits and time.monotonic() - self.sent < TIMEOUT:
            return
        self.lost += awaits
        self.number, self.sent = self.number + 1, time.monotonic()
        checksum = self._student.weights_checksum()
        self._publisher.publish(key_frame_to_message(
            wire.KeyFrame(7, self.number, self.number, self._student.model_id, checksum, 0,
                          checksum, self._scene.render(8 * self.number).image, useful_seconds=60.),
            Header(), 'png', 90, 0))

    @property
    def answered(self):
        return bool(self.updates) and self.updates[-1].key_frame_number == self.number


def machine_of(actor):
    import ray
    return ray.get(actor.__ray_call__.remote(
        lambda self: ray.get_runtime_context().get_node_id()))


def test_updates_go_on_after_a_machine_has_died(cluster, ros, weights, capsys):
    node = start(ros, weights, save_period=1.0)
    student = Student.load(weights)
    robots = [Robot(ros, student, name, seed) for seed, name in enumerate(NAMES)]
    ids = [robot.teacher_id for robot in node._robots]
    for _ in range(3):
        for robot in robots:
            robot.send()
        wait_for(lambda: all(robot.answered for robot in robots), 300)
    assert all(message.status == Status.DONE for robot in robots for message in robot.updates)
    taken = [robot.record.memory_bytes for robot in node._robots]

    def kept(number):
        return all(one[1]['session']['last_number'] >= number for one in map(kept_of, ids) if one)

    def kept_of(robot):
        import ray
        references = node._workers._kept[robot]
        return ray.get(references[0]) if references else (None, {'session': {'last_number': 0}})

    wait_for(lambda: kept(3))
    machines = [machine_of(node._workers._sessions[robot]) for robot in ids]
    victim = next(one for one in cluster.worker_nodes if one.node_id in machines)
    hit = [robot for robot, machine in zip(robots, machines) if machine == victim.node_id]
    for robot in robots:
        robot.send()
    before = {robot: robot.number for robot in robots}
    died = time.monotonic()
    cluster.remove_node(victim, allow_graceful=False)
    back: dict = {}

    def all_are_back():
        for robot in robots:
            # To what was on its way when the machine died, repeated by Ray, or to what came after.
            if any(update.key_frame_number >= before[robot] for update in robot.updates):
                back.setdefault(robot, time.monotonic() - died)
            else:
                robot.send()
        return len(back) == len(robots)

    wait_for(all_are_back, 600)
    with capsys.disabled():
        for robot in robots:
            print(f'\n{"hit" if robot in hit else "not hit"}: next update after {back[robot]:.1f} '
                  f's, {robot.lost} key frames not answered within {TIMEOUT:g} s', end='')
    assert {message.status for robot in robots for message in robot.updates} == {Status.DONE}
    # The sessions are those that were: what they had remembered is remembered.
    for record, memory in zip((robot.record for robot in node._robots), taken):
        assert record.memory_bytes > memory
    after = [machine_of(node._workers._sessions[robot]) for robot in ids]
    assert victim.node_id not in after
