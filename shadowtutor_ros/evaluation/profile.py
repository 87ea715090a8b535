"""Profiles: what inference, training and the network of a deployment take."""

from dataclasses import asdict, dataclass, field, fields, replace
import json
import math
from pathlib import Path

from shadowtutor_ros.algorithms.analytic_model import Costs

#: Profiles that ship with the package, by name.
PROFILES = Path(__file__).with_name('profiles')


class ProfileError(ValueError):
    """What is wrong with a profile, in one line."""


@dataclass(frozen=True)
class Link:
    """
    A network between robot and workstation.

    :ivar bandwidth_up: bits a second from the robot to the workstation, above 0.
    :ivar bandwidth_down: bits a second back, above 0.
    :ivar latency: seconds a message takes one way, besides its bytes, at least 0.
    :ivar loss: share of whole messages that are lost, 0 to 1.
    :raises ProfileError: if one is out of its range.
    """

    bandwidth_up: float
    bandwidth_down: float
    latency: float = 0.0
    loss: float = 0.0

    def __post_init__(self):
        for name in ('bandwidth_up', 'bandwidth_down'):
            _check(name, getattr(self, name), above=True)
        _check('latency', self.latency)
        _check('loss', self.loss, most=1)

    def time_up(self, size: float) -> float:
        """Return the seconds that a message of ``size`` bytes takes to the workstation."""
        return self.latency + 8 * size / self.bandwidth_up

    def time_down(self, size: float) -> float:
        """Return the seconds that a message of ``size`` bytes takes to the robot."""
        return self.latency + 8 * size / self.bandwidth_down

    @staticmethod
    def describe(up: float, down: float) -> str:
        """Write two bandwidths in Mbit/s, as one where they are equal."""
        return f'{up:g} Mbit/s' if up == down else f'{up:g}/{down:g} Mbit/s'

    def scaled(self, factor: float) -> 'Link':
        """Return the link with both bandwidths times ``factor``."""
        return replace(
            self, bandwidth_up=self.bandwidth_up * factor,
            bandwidth_down=self.bandwidth_down * factor)


@dataclass(frozen=True)
class Profile:
    """
    What things take in a deployment; the names are the paper's.

    :ivar name: for tables and plots.
    :ivar t_si: seconds of the student's inference of one frame, above 0.
    :ivar t_sd: seconds of one training step, at least 0.
    :ivar t_ti: seconds of the teacher's inference of one frame, at least 0.
    :ivar link: the network.
    :ivar key_frame_bytes: of a key frame, up, above 0.
    :ivar update_bytes: of an update, down, at least 0.
    :ivar derivation: where each value comes from, by its name.
    :ivar t_sd_full: seconds of one training step of the whole student; None: as ``t_sd``.
    :raises ProfileError: if a value is out of its range.
    """

    name: str
    t_si: float
    t_sd: float
    t_ti: float
    link: Link
    key_frame_bytes: float
    update_bytes: float
    derivation: dict[str, str] = field(default_factory=dict)
    t_sd_full: float | None = None

    def __post_init__(self):
        for name in ('t_si', 'key_frame_bytes'):
            _check(name, getattr(self, name), above=True)
        for name in ('t_sd', 't_ti', 'update_bytes'):
            _check(name, getattr(self, name))
        if self.t_sd_full is not None:
            _check('t_sd_full', self.t_sd_full)

    def step_seconds(self, scope: str) -> float:
        """Return the seconds that a training step takes: 'full' may have a time of its own."""
        return self.t_sd_full if scope == 'full' and self.t_sd_full is not None else self.t_sd

    @property
    def costs(self) -> Costs:
        """What the analytic model asks for."""
        return Costs(
            self.t_si, self.t_sd, self.t_ti,
            t_net=self.link.time_up(self.key_frame_bytes) + self.link.time_down(self.update_bytes),
            s_net=self.key_frame_bytes + self.update_bytes)

    def save(self, path: str | Path) -> None:
        """Write the profile as JSON, for :func:`load_profile`."""
        Path(path).write_text(json.dumps(asdict(self), indent=2) + '\n')


def load_profile(name_or_path: str | Path) -> Profile:
    """
    Load a profile.

    :param name_or_path: of one that ships with the package ('paper'), or a JSON file such as
        :meth:`Profile.save` writes.
    :raises ProfileError: if there is none, or something is wrong with it.
    """
    shipped = sorted(path.stem for path in PROFILES.glob('*.json'))
    path = PROFILES / f'{name_or_path}.json' if name_or_path in shipped else Path(name_or_path)
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise ProfileError(
            f"profile '{name_or_path}' cannot be read ({error.strerror}): give "
            f"{' or '.join(shipped)}, or the path of a JSON file") from None
    except ValueError as error:
        raise ProfileError(
            f"profile '{path}' is not JSON ({error}): see {PROFILES / 'paper.json'}") from None
    try:
        _check_fields(Profile, values, 'profile')
        _check_fields(Link, values['link'], 'link')
        return Profile(**{**values, 'link': Link(**values['link'])})
    except ProfileError as error:
        raise ProfileError(f"profile '{path}': {error}") from None


def _check_fields(kind: type, values: object, what: str) -> None:
    """Raise ProfileError unless a JSON object holds the fields of a data class and no others."""
    if not isinstance(values, dict):
        raise ProfileError(
            f'the {what} is {json.dumps(values)[:40]}: give an object, as {PROFILES}/paper.json')
    names = [item.name for item in fields(kind)]
    optional = 'latency', 'loss', 'derivation', 't_sd_full'
    missing = [name for name in names if name not in values and name not in optional]
    unknown = [name for name in values if name not in names]
    if missing or unknown:
        raise ProfileError(
            f"the {what} {'lacks' if missing else 'has an unknown'} '{(missing or unknown)[0]}': "
            f"it holds {', '.join(names)}")


def _check(name: str, value: object, *, above: bool = False, most: float = math.inf) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and 0 <= value <= most and value < math.inf and not (above and value == 0):
        return
    wanted = 'above 0' if above else '0 or above' if most == math.inf else f'from 0 to {most}'
    raise ProfileError(f'{name} is {value!r}: give a finite number, {wanted}')
