"""A loaded model: bundle, text encoder, engine and gate, composed. Pure but for the engine's computing."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.engine import Engine
from shared.bundle import Bundle
from shared.errors import EngineError, GateError
from shared.gate import Gate, GateDecision, GateKeeper, Score, probabilities
from shared.gate_policy import GateOrder
from shared.text import TextEncoder
from shared.types import LabelScore, ModelIdentity, Reason

_AT_ONCE = nullcontext()


@dataclass(frozen=True)
class EdgePrediction:
    """The device's own answer. `confidence` is the best label's probability in [0, 1]; `top` is best first.

    `within_budget`: the gate escalates it, and as far as a budget may loosen the gate it would be kept.
    """

    top: tuple[LabelScore, ...]
    decision: GateDecision
    within_budget: bool = False

    @property
    def label(self) -> str:
        """The label that the device answers."""
        return self.top[0].label

    @property
    def confidence(self) -> float:
        """The probability of the label that is answered."""
        return self.top[0].score


class EdgeModel:
    """One model that the device runs. Usable from several threads where its engine is."""

    def __init__(self, bundle: Bundle, encoder: TextEncoder, engine: Engine, variant: str = "") -> None:
        self.bundle = bundle
        self.identity: ModelIdentity = bundle.identity
        self.labels = bundle.manifest.labels
        self.variant = variant
        self._encoder = encoder
        self._engine: Engine = engine
        self.kind = f"{self.identity.name} {self.identity.version}"
        """Names its computations, which take about as long each time."""
        self.gate_digest = bundle.gate.digest if bundle.gate else ""
        self._keepers = _Keepers(_keeper_of(bundle.gate))

    @property
    def gate_score(self) -> str:
        """The name of the score that the gate looks at."""
        return (self.bundle.gate.score if self.bundle.gate else Score.MAX_PROBABILITY).value

    @property
    def gate_threshold(self) -> float | None:
        """The gate's threshold; None where everything is escalated."""
        return self._keepers.keeper.threshold

    @property
    def engine_description(self) -> str:
        """What computes."""
        return self._engine.description

    @property
    def is_unloaded(self) -> bool:
        """Whether it cannot answer, its engine being freed."""
        return isinstance(self._engine, _Unloaded)

    def reload(self, engine: Engine) -> None:
        """Answer again, with `engine`."""
        self._engine = engine

    def unload(self) -> None:
        """Free the engine; a computation under way ends first, and whoever asks later gets an EngineError."""
        self._engine = _Unloaded()

    def obey(self, order: GateOrder) -> None:
        """Keep the gate as ordered from the next text on.

        Raises:
            GateError: the bundle brings no gate.
        """
        gate = self.bundle.gate
        if gate is None:
            raise GateError("the bundle brings no gate")
        self._keepers = _Keepers(order.keeper(gate), order.loosened_keeper(gate))

    def encode(self, text: str) -> NDArray[np.int64]:
        """Token ids [tokens] of `text`.

        Raises:
            InputError: see `TextEncoder.encode`.
        """
        return self._encoder.encode(text)

    def predict(self, token_ids: NDArray[np.int64], top_k: int) -> EdgePrediction:
        """Answer one text and ask the gate; blocks while the engine computes.

        Raises:
            EngineError: see `Engine.predict`; or the logits are not finite.
        """
        logits = self._engine.predict(token_ids)
        keepers = self._keepers
        chances, decision = keepers.keeper.judge(logits)
        if not math.isfinite(decision.score):
            raise EngineError("the graph gave logits that are not finite")
        within_budget = not decision.keep and keepers.loosened is not None and keepers.loosened.decide(logits).keep
        return EdgePrediction(_best(self.labels, chances, top_k), decision, within_budget)

    def warm_up(self) -> None:
        """Answer one golden text, so that the first caller does not wait for buffers and caches.

        Raises:
            EngineError: see `Engine.predict`.
        """
        for item in self.bundle.golden.items[:1]:
            self.predict(self.encode(item.text), 1)

    def check_golden_set(self, pace: AbstractContextManager[None] = _AT_ONCE) -> None:
        """Answer the bundle's golden set on this device; each answer is computed within `pace`.

        Raises:
            EngineError: an answer is not the one that the bundle promises, or the engine failed.
        """
        golden = self.bundle.golden
        for item in golden.items:
            with pace:
                logits = self._engine.predict(self._encoder.encode(item.text))
            chances = probabilities(logits[np.newaxis, :], 1.0)[0]
            best = _best(self.labels, chances, 1)[0]
            if best.label != item.label or abs(best.score - item.probability) > golden.tolerance:
                raise EngineError(
                    f"golden text {item.text!r} gave {best.label} {best.score:.4f}, "
                    f"the bundle promises {item.label} {item.probability:.4f} ± {golden.tolerance:g}"
                )


class _Unloaded:
    """Stands in for the engine of a model that was unloaded."""

    @property
    def description(self) -> str:
        return "unloaded"

    def predict(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        raise EngineError("the model is unloaded")


class _EscalateAll:
    """Stands in for the gate of a bundle that brings none: nothing is certified, so nothing is kept."""

    threshold: float | None = None

    def judge(self, logits: NDArray[np.float32]) -> tuple[NDArray[np.float64], GateDecision]:
        chances = probabilities(logits[np.newaxis, :], 1.0)[0]
        return chances, GateDecision(False, float(chances.max()), None, Reason.UNCERTIFIED)


@dataclass(frozen=True)
class _Keepers:
    """The gate as it holds, and as far as a budget may loosen it; swapped together."""

    keeper: GateKeeper | _EscalateAll
    loosened: GateKeeper | None = None


def _keeper_of(gate: Gate | None) -> GateKeeper | _EscalateAll:
    return GateKeeper(gate) if gate else _EscalateAll()


def _best(labels: tuple[str, ...], chances: NDArray[np.float64], count: int) -> tuple[LabelScore, ...]:
    order = np.argsort(-chances, kind="stable")[:count]
    return tuple(LabelScore(labels[index], float(chances[index])) for index in order)
