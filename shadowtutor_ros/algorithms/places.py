"""
Memory of places: what a student had become when its robot was last where it is now.

The server remembers it with the key frames of the place's past, and decides by the next key
frame's label whether it does better than what was in use since.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from shadowtutor_ros.algorithms import part
from shadowtutor_ros.algorithms.student_training import KeptKeyFrame, kept_of, kept_tensors
from shadowtutor_ros.models.student.base import checksum, Student, Weights

#: Distance of signatures up to which a key frame is of a place; docs/evaluation.md has what was
#: measured.
RADIUS = 0.09

#: Key frames that a signature is the mean of, at most: where the light or the camera moves slowly
#: a place goes along.
_MOST = 16


@torch.no_grad()
def signature(student: Student, frame: np.ndarray) -> np.ndarray:
    """
    Compute the signature of a frame: mean and deviation of each channel that is seen first.

    :param student: with the weights of the weights file.
    :param frame: H×W×3 uint8, BGR.
    :returns: float32 of length 1, whatever the frame's size; distances are 0 to 2.
    """
    device = next(student.parameters()).device
    pixels = torch.from_numpy(np.require(frame, requirements=('C', 'W'))).to(device)
    first = student.front(pixels.permute(2, 0, 1)[None].float())[0][0].flatten(1)
    seen = torch.cat([first.mean(1), first.std(1)])
    return (seen / torch.linalg.vector_norm(seen)).cpu().numpy()


@dataclass(eq=False)
class Place:
    """
    A place, and what was left there.

    :ivar signature: mean of those of its key frames.
    :ivar count: of how many, at most :data:`_MOST`.
    :ivar weights: that differ from those of the weights file, by name; empty until it was left.
    :ivar weights_checksum: of all the weights that were left.
    :ivar kept: key frames of its past, the oldest first.
    """

    signature: np.ndarray
    count: int = 0
    weights: Weights = field(default_factory=dict)
    weights_checksum: int | None = None
    kept: list[KeptKeyFrame] = field(default_factory=list)

    def distance(self, seen: np.ndarray) -> float:
        """Return the distance of a signature from this place's."""
        return float(np.linalg.norm(self.signature - seen))

    def add(self, seen: np.ndarray) -> None:
        """Count a key frame in."""
        self.count = min(self.count + 1, _MOST)
        self.signature = self.signature + (seen - self.signature) / self.count

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes."""
        return self.signature.nbytes + sum(
            one.nbytes for one in (*self.weights.values(), *self.kept))


class Places:
    """The places of a session, in the order in which they were last seen."""

    def __init__(self) -> None:
        self._places: list[Place] = []

    def __len__(self) -> int:
        return len(self._places)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that all of them take."""
        return sum(place.nbytes for place in self._places)

    @property
    def here(self) -> Place | None:
        """Return where the robot was last; None at first."""
        return self._places[-1] if self._places else None

    def has_left(self, seen: np.ndarray) -> bool:
        """Tell whether a signature is of another place than :attr:`here`."""
        return self.here is not None and self.here.distance(seen) > RADIUS

    def leave(self, weights: Weights, initial: Weights, kept: list[KeptKeyFrame]) -> None:
        """
        Keep what is in use for when the robot comes back to :attr:`here`.

        :param weights: all of them, by name.
        :param initial: likewise, of the weights file.
        :param kept: key frames for replay; the last ones are of this place.
        """
        self.here.weights = {
            name: tensor for name, tensor in weights.items()
            if not torch.equal(tensor, initial[name])}
        self.here.weights_checksum = checksum(weights)
        self.here.kept = kept[-self.here.count:]

    def enter(self, seen: np.ndarray) -> Place:
        """Return the place of a signature, which becomes :attr:`here`; a new one if none is."""
        place = self.here
        if place is None or self.has_left(seen):
            place = min(self._places, key=lambda place: place.distance(seen), default=None)
            if place is None or place.distance(seen) > RADIUS:
                place = Place(seen)
            else:
                self._places.remove(place)
            self._places.append(place)
        place.add(seen)
        return place

    def known(self, weights_checksum: int) -> Weights | None:
        """Return what was left with a checksum, as :attr:`Place.weights`; None if nothing was."""
        return next((place.weights for place in self._places
                     if place.weights_checksum == weights_checksum), None)

    def shrink(self, megabytes: float) -> None:
        """Forget the places that were seen longest ago until the rest take so many bytes."""
        while self._places and self.nbytes > 1e6 * megabytes:
            del self._places[0]

    def export(self) -> tuple[Weights, list[dict[str, Any]]]:
        """Return all places, to be kept on a disk: tensors by name, and what JSON can hold."""
        tensors, meta = {}, []
        for number, place in enumerate(self._places):
            parts = {'signature': torch.from_numpy(place.signature), **kept_tensors(place.kept),
                     **{f'weights.{name}': tensor for name, tensor in place.weights.items()}}
            tensors.update({f'{number}.{name}': tensor for name, tensor in parts.items()})
            meta.append({
                'count': place.count, 'weights_checksum': place.weights_checksum,
                'formats': [one.image[0] for one in place.kept]})
        return tensors, meta

    def restore(
            self, tensors: Weights, meta: list[dict[str, Any]], own: Weights) -> None:
        """
        Go on from what :meth:`export` has returned.

        :param own: all weights of the student, by name, of whose shapes those of places must be.
        :raises KeyError, TypeError, ValueError: if it is something else.
        """
        self._places = []
        for number, one in enumerate(meta):
            parts = part(tensors, f'{number}.')
            weights = part(parts, 'weights.')
            if any(tensor.shape != own[name].shape for name, tensor in weights.items()):
                raise ValueError(f'the weights of place {number} do not fit')
            self._places.append(Place(
                parts['signature'].numpy(), int(one['count']), weights, one['weights_checksum'],
                kept_of(parts, one['formats'])))
