"""How an update goes on a device: a pure state machine, whose state is saved at each step.

    idle → fetching → verifying → staged → loading → proving → (shadow or split) → trial → committed

and from each of them back to what was committed before, which stays the active one in the shadow and while requests are
split. Nothing here reads a clock or touches a disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from shared.documents import Document
from shared.update.assignment import Arm, Assignment, Trial
from shared.update.report import ErrorKind, InstalledRelease, Phase

SLOT_A, SLOT_B, FACTORY = "a", "b", "factory"
STATE_FORMAT = 1
MOST_FAILURES = 8
"""So many releases that failed are remembered."""
MOST_FAILED_STARTS = 3
"""After so many starts in a row that did not become ready, a committed slot is given up."""
MOST_DEATHS_LOADING = 2
"""So often may the agent die while a bundle loads, is proven or runs in the shadow; one may be a power cut."""
MOST_DEATHS_IN_TRIAL = 3
"""So often may the agent die while the bundle answers, in a trial or split, having been ready each time."""

_NEXT = {
    Phase.FETCHING: {Phase.VERIFYING},
    Phase.VERIFYING: {Phase.STAGED},
    Phase.STAGED: {Phase.LOADING},
    Phase.LOADING: {Phase.PROVING, Phase.SHADOW, Phase.SPLIT, Phase.TRIAL},
    Phase.PROVING: {Phase.SHADOW, Phase.SPLIT, Phase.TRIAL},
    Phase.SHADOW: {Phase.SPLIT, Phase.TRIAL},
    Phase.SPLIT: {Phase.SHADOW, Phase.TRIAL},
    Phase.TRIAL: {Phase.COMMITTED},
}
_AT_WORK_ON_IT = (Phase.LOADING, Phase.PROVING, Phase.SHADOW)


class Life(str, Enum):
    """How the agent's last life ended, read at the next start: in order, before it was ready, or after."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"


@dataclass(frozen=True)
class Target(Document):
    """What an assignment names for this device; see `Arm` and `Assignment`."""

    version: str
    manifest_sha256: str
    gate_digest: str
    release: int
    variant: str
    shadow_share: float
    rollout: str
    sequence: int
    floor: int
    trial: Trial
    key_share: float = 0.0

    @property
    def is_beside(self) -> bool:
        """Whether the active bundle is to stay: this one is its shadow, or answers a share of the requests."""
        return self.shadow_share > 0 or self.key_share > 0

    @property
    def content(self) -> tuple[str, str]:
        """Manifest and gate: what decides whether two are the same bundle."""
        return self.manifest_sha256, self.gate_digest

    def as_release(self, model_digest: str = "") -> InstalledRelease:
        """As it is reported; its model digest is known once its manifest is."""
        return InstalledRelease(self.version, model_digest, self.gate_digest, self.release, self.variant)

    def asks_the_same(self, other: Target | None) -> bool:
        """Whether `other` leads to the same bundle, run in the same way. Each rollout splits requests anew."""
        return other is not None and self._way == other._way

    @property
    def _way(self) -> tuple[object, ...]:
        salt = self.rollout if self.key_share > 0 else ""
        return self.content, self.variant, self.shadow_share, self.key_share, salt


def target_of(assignment: Assignment, arm: Arm) -> Target:
    """What `arm` of `assignment` asks of this device."""
    return Target(
        arm.version,
        arm.manifest_sha256,
        arm.gate_digest,
        arm.release,
        arm.variant,
        arm.shadow_share,
        assignment.rollout,
        assignment.sequence,
        assignment.floor,
        assignment.trial,
        arm.key_share,
    )


@dataclass(frozen=True)
class Installed(Document):
    """A whole, verified bundle in a slot. `is_proven`: it was committed once."""

    release: InstalledRelease
    manifest_sha256: str
    is_proven: bool = False

    @property
    def content(self) -> tuple[str, str]:
        """See `Target.content`."""
        return self.manifest_sha256, self.release.gate_digest


@dataclass(frozen=True)
class Candidate(Document):
    """What is on its way. `deaths`: how often the agent died at work on it."""

    target: Target
    slot: str
    deaths: int = 0


@dataclass(frozen=True)
class Failure(Document):
    """A bundle that is not tried again under the same decision of the same rollout."""

    content: tuple[str, str]
    rollout: str
    sequence: int
    release: InstalledRelease
    kind: ErrorKind
    reason: str
    attempts: int = 1


@dataclass(frozen=True)
class UpdateState(Document):
    """All that an update must know after a power cut. `generation` grows with each save.

    `active` is the slot that was committed last; `slots` says what lies whole in "a" and "b", and under "factory" how
    the configuration's bundle is labelled where an assignment chose it. `floor`: the highest of all committed
    assignments. `error` says why the last candidate, or the slot before, was given up. `failed_starts` counts those in
    a row, `crashes` all since the active bundle was committed.
    """

    model: str
    generation: int = 0
    phase: Phase = Phase.IDLE
    active: str = FACTORY
    slots: dict[str, Installed] = field(default_factory=dict)
    candidate: Candidate | None = None
    floor: int = 0
    rollout: str = ""
    sequence: int = 0
    failures: tuple[Failure, ...] = ()
    error: str = ""
    error_kind: ErrorKind = ErrorKind.NONE
    life: Life = Life.STOPPED
    failed_starts: int = 0
    crashes: int = 0
    format: int = STATE_FORMAT

    @property
    def running_slot(self) -> str:
        """The slot to start from: in a trial the one that is tried."""
        return self.candidate.slot if self.candidate and self.phase is Phase.TRIAL else self.active

    def failure_of(self, target: Target) -> Failure | None:
        """Why `target` is not to be tried again; None where nothing is known against it."""
        return next(
            (
                one
                for one in self.failures
                if (one.content, one.rollout, one.sequence) == (target.content, target.rollout, target.sequence)
            ),
            None,
        )


def idle_slot(state: UpdateState) -> str:
    """Where a new bundle goes: never the active slot, and of two the one that is missed least."""
    free = [slot for slot in (SLOT_A, SLOT_B) if slot != state.active]
    return min(free, key=lambda slot: _worth(state.slots.get(slot)))


def _worth(installed: Installed | None) -> tuple[bool, bool, int]:
    if installed is None:
        return False, False, 0
    return True, installed.is_proven, installed.release.release


def seen(state: UpdateState, assignment: Assignment) -> UpdateState:
    """The assignment is the one that is obeyed or refused from now on; what failed under another says nothing of it."""
    if (state.rollout, state.sequence) == (assignment.rollout, assignment.sequence):
        return state
    phase = Phase.IDLE if state.phase is Phase.ROLLED_BACK else state.phase
    return replace(
        state,
        phase=phase,
        rollout=assignment.rollout,
        sequence=assignment.sequence,
        error="",
        error_kind=ErrorKind.NONE,
    )


def settled(state: UpdateState) -> UpdateState:
    """What is asked runs already: nothing that failed before matters any more."""
    return replace(state, phase=Phase.COMMITTED, candidate=None, error="", error_kind=ErrorKind.NONE)


def relabelled(state: UpdateState, installed: Installed) -> UpdateState:
    """As `settled`, where what runs is told as `installed` from now on."""
    return replace(settled(state), slots={**state.slots, state.active: installed})


def begun(state: UpdateState, target: Target, slot: str, phase: Phase) -> UpdateState:
    """Work on `target` begins: to fetch it into `slot`, or (`Phase.STAGED`) to take it from there."""
    known = state.candidate
    is_known = known is not None and known.slot == slot and known.target.content == target.content
    deaths = known.deaths if known is not None and is_known else 0
    return replace(state, phase=phase, candidate=Candidate(target, slot, deaths), error="", error_kind=ErrorKind.NONE)


def moved(state: UpdateState, phase: Phase) -> UpdateState:
    """The next step.

    Raises:
        ValueError: no step leads from the present one to `phase`.
    """
    if phase not in _NEXT.get(state.phase, ()):
        raise ValueError(f"no step leads from {state.phase.value} to {phase.value}")
    return replace(state, phase=phase)


def emptied(state: UpdateState, slot: str) -> UpdateState:
    """What lies in `slot` is about to be removed.

    Raises:
        ValueError: it is in use.
    """
    if slot in (state.active, FACTORY) or (state.phase is Phase.TRIAL and slot == state.running_slot):
        raise ValueError(f"slot {slot} is in use")
    return replace(state, slots={name: one for name, one in state.slots.items() if name != slot})


def staged(state: UpdateState, installed: Installed) -> UpdateState:
    """The candidate lies whole and verified in its slot."""
    slot = _candidate(state).slot
    return replace(moved(state, Phase.STAGED), slots={**state.slots, slot: installed})


def committed(state: UpdateState, installed: Installed) -> UpdateState:
    """The candidate, which is `installed`, is what this device runs from now on."""
    candidate = _candidate(state)
    return replace(
        moved(state, Phase.COMMITTED),
        active=candidate.slot,
        slots={**state.slots, candidate.slot: replace(installed, is_proven=True)},
        candidate=None,
        floor=max(state.floor, candidate.target.floor),
        failed_starts=0,
        crashes=0,
    )


def abandoned(state: UpdateState, error: str = "", kind: ErrorKind = ErrorKind.NONE) -> UpdateState:
    """The candidate is let go, with nothing held against it; what was fetched stays for whoever can use it."""
    return replace(state, phase=Phase.IDLE, candidate=None, error=error, error_kind=kind)


def rolled_back(state: UpdateState, kind: ErrorKind, reason: str) -> UpdateState:
    """The candidate failed; what was committed before goes on, and this decision is not tried again."""
    target = _candidate(state).target
    failed = Failure(target.content, target.rollout, target.sequence, target.as_release(), kind, reason)
    state = _remembering(state, failed)
    return replace(state, phase=Phase.ROLLED_BACK, candidate=None, error=reason, error_kind=kind)


def started(state: UpdateState) -> UpdateState:
    """The agent starts: what ended the life before is drawn from how far it came. `running_slot` is to be loaded."""
    before, state = state.life, replace(state, life=Life.STARTING)
    if state.candidate is not None:
        state = _candidate_at_start(state, state.candidate, before)
        if state.phase in (Phase.TRIAL, Phase.ROLLED_BACK):
            return state
    if before is not Life.STARTING:
        return state
    state = replace(state, failed_starts=state.failed_starts + 1, crashes=state.crashes + 1)
    if state.failed_starts < MOST_FAILED_STARTS:
        return state
    return _fallen_back(state, f"the agent did not become ready in {state.failed_starts} starts", is_damaged=False)


def _candidate_at_start(state: UpdateState, candidate: Candidate, before: Life) -> UpdateState:
    has_died = before is Life.READY
    deaths = candidate.deaths + has_died
    counted = replace(state, candidate=replace(candidate, deaths=deaths))
    if state.phase is Phase.TRIAL:
        if before is Life.STARTING:
            return rolled_back(state, ErrorKind.TRIAL, "the agent did not become ready with it")
        if has_died and deaths >= MOST_DEATHS_IN_TRIAL:
            return rolled_back(state, ErrorKind.TRIAL, f"the agent died {deaths} times in its trial")
        return counted
    if state.phase is Phase.SPLIT and has_died and deaths >= MOST_DEATHS_IN_TRIAL:
        reason = f"the agent died {deaths} times while it answered its share of the requests"
        return rolled_back(state, ErrorKind.TRIAL, reason)
    if state.phase in _AT_WORK_ON_IT and has_died and deaths >= MOST_DEATHS_LOADING:
        reason = f"the agent died {deaths} times while it was loaded, proven or in the shadow"
        return rolled_back(state, ErrorKind.PROVING, reason)
    if state.phase in (*_AT_WORK_ON_IT, Phase.SPLIT):
        return replace(counted, phase=Phase.STAGED)
    return state if state.phase is Phase.STAGED else abandoned(state)


def survived(state: UpdateState) -> UpdateState:
    """The candidate has answered as many requests as a trial asks for: deaths before are not held against it."""
    if state.candidate is None:
        return state
    return replace(state, candidate=replace(state.candidate, deaths=0))


def ready(state: UpdateState) -> UpdateState:
    """The slot that was started answers."""
    return replace(state, life=Life.READY, failed_starts=0)


def stopped(state: UpdateState) -> UpdateState:
    """The agent ends in good order: whatever is under way is not at fault."""
    return replace(state, life=Life.STOPPED)


def could_not_start(state: UpdateState, reason: str) -> UpdateState:
    """The slot that was to be loaded is damaged, or cannot be loaded; the next `running_slot` is another, if any is."""
    if state.phase is Phase.TRIAL:
        return rolled_back(state, ErrorKind.TRIAL, reason)
    return _fallen_back(state, reason, is_damaged=True)


def _fallen_back(state: UpdateState, reason: str, *, is_damaged: bool) -> UpdateState:
    """To the other slot if it was committed once, or the factory's. What is damaged may be fetched again."""
    broken = state.slots.get(state.active)
    slots = {name: one for name, one in state.slots.items() if name != state.active}
    if broken is not None and not is_damaged:
        slots[state.active] = replace(broken, is_proven=False)
        failed = Failure(broken.content, state.rollout, state.sequence, broken.release, ErrorKind.TRIAL, reason)
        state = _remembering(state, failed)
    proven = [name for name in (SLOT_A, SLOT_B) if name != state.active and name in slots and slots[name].is_proven]
    active = proven[0] if proven else FACTORY
    return replace(
        state,
        phase=Phase.ROLLED_BACK,
        active=active,
        slots=slots,
        candidate=None,
        failed_starts=0,
        error=f"slot {state.active}: {reason}",
        error_kind=ErrorKind.TRIAL,
    )


def _remembering(state: UpdateState, failed: Failure) -> UpdateState:
    known = next((one for one in state.failures if one.content == failed.content), None)
    if known is not None:
        failed = replace(failed, attempts=known.attempts + 1)
    others = tuple(one for one in state.failures if one is not known)
    return replace(state, failures=(*others, failed)[-MOST_FAILURES:])


def _candidate(state: UpdateState) -> Candidate:
    if state.candidate is None:
        raise ValueError(f"there is no candidate in {state.phase.value}")
    return state.candidate
