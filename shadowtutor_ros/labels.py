"""
The class table: names, ids and colours of the nine classes of the LVS data set.

The ids are those of the first implementation of ShadowTutor, which maps COCO's categories onto
the eight object classes of LVS (Mullapudi et al., ICCV 2019) and calls all else background.
"""

import cv2
import numpy as np

CLASS_NAMES = (
    'person', 'bicycle', 'auto', 'bird', 'dog', 'horse', 'elephant', 'giraffe', 'background')
NUM_CLASSES = len(CLASS_NAMES)
BACKGROUND = CLASS_NAMES.index('background')

#: Pixels with this label count neither in a loss nor in a metric.
IGNORE = 255

#: Colour of each class, RGB uint8, shape (NUM_CLASSES, 3).
COLORS = np.array([
    (220, 20, 60),    # person
    (255, 200, 0),    # bicycle
    (30, 100, 255),   # auto
    (0, 210, 210),    # bird
    (255, 120, 0),    # dog
    (160, 80, 200),   # horse
    (110, 220, 60),   # elephant
    (255, 130, 190),  # giraffe
    (0, 0, 0),        # background
], dtype=np.uint8)

# Names that data sets give to what is one of our classes; what is not here is background.
_SYNONYMS = {
    'car': 'auto', 'bus': 'auto', 'truck': 'auto',
    **{name: name for name in CLASS_NAMES},
}


def class_map(names: list[str] | tuple[str, ...]) -> np.ndarray:
    """
    Map the ids of another class table onto the ids of this one.

    :param names: the other table's names in the order of its ids, e.g. a torchvision weight's
        ``meta['categories']``.
    :returns: uint8 array of shape (len(names),): ``class_map(names)[their_id]`` is our id.
    """
    return np.array(
        [CLASS_NAMES.index(_SYNONYMS.get(name, 'background')) for name in names], dtype=np.uint8)


#: COCO's 80 categories in the order that YOLO-style detectors number them.
COCO_NAMES = (
    'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat',
    'traffic light', 'fire hydrant', 'stop sign', 'parking meter', 'bench', 'bird', 'cat', 'dog',
    'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra', 'giraffe', 'backpack', 'umbrella',
    'handbag', 'tie', 'suitcase', 'frisbee', 'skis', 'snowboard', 'sports ball', 'kite',
    'baseball bat', 'baseball glove', 'skateboard', 'surfboard', 'tennis racket', 'bottle',
    'wine glass', 'cup', 'fork', 'knife', 'spoon', 'bowl', 'banana', 'apple', 'sandwich',
    'orange', 'broccoli', 'carrot', 'hot dog', 'pizza', 'donut', 'cake', 'chair', 'couch',
    'potted plant', 'bed', 'dining table', 'toilet', 'tv', 'laptop', 'mouse', 'remote',
    'keyboard', 'cell phone', 'microwave', 'oven', 'toaster', 'sink', 'refrigerator', 'book',
    'clock', 'vase', 'scissors', 'teddy bear', 'hair drier', 'toothbrush')


def colorize(mask: np.ndarray) -> np.ndarray:
    """
    Paint a mask in the colours of its classes.

    :param mask: H×W uint8 class ids, each below ``NUM_CLASSES``.
    :returns: H×W×3 uint8, RGB.
    """
    return np.take(COLORS, mask, axis=0)


def overlay(image: np.ndarray, mask: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """
    Paint a mask over the image that it belongs to; background stays as it is.

    :param image: H×W×3 uint8, RGB.
    :param mask: H×W uint8 class ids, each below ``NUM_CLASSES``.
    :param opacity: of the paint, 0 (image alone) to 1 (paint alone).
    :returns: H×W×3 uint8, RGB.
    """
    painted = cv2.addWeighted(image, 1 - opacity, colorize(mask), opacity, 0)
    np.copyto(painted, image, where=(mask == BACKGROUND)[:, :, None])
    return painted
