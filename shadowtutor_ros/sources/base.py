"""What all sources of frames have in common."""

from dataclasses import dataclass
from typing import Callable, Iterator

import cv2
import numpy as np

#: Frames a second where a source does not say.
DEFAULT_RATE = 25.0


class SourceError(ValueError):
    """A source of frames that cannot be read."""


@dataclass(frozen=True)
class Recorded:
    """
    A frame of a recording.

    :ivar time: when it was recorded, in ns since the epoch.
    :ivar stamp: of its header, in ns; ``time`` where the header has none.
    :ivar frame_id: of its header.
    :ivar decode: makes the frame, H×W×3 uint8 BGR.
    """

    time: int
    stamp: int
    frame_id: str
    decode: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Source:
    """
    Frames that can be read, from the beginning each time.

    :ivar name: for people.
    :ivar rate: frames a second, of the source itself.
    :ivar count: frames in all, as far as the source knows; None if it does not, or has no end.
    :ivar read: starts an iterator of H×W×3 uint8 BGR frames, all of one size.
    :ivar endless: whether it has no end.
    :ivar recorded: starts an iterator of the same frames as they were recorded; None where the
        source knows no more of them than their rate.
    """

    name: str
    rate: float
    count: int | None
    read: Callable[[], Iterator[np.ndarray]]
    endless: bool = False
    recorded: Callable[[], Iterator[Recorded]] | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.read()


def resize(
        frame: np.ndarray, size: tuple[int, int], enlarge: int = cv2.INTER_LINEAR) -> np.ndarray:
    """
    Bring a frame to a size, by areas where that is smaller.

    :param size: (width, height) in pixels; 0 for what the frame's aspect ratio gives.
    :param enlarge: how OpenCV enlarges.
    """
    height, width = frame.shape[:2]
    wanted_width, wanted_height = size
    wanted_width = wanted_width or (
        round(width * wanted_height / height) if wanted_height else width)
    wanted_height = wanted_height or round(height * wanted_width / width)
    if (wanted_width, wanted_height) == (width, height):
        return frame
    smaller = wanted_width <= width
    return cv2.resize(
        frame, (wanted_width, wanted_height),
        interpolation=cv2.INTER_AREA if smaller else enlarge)
