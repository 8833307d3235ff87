"""Plans, releases and devices' reports for tests of rollouts."""

from __future__ import annotations

from cloud_service.rollout.plan import Fallback, Plan, Release, Stage
from shared.update.assignment import Assignment
from shared.update.labels import NO_LABELS, Labels
from shared.update.report import ErrorKind, InstalledRelease, Phase, TrialFigures, UpdateReport

MODEL = "intents"
OLD = Release("1", "1" * 64, "a" * 64, 1)
NEW = Release("2", "2" * 64, "b" * 64, 2)
NOW_S = 1_800_000_000


def a_plan(*stages: Stage, **others: object) -> Plan:
    """From `OLD` to `NEW` through these stages, the rings "canary" and "stable" where none are given."""
    chosen = stages or (Stage("canary"), Stage("stable"))
    fallbacks = tuple(Fallback(ring, OLD) for ring in dict.fromkeys(stage.ring for stage in chosen))
    told: dict[str, object] = {"fallbacks": fallbacks, "soak_s": 60, **others}
    return Plan(MODEL, NEW, chosen, **told)  # type: ignore[arg-type]


def installed(release: Release) -> InstalledRelease:
    """The release as a device says that it runs it."""
    return InstalledRelease(release.version, "d" * 64, release.gate_digest, release.release)


def a_report(
    device_id: str,
    rollout: str = "",
    *,
    ring: str = "canary",
    active: Release = OLD,
    phase: Phase = Phase.IDLE,
    error_kind: ErrorKind = ErrorKind.NONE,
    sequence: int = 1,
    crashes: int = 0,
    trial: TrialFigures | None = None,
    hardware: str = "cpu",
    labels: Labels = NO_LABELS,
) -> UpdateReport:
    """A device's word; by default it runs `OLD` and does nothing."""
    return UpdateReport(
        device_id,
        "boot-1",
        sequence,
        0,
        MODEL,
        ring,
        hardware,
        "0.1.0",
        phase,
        "a",
        installed(active),
        rollout=rollout,
        error=f"it is {error_kind.value}" if error_kind.value else "",
        error_kind=error_kind,
        crashes=crashes,
        trial=trial or TrialFigures(),
        labels=dict(labels),
    )


def committed(device_id: str, rollout: str, ring: str = "canary") -> UpdateReport:
    """It took `NEW`."""
    return a_report(device_id, rollout, ring=ring, active=NEW, phase=Phase.COMMITTED)


def broken(
    device_id: str, rollout: str, ring: str = "canary", kind: ErrorKind = ErrorKind.PROVING, crashes: int = 0
) -> UpdateReport:
    """It could not take `NEW`, and runs `OLD`."""
    return a_report(device_id, rollout, ring=ring, phase=Phase.ROLLED_BACK, error_kind=kind, crashes=crashes)


def release_for(assignment: Assignment, device_id: str, labels: Labels = NO_LABELS) -> str:
    """The version that a device is told to run; "" where it is told nothing."""
    arm = assignment.arm_of(device_id, labels)
    return arm.version if arm else ""
