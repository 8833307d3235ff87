"""True labels that come back: joined with the device's answers, counted once, and told to the cloud."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import anyio

from edge_agent.answers import Json
from edge_agent.lanes import Lanes
from edge_agent.state.answers import RememberedAnswer
from edge_agent.state.file import LabelledAnswer
from edge_agent.state.keeper import StateKeeper
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import (
    CloudOverloaded,
    EscalationError,
    InputError,
    LabelContradicted,
    NotReady,
    Overloaded,
    StorageError,
    TandemError,
    UnknownRequest,
)
from shared.types import TrueLabel

_log = logging.getLogger(__name__)
_BATCH_LABELS = 500
_REPORT_TIMEOUT_S = 10.0
_ROOM_AGAIN_S = 60.0


class LabelClient(Protocol):
    """The port by which the cloud is told."""

    async def report_labels(self, labels: Sequence[TrueLabel], timeout_s: float) -> None:
        """Hand over labels that came back; saying one twice changes nothing.

        Raises:
            CloudUnavailable, CloudTimedOut, CloudOverloaded, CloudRefused: none was taken.
        """
        ...


@dataclass(frozen=True)
class LabelClaim:
    """What a caller says: the true label of an earlier request. `model` None: the device's only answer to it."""

    request_id: str
    label: str
    model: str | None = None


@dataclass(frozen=True)
class LabelReceipt:
    """What became of a claim. `is_new`: it was not known before."""

    answer: RememberedAnswer
    true_label: str
    is_new: bool

    def to_json(self) -> Json:
        """The receipt as `/v1/labels` gives it."""
        return {
            "request_id": self.answer.request_id,
            "model": self.answer.model,
            "taken": self.is_new,
            "label": self.true_label,
            "edge_label": self.answer.label,
            "kept": self.answer.kept,
            "agrees": self.answer.label == self.true_label,
        }


class LabelDesk:
    """Takes true labels in. The first one told for a request stands."""

    def __init__(self, lanes: Lanes, keeper: StateKeeper, *, tells_cloud: bool, max_waiting: int) -> None:
        self._lanes = lanes
        self._keeper = keeper
        self._tells_cloud = tells_cloud
        self._max_waiting = max_waiting
        self._one_at_a_time = anyio.Lock()

    async def take(self, claims: Sequence[LabelClaim]) -> list[LabelReceipt | TandemError]:
        """A receipt or an error for each claim, in order.

        What was taken is written when this returns; while the file cannot be written it is kept until it can.
        """
        async with self._one_at_a_time:
            results = [await self._take_one(claim) for claim in claims]
            if any(isinstance(result, LabelReceipt) and result.is_new for result in results):
                await self._keeper.save()
            return results

    async def _take_one(self, claim: LabelClaim) -> LabelReceipt | TandemError:
        try:
            found = _the_only_one(claim, await self._keeper.find(claim.request_id, claim.model))
        except StorageError as error:
            return NotReady(f"the device's answers cannot be read: {error}")
        except InputError as error:
            return error
        if found.true_label is not None:
            return _known(claim, found)
        if self._tells_cloud and self._keeper.waiting_labels >= self._max_waiting:
            return Overloaded(f"{self._max_waiting} labels wait for the cloud", _ROOM_AGAIN_S)
        self._keeper.put_label(found.answer, claim.label, waits=self._tells_cloud)
        self._count(found.answer, claim.label)
        return LabelReceipt(found.answer, claim.label, is_new=True)

    def _count(self, answer: RememberedAnswer, label: str) -> None:
        """Only answers that a version's last gate kept speak of it; another gate's are for the cloud alone."""
        judgements = self._lanes.judgements_of(answer.model, answer.model_version, answer.gate_digest)
        if judgements is not None and answer.kept:
            judgements.labelled(answer.label, answer.gate_score, is_wrong=answer.label != label)


class LabelForwarder:
    """Tells the cloud of labels until it has taken each, the oldest first."""

    def __init__(
        self, client: LabelClient, keeper: StateKeeper, clock: Clock, backoff: Backoff, uniform: Callable[[], float]
    ) -> None:
        self._client = client
        self._keeper = keeper
        self._clock = clock
        self._backoff = backoff
        self._uniform = uniform

    async def run(self) -> None:
        """Forward until cancelled."""
        failures = 0
        while True:
            try:
                await self._forward_once()
                failures = 0
            except (EscalationError, StorageError) as error:
                failures += 1
                if failures == 1:
                    _log.warning("true labels wait for the cloud: %s", error)
                wait_s = self._backoff.delay_s(failures, self._uniform)
                if isinstance(error, CloudOverloaded):
                    wait_s = max(wait_s, min(error.retry_after_s, self._backoff.longest_s))
                await self._clock.sleep(wait_s)

    async def _forward_once(self) -> None:
        batch = await self._keeper.next_labels(_BATCH_LABELS)
        labels = [each.answer.with_true_label(each.true_label) for each in batch if each.true_label is not None]
        await self._client.report_labels(labels, _REPORT_TIMEOUT_S)
        await self._keeper.labels_taken([each.answer.key for each in batch])
        _log.info("the cloud has taken %d true labels", len(labels))


def _the_only_one(claim: LabelClaim, found: Sequence[LabelledAnswer]) -> LabelledAnswer:
    if not found:
        raise UnknownRequest(f"request {claim.request_id!r} was not answered here, or is forgotten by now")
    if len(found) > 1:
        models = ", ".join(sorted(each.answer.model for each in found))
        raise InputError(f"request {claim.request_id!r} was answered by {models}: name the model")
    return found[0]


def _known(claim: LabelClaim, found: LabelledAnswer) -> LabelReceipt | LabelContradicted:
    if found.true_label == claim.label:
        return LabelReceipt(found.answer, claim.label, is_new=False)
    return LabelContradicted(f"request {claim.request_id!r} has the true label {found.true_label!r} already")
