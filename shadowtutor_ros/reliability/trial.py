"""A fault tried: undisturbed, disturbed, restored, and what was seen meanwhile."""

from contextlib import closing
from dataclasses import dataclass, field
import time

from shadowtutor_ros.nodes.processes import ProcessError
from shadowtutor_ros.reliability.faults import Fault
from shadowtutor_ros.reliability.ledger import Ledger
from shadowtutor_ros.reliability.rig import Rig

#: What is asked for: share of the undisturbed masks, and key frames until adaptation is back.
MASKS_KEPT, KEY_FRAMES = 0.95, 2

#: Bytes of updates that a key frame may cost at most, in the mean over a fault.
UPDATE_BYTES = 250_000

#: Seconds of undisturbed running at least, and answers in it.
_UNDISTURBED, _ANSWERS = 3.0, 2

#: Seconds in which a mask comes.
_MASK_TIMEOUT = 2.0


@dataclass
class Result:
    """
    What a fault did.

    :ivar name, text: of the fault.
    :ivar undisturbed: share of images with a mask before the fault.
    :ivar masks_kept: the same from the fault until adaptation was back, as a share of that;
        None where no images came.
    :ivar key_frames: key frames until adaptation was back; None if it never was.
    :ivar seconds: from the restoration until then.
    :ivar bytes_up, bytes_down: payload from the fault until then.
    :ivar lost: key frames given up.
    :ivar rejected: updates by the reason of their rejection.
    :ivar wrong: what went wrong, a line each.
    :ivar skipped: why the fault was not tried.
    """

    name: str
    text: str
    undisturbed: float | None = None
    masks_kept: float | None = None
    key_frames: int | None = None
    seconds: float | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    lost: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    skipped: str = ''

    @property
    def failed(self) -> bool:
        """Whether something went wrong."""
        return bool(self.wrong)


def try_fault(fault: Fault, rig: Rig) -> Result:
    """Try a fault; what goes wrong is in the result."""
    result = Result(fault.name, fault.text)
    try:
        _try(fault, rig, result)
    except ProcessError as error:
        result.wrong.append(str(error))
    result.wrong += rig.complaints()
    return result


def _try(fault: Fault, rig: Rig, result: Result) -> None:
    ledger = rig.camera.ledger
    undisturbed = rig.mark()
    rig.wait(lambda: ledger.last.applied >= undisturbed.applied + _ANSWERS
             and ledger.last.time > undisturbed.time + _UNDISTURBED, 'the first answers')
    disturbed = rig.mark()
    with closing(fault.inject(rig)) as steps:
        lasting = next(steps)
        injected = rig.mark()
        if lasting is None:
            rig.wait(lambda: ledger.ended.time >= disturbed.time, 'a new session')
        elif callable(lasting):
            rig.wait(lasting, 'the fault to happen')
        else:
            time.sleep(max(0.0, injected.time + lasting - time.monotonic()))
        ended = rig.mark()
        next(steps, None)
    restored = ledger.ended if lasting is None else rig.mark()
    try:
        rig.wait(lambda: ledger.first_answered(restored) is not None, 'an answer after the fault')
    except ProcessError as error:
        result.wrong.append(str(error))
    back = ledger.first_answered(restored) or ledger.last
    if not result.wrong:
        result.seconds = back.time - restored.time
        result.key_frames = back.answered - restored.key_frames
        if fault.goes_on:
            result.key_frames = max(result.key_frames, ledger.longest_gap(disturbed, ended))
        if result.key_frames > KEY_FRAMES:
            result.wrong.append(f'it took {result.key_frames} key frames, {KEY_FRAMES} at most '
                                'are wanted')
    result.bytes_up = back.bytes_up - disturbed.bytes_up
    result.bytes_down = back.bytes_down - disturbed.bytes_down
    sent = max(1, back.key_frames - disturbed.key_frames)
    if result.bytes_down > UPDATE_BYTES * sent:
        result.wrong.append(
            f'{result.bytes_down / 1e3:,.0f} kB of updates came for {sent} key frames, '
            f'{UPDATE_BYTES / 1e3:.0f} kB each at most are wanted')
    result.lost = back.lost - disturbed.lost
    result.rejected = dict(back.rejected - disturbed.rejected)
    _count_masks(ledger, undisturbed.time, disturbed.time, back.time, result)


def _count_masks(
        ledger: Ledger, undisturbed: float, disturbed: float, back: float, result: Result
) -> None:
    """Compare the masks from ``disturbed`` to ``back`` with those of the time before."""
    end = time.monotonic() + _MASK_TIMEOUT
    while time.monotonic() < end and len(set(ledger.masks(disturbed, back))) > 1:
        time.sleep(0.05)
    images_before, masks_before = ledger.masks(undisturbed, disturbed)
    images, masks = ledger.masks(disturbed, back)
    if not images or not masks_before:
        result.wrong.append(f'{images} images and, undisturbed, {masks_before} masks')
        return
    result.undisturbed = masks_before / images_before
    result.masks_kept = min(1.0, masks / images / result.undisturbed)
    if result.undisturbed < MASKS_KEPT:
        result.wrong.append(f'undisturbed, {masks_before} of {images_before} images had a mask')
    if result.masks_kept < MASKS_KEPT:
        result.wrong.append(f'{masks} of {images} images had a mask, undisturbed {masks_before} '
                            f'of {images_before}: {MASKS_KEPT:.0%} of it are wanted')
