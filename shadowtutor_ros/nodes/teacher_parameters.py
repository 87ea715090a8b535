"""The parameters of the teacher node."""

from shadowtutor_ros.algorithms.server import ServerSettings
from shadowtutor_ros.algorithms.student_training import REPLAY_CHOICES
from shadowtutor_ros.models.student.shadow import Shadow
from shadowtutor_ros.nodes.parameters import DEVICE, Parameter, THREADS, WEIGHTS
from shadowtutor_ros.wire.encodings import ENCODINGS
from shadowtutor_ros.workers.base import Cluster

_SERVER = ServerSettings()
_CLUSTER = Cluster()

TEACHER = (
    Parameter(
        'threshold', _SERVER.threshold, 'THRESHOLD: mean IoU above which the student is good '
        'enough, so that the next key frame may wait longer', (0.01, 0.99)),
    Parameter(
        'training_target', _SERVER.training_target, 'mean IoU above which no further training '
        'step is taken; where it is below threshold, that decides, as in the paper', (0.0, 1.0)),
    Parameter(
        'max_updates', _SERVER.max_updates, 'MAX_UPDATES: training steps on one key frame, at '
        'most', (0, 1000)),
    Parameter('learning_rate', _SERVER.learning_rate, 'learning rate of Adam', (1e-6, 1.0)),
    Parameter(
        'scope', _SERVER.scope, "what is trained and sent: 'partial', the paper's part of the "
        "decoder; 'decoder', all of it; 'full', the whole student; or blocks separated by commas, "
        f"of {', '.join(Shadow.encoder + Shadow.decoder)}"),
    Parameter(
        'replay', _SERVER.replay, 'number of earlier key frames that each training step also '
        'uses', (0, 100)),
    Parameter(
        'replay_choice', _SERVER.replay_choice, "which earlier key frames are used: 'random', "
        "drawn anew at every step, or 'newest'", choices=REPLAY_CHOICES),
    Parameter(
        'replay_memory', _SERVER.replay_memory, 'number of key frames kept per robot; one of '
        '1280x720 takes 6 MB', (1, 1000)),
    Parameter(
        'replay_megabytes', _SERVER.replay_megabytes, 'memory that they may take per robot; the '
        'oldest are forgotten first', (1.0, 1e6)),
    Parameter(
        'variants', _SERVER.variants, 'number of variants of a key frame, moved, scaled and '
        'mirrored, of which each training step but the first uses one too, where training_seconds '
        'have room for max_updates steps; 0: none', (0, 100)),
    Parameter(
        'seen_classes', _SERVER.seen_classes, 'true: the student may only choose classes that '
        'occur in the key frames kept, and those of always_offered; as long as the teacher '
        'answers'),
    Parameter(
        'always_offered', list(_SERVER.always_offered) or [''], 'names of classes that the '
        "student may choose in any case, where its table has them and they were learnt; ['']: "
        'none'),
    Parameter(
        'object_weight', _SERVER.object_weight, 'weight of the loss inside the boxes of objects; '
        '1 elsewhere', (1.0, 100.0)),
    Parameter(
        'share', _SERVER.share, 'share of the weights in scope that a key frame changes, those '
        'that matter most to it, and that is sent; more where that loses what was gained; 1: '
        'all', (0.0001, 1.0)),
    Parameter(
        'encoding', _SERVER.encoding, "how weights are sent: 'fp32' and 'fp16' as values; 'int8' "
        "and 'int4' as compressed differences",
        choices=tuple(ENCODINGS)),
    Parameter(
        'training_seconds', _SERVER.training_seconds, 'seconds after which no further training '
        'step is taken on a key frame, once one has helped; 0: MAX_UPDATES alone decides',
        (0.0, 600.0)),
    Parameter(
        'places_megabytes', _SERVER.places_megabytes, 'memory per robot for what its student was '
        'at the places that it has left; those seen longest ago are forgotten first; 0: none is '
        'remembered', (0.0, 1e6)),
    Parameter(
        'teacher', 'maskrcnn_resnet50_fpn', 'a torchvision network, the path of an ONNX file, '
        "'hf:<id or folder>' of Hugging Face transformers, 'scene', or 'package.module:Class'",
        read_only=True),
    Parameter(
        'score_threshold', -1.0, 'instances count that the teacher is surer of, 0 to 1; -1: its '
        'own threshold', (-1.0, 1.0), (), True),
    Parameter(
        'mask_threshold', -1.0, 'of prompted teachers that give masks: pixels belong to an object '
        'that are more probable, between 0 and 1; -1: 0.5', (-1.0, 1.0), (), True),
    Parameter(
        'teacher_weights', 'DEFAULT', "file with the teacher's weights; 'DEFAULT': torchvision "
        'downloads its own',
        read_only=True),
    Parameter(
        'teacher_batch', _CLUSTER.batch, 'key frames of different robots that the teacher labels '
        'in one pass of its network, at most, where that can and they wait; 1: each by itself',
        (1, 64), (), True),
    Parameter(
        'workers', 'local', "who labels and trains: 'local', this process; 'ray', actors on the "
        'Ray cluster of the environment variable RAY_ADDRESS, or else on one that is made of this '
        'machine', read_only=True, choices=('local', 'ray')),
    Parameter(
        'teachers', _CLUSTER.teachers, "of workers 'ray': networks that label at the same time",
        (1, 1000), (), True),
    Parameter(
        'teacher_gpus', _CLUSTER.teacher_gpus, "of workers 'ray': GPUs for each of these "
        'networks, or the share of one; a cluster without GPUs works on its CPUs', (0.0, 64.0), (),
        True),
    Parameter(
        'session_gpus', _CLUSTER.session_gpus, "of workers 'ray': likewise for each robot's "
        'session, which trains its student', (0.0, 64.0), (), True),
    DEVICE,
    THREADS,
    WEIGHTS,
    Parameter(
        'status_period', 1.0, 'seconds between messages on ~/status and /diagnostics',
        (0.1, 60.0), (), True),
    Parameter(
        'robots', ['auto'], 'namespaces of the robots whose key frames are answered, such as '
        "['/robot1', '/robot2']; '/fleet/*' stands for all that are or come there, 'auto' for all "
        "on the network, '' for the namespace of this node", read_only=True),
    Parameter(
        'max_robots', 16, "robots that are served at most, of those that 'auto' or a pattern "
        'finds; each takes replay_megabytes, places_megabytes and 10 MB', (1, 1000)),
    Parameter(
        'state_folder', '~/.ros/shadowtutor', 'folder in which the sessions of robots are kept, '
        "so that a teacher that is started again goes on where it was; '': none",
        read_only=True),
    Parameter(
        'save_period', 60.0, 'seconds from one time that a session is saved to the next, while it '
        'changes', (1.0, 86400.0)),
)
