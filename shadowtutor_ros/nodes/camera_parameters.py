"""The parameters of the camera node."""

from shadowtutor_ros.nodes.parameters import Parameter
from shadowtutor_ros.world.scenes import LOOKS

CAMERA = (
    Parameter(
        'source', 'scene', "a video file, a folder of images, a V4L2 device ('/dev/video0'), or "
        "'scene'", read_only=True),
    Parameter(
        'rate', -1.0, "frames a second; -1: the source's own; 0: lock-step, the next frame is "
        'published when the mask of the last has come', (-1.0, 1000.0), (), True),
    Parameter('loop', False, 'start again at the end of the source', read_only=True),
    Parameter(
        'width', 0, "width of the images in pixels; 0: the source's own", (0, 7680), (), True),
    Parameter(
        'height', 0, "height of the images in pixels; 0: the source's own", (0, 7680), (), True),
    Parameter(
        'frames', 0, 'stop after this many frames; 0: at the end of the source; the scene and a '
        'camera have none', (0, 2**31 - 1), (), True),
    Parameter('frame_id', 'camera', 'frame_id in the headers', read_only=True),
    Parameter('scene.seed', 0, 'seed of the built-in scene', (0, 65535), (), True),
    Parameter(
        'scene.look', 'day', 'light and weather of the built-in scene', choices=LOOKS,
        read_only=True),
    Parameter(
        'jpeg_quality', 90, 'JPEG quality of image/compressed, which is published while somebody '
        'subscribes', (1, 100)),
)
