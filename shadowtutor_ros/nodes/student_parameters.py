"""The parameters of the student node."""

from shadowtutor_ros.algorithms.client import (
    ClientSettings, LATE_UPDATE, LONGEST_TIMEOUT, PATIENCE)
from shadowtutor_ros.models.student.inference import PRECISIONS
from shadowtutor_ros.nodes.parameters import DEVICE, Parameter, THREADS, WEIGHTS
from shadowtutor_ros.wire.key_frame import DEFAULT_FORMAT, DEFAULT_QUALITY, FORMATS

_CLIENT = ClientSettings()

STUDENT = (
    Parameter(
        'min_stride', _CLIENT.min_stride, 'MIN_STRIDE: smallest number of frames, of stride_rate '
        'a second, from one key frame to the next', (1, 10000)),
    Parameter(
        'max_stride', _CLIENT.max_stride, 'MAX_STRIDE: largest number of frames, of stride_rate a '
        'second, from one key frame to the next', (1, 10000)),
    Parameter(
        'late_update', _CLIENT.late_update, 'what to do if the update has not arrived min_stride '
        "frames after its key frame: 'continue' with the current weights, or 'wait' for it, as in "
        'the paper',
        choices=LATE_UPDATE),
    Parameter(
        'update_timeout', _CLIENT.update_timeout, 'seconds after which an update counts as lost; '
        "late_update 'wait' waits no longer. For a teacher that is known to need longer it is up "
        f'to {PATIENCE} times as long', (0.1, LONGEST_TIMEOUT)),
    Parameter(
        'stride_rate', _CLIENT.stride_rate, 'above 0: strides count time, at this many frames '
        "a second, whatever the camera's rate; 0: they count frames", (0.0, 1000.0)),
    Parameter(
        'drift', _CLIENT.drift, 'change of the scene since the last key frame above which the '
        'next one is sent early; no change is 0, another scene about 1. Set to 0: never',
        (0.0, 10.0)),
    Parameter(
        'still', _CLIENT.still, 'change of the scene below which it counts as still; if the '
        'student is good enough, the next key frame then waits for still_stride, or for whoever '
        'enters (0.5 % of the frame, for half a second); 0: never, and nobody looks for them',
        (0.0, 10.0)),
    Parameter(
        'still_stride', _CLIENT.still_stride, 'frames, of stride_rate a second, between the key '
        'frames of a still scene', (1, 1000000)),
    Parameter(
        'recall', _CLIENT.recall, 'true: where drift shows a place that the robot has been to, '
        'what it ran there is run at once; false: the next update brings it'),
    Parameter(
        'classes', [''], "what is to be seen, such as ['forklift', 'pallet', 'auto: car, bus']: "
        'background is 0, and these are 1, 2, … in the masks; a teacher that knows them has to '
        "answer first. ['']: those of classes_file, else of the weights"),
    Parameter(
        'classes_file', '', "instead of classes: a YAML file of names, ids and colours, or 'lvs' "
        "or 'coco'"),
    Parameter(
        'image_transport', 'raw', "'raw' subscribes to image, 'compressed' to image/compressed",
        choices=('raw', 'compressed'), read_only=True),
    Parameter('key_frame.format', DEFAULT_FORMAT, 'image format of key frames', choices=FORMATS),
    Parameter(
        'key_frame.quality', DEFAULT_QUALITY, 'quality of JPEG and WebP key frames', (1, 100)),
    Parameter(
        'key_frame.max_width', 0, 'largest width of key frames in pixels; wider ones are scaled '
        'down; 0: no limit', (0, 7680)),
    Parameter(
        'inference.precision', 'exact', "'exact': float32; 'fast': half precision where the "
        'device is faster with it', choices=PRECISIONS, read_only=True),
    Parameter(
        'inference.width', 0, 'largest width for inference in pixels; wider frames are scaled '
        'down; 0: no limit', (0, 7680)),
    Parameter(
        'mask_size', 'camera', "'camera': masks are as large as the images; 'inference': as large "
        'as what was inferred, where inference.width makes that smaller, which saves time and '
        'bandwidth; segmentation/camera_info is scaled with them',
        choices=('camera', 'inference')),
    DEVICE,
    THREADS,
    WEIGHTS,
    Parameter(
        'resume', False, 'true: the weights that are run are kept in state_folder, with their '
        'classes, and the node goes on with them when it is started again, where it has the same '
        'weights file', read_only=True),
    Parameter(
        'state_folder', '~/.ros/shadowtutor', 'folder in which weights are kept for resume, and '
        "which ~/save_weights writes to; each node has files of its own there; '': none",
        read_only=True),
    Parameter(
        'save_period', 60.0, 'seconds from one time that the weights are kept to the next, while '
        'they change', (1.0, 86400.0)),
    Parameter(
        'overlay_opacity', 0.5, 'opacity of the colours on segmentation/overlay; 0: image alone, '
        '1: colours alone', (0.0, 1.0)),
    Parameter('status_period', 1.0, 'seconds between messages on ~/status', (0.1, 60.0), (), True),
)
