"""The parameters of the camera node."""

from shadowtutor_ros.nodes.parameters import Parameter
from shadowtutor_ros.world.scenes import LOOKS

CAMERA = (
    Parameter(
        'source', 'scene', 'a video file, a folder of images, a bag (a folder, an .mcap or a .db3 '
        "file; with ':/topic' behind it where several of its topics have images), a V4L2 device "
        "('/dev/video0'), or 'scene'", read_only=True),
    Parameter(
        'rate', -1.0, "frames a second; -1: the source's own, of a bag the pace at which it was "
        'recorded; 0: lock-step, the next frame is published when the mask of the last has come',
        (-1.0, 1000.0), (), True),
    Parameter(
        'wait_matching_subscriptions', 1, 'lock-step begins once so many subscribe to the images: '
        'the student, and who else must miss none, as one that records', (1, 1000), (), True),
    Parameter('loop', False, 'start again at the end of the source', read_only=True),
    Parameter(
        'width', 0, "width of the images in pixels; 0: the source's own", (0, 7680), (), True),
    Parameter(
        'height', 0, "height of the images in pixels; 0: the source's own", (0, 7680), (), True),
    Parameter(
        'frames', 0, 'stop after this many frames; 0: at the end of the source; the scene and a '
        'camera have none', (0, 2**31 - 1), (), True),
    Parameter(
        'headers', 'recorded', "'recorded': the images of a bag keep their stamps and frame_id, "
        "as with ros2 bag play; 'new': they get stamps of now and the parameter frame_id, as all "
        'others do', choices=('recorded', 'new'), read_only=True),
    Parameter(
        'clock', 0.0, 'times a second that the time at which a bag was recorded is published on '
        '/clock, besides with each image, for nodes with use_sim_time; 0: never', (0.0, 1000.0),
        (), True),
    Parameter('frame_id', 'camera', 'frame_id in the headers', read_only=True),
    Parameter('scene.seed', 0, 'seed of the built-in scene', (0, 65535), (), True),
    Parameter(
        'scene.look', 'day', 'light and weather of the built-in scene', choices=LOOKS,
        read_only=True),
    Parameter(
        'jpeg_quality', 90, 'JPEG quality of image/compressed, which is published while somebody '
        'subscribes', (1, 100)),
)
