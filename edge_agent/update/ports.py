"""What the updater needs of the rest: where files come from, whom it believes, and who runs the models."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import anyio

from shared.bundle.manifest import Manifest
from shared.update.assignment import Arm, Assignment, Trial
from shared.update.report import InstalledRelease, TrialFigures

T = TypeVar("T")
_CLOSE_PATIENCE_S = 1.0


class RepositorySource(Protocol):
    """Where the repository's files come from, over MQTT or HTTP. Believes nothing and is not to be believed."""

    def read(self, path: str, *, most_bytes: int) -> AsyncIterator[bytes]:
        """The whole file, piece by piece.

        Raises:
            FileNotThere: the repository has no such file.
            FetchFailed: it cannot be reached, answers too slowly, or sends more than `most_bytes`.
        """
        ...

    def read_many(self, paths: Sequence[str], *, most_bytes: int) -> AsyncIterator[tuple[str, bytes]]:
        """Many small files, each whole and no longer than `most_bytes`, in whatever order they come.

        Never holds more than a bounded window of them. Raises as `read` does; what was yielded before stands.
        """
        ...

    @property
    def bytes_received(self) -> int:
        """Payload bytes since the start."""
        ...


@asynccontextmanager
async def closing(pieces: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Ends a source's generator at once where it is left before its end."""
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            with anyio.move_on_after(_CLOSE_PATIENCE_S, shield=True):
                await pieces.aclose()


class TrustedRepository(Protocol):
    """What signed metadata vouches for. Everything it returns has been verified."""

    async def refresh(self) -> None:
        """Fetch the newest metadata.

        Raises:
            UpdateRefused: it is not signed as it must be, expired, or older than what was seen before.
            FetchFailed: the repository cannot be reached.
        """
        ...

    async def assignment(self, ring: str, model: str) -> Assignment | None:
        """What this device is to run of `model`: its own assignment before its ring's; None where there is none.

        Raises:
            UpdateRefused, FetchFailed: see `refresh`; or the assignment cannot be read, is for another model or
                hardware.
        """
        ...

    async def manifest(self, assignment: Assignment, arm: Arm) -> Manifest:
        """The manifest of the arm's release, without its gate.

        Raises:
            UpdateRefused: the releasing keys did not sign what the director names, the release's number is below the
                floor and no signed exception allows it, or it is for other hardware.
            FetchFailed: the repository cannot be reached.
        """
        ...

    async def gate(self, model: str, gate_digest: str) -> bytes:
        """A gate's document, plain.

        Raises:
            UpdateRefused, FetchFailed: see `manifest`.
        """
        ...


class LoadedCandidate(Protocol):
    """A bundle that is loaded and warm beside the one that answers."""

    @property
    def release(self) -> InstalledRelease:
        """What it is."""
        ...

    async def close(self) -> None:
        """Free it, where it did not become the active one."""
        ...


class ModelHost(Protocol):
    """Who runs the models and can exchange one under traffic."""

    def names(self) -> Sequence[str]:
        """The models that the device runs."""
        ...

    def active(self, model: str) -> InstalledRelease:
        """What answers now."""
        ...

    def relabel(self, model: str, release: InstalledRelease) -> None:
        """What answers now is told as `release` from now on, whose content and variant are the same."""
        ...

    async def load(self, folder: Path, release: InstalledRelease, *, one_at_a_time: bool = False) -> LoadedCandidate:
        """Load and warm up the bundle in `folder` beside the active one.

        `one_at_a_time`: where memory is too small for two, unload the active one first; requests wait meanwhile, each
        until its deadline, and until the candidate is switched to or closed.

        Raises:
            BundleError, EngineError: it cannot be used.
            NoRoom: there is not enough memory for two; with `one_at_a_time`, not enough for it alone.
        """
        ...

    async def prove(self, candidate: LoadedCandidate) -> None:
        """Run the golden set on this device, beside the active model.

        Raises:
            ProvingFailed: wrong answers, or too slow, or too much memory.
        """
        ...

    async def switch(self, candidate: LoadedCandidate) -> None:
        """From the next request on the candidate answers; requests under way end on the old one, which is then freed.

        Raises:
            EngineError: the candidate is no longer usable; the old one answers on.
        """
        ...

    def begin_trial(self, model: str) -> None:
        """Count from now on; the figures before are the old bundle's."""
        ...

    def trial_figures(self, model: str) -> TrialFigures:
        """What was counted since `begin_trial`, or of the candidate that answers beside the active model."""
        ...

    def begin_shadow(self, candidate: LoadedCandidate, share: float) -> None:
        """Let the candidate answer a share of the requests too, for nobody to see. Ends a split."""
        ...

    async def begin_split(self, candidate: LoadedCandidate, share: float, salt: str) -> None:
        """Let the candidate answer, in the active model's place, the requests whose key lies below `share`.

        See `shared.update.assignment.place_of`. Ends a shadow, and a split before; it ends when the candidate is
        switched to or closed, which waits for the requests that it has begun.

        Raises:
            EngineError: the candidate is no longer usable, or is told under the active model's name; that one answers.
        """
        ...


def trial_fault(figures: TrialFigures, trial: Trial) -> str:
    """What is wrong in a trial so far, in plain words; "" where nothing is. Pure."""
    requests = max(1, figures.requests)
    if figures.failed / requests - figures.old_failed > trial.max_failed_share:
        return f"{figures.failed} of {figures.requests} requests failed"
    if figures.old_latency_ms > 0 and figures.latency_ms > trial.max_latency_ratio * figures.old_latency_ms:
        return f"answers take {figures.latency_ms:.1f} ms, the old bundle's took {figures.old_latency_ms:.1f} ms"
    if figures.offload - figures.old_offload > trial.max_offload_rise:
        return f"{figures.offload:.0%} is offloaded, it was {figures.old_offload:.0%}"
    disagreed = figures.compared - figures.agreed
    if figures.compared and disagreed / figures.compared > trial.max_disagreement:
        return f"{disagreed} of {figures.compared} audited answers disagree with the full model"
    return ""
