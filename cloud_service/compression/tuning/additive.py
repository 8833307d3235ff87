"""A forecast of plans from trials of single changes, as though parts did not influence each other.

It only proposes: every proposal is measured before it counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cloud_service.compression.tuning.space import Plan, SearchSpace, changed, plan_key

_EXCHANGED = 32
"""How many of the best changes on either side are paired; all pairs of a deep network would be too many."""


@dataclass(frozen=True)
class Effect:
    """What a change does: to the objective (`cost`), and to what the goal limits (`harm`; loss, limits, scaled)."""

    cost: float
    harm: float


@dataclass(frozen=True)
class Move:
    """A plan that differs from another in a few parts, with the sum of its changes' effects."""

    plan: Plan
    effect: Effect


class AdditiveModel:
    """The effect of each (part, choice) against one plan, the anchor; what has no effect listed is never proposed."""

    def __init__(self, space: SearchSpace, anchor: Plan, effects: Mapping[tuple[str, str], Effect]) -> None:
        self._space = space
        own = {(part, choice): Effect(0.0, 0.0) for part, choice in anchor.items()}
        self._effects = {**effects, **own}

    def chain(self) -> list[Plan]:
        """From the plan of least harm to that of least cost, by benefit per harm: the plans between them that
        are best for some price of harm (Everett, 1963).
        """
        prices = [0.0, *_between(sorted(self._prices())), math.inf]
        plans = [self._best_at(price) for price in reversed(prices)]
        return list({plan_key(plan): plan for plan in plans}.values())

    def single_moves(self, plan: Plan) -> list[Move]:
        """Every plan that differs from `plan` in one part."""
        return [
            Move(changed(plan, (part, choice)), self._step(plan, part, choice))
            for part, choice in self._effects
            if plan[part] != choice and (part, plan[part]) in self._effects
        ]

    def exchanges(self, plan: Plan, moves: Sequence[Move]) -> Iterable[Move]:
        """Two changes of different parts at once, one that lowers cost and one that lowers harm."""
        cheaper = by_benefit(moves, lower_harm=False)[:_EXCHANGED]
        safer = by_benefit(moves, lower_harm=True)[:_EXCHANGED]
        for one in cheaper:
            for other in safer:
                (part, choice), (other_part, other_choice) = _change(plan, one.plan), _change(plan, other.plan)
                if part != other_part:
                    both = Effect(one.effect.cost + other.effect.cost, one.effect.harm + other.effect.harm)
                    yield Move(changed(plan, (part, choice), (other_part, other_choice)), both)

    def _step(self, plan: Plan, part: str, choice: str) -> Effect:
        new, old = self._effects[part, choice], self._effects[part, plan[part]]
        return Effect(new.cost - old.cost, new.harm - old.harm)

    def _options(self, part: str) -> list[tuple[str, Effect]]:
        offered = self._space.choices[part]
        return [(choice, self._effects[part, choice]) for choice in offered if (part, choice) in self._effects]

    def _prices(self) -> set[float]:
        """The prices of harm at which some part's best choice may change."""
        prices = set()
        for part in self._space.choices:
            effects = [effect for _, effect in self._options(part)]
            pairs = [(one, other) for one in effects for other in effects if one.harm < other.harm]
            prices |= {(one.cost - other.cost) / (other.harm - one.harm) for one, other in pairs}
        return {price for price in prices if price > 0}

    def _best_at(self, price: float) -> Plan:
        return {part: self._choice_at(part, price) for part in self._space.choices}

    def _choice_at(self, part: str, price: float) -> str:
        return min(self._options(part), key=lambda option: _priced(option[1], price))[0]


def by_benefit(moves: Iterable[Move], *, lower_harm: bool) -> list[Move]:
    """Moves that lower cost (or, with `lower_harm`, harm), best first.

    First those that do no damage on the other side, by what they gain; then by gain per damage.
    """

    def rank(move: Move) -> tuple[float, float]:
        gain, damage = -move.effect.cost, move.effect.harm
        if lower_harm:
            gain, damage = -move.effect.harm, move.effect.cost
        return (0.0, -gain) if damage <= 0 else (1.0, -gain / damage)

    useful = [move for move in moves if (move.effect.harm if lower_harm else move.effect.cost) < 0]
    return sorted(useful, key=rank)


def _priced(effect: Effect, price: float) -> tuple[float, float]:
    if math.isinf(price):
        return effect.harm, effect.cost
    return effect.cost + price * effect.harm, effect.cost if price == 0.0 else effect.harm


def _between(prices: Sequence[float]) -> list[float]:
    """A price inside every interval that `prices`, ascending, cut out of the positive numbers."""
    if not prices:
        return []
    middles = [(low + high) / 2 for low, high in zip(prices[:-1], prices[1:], strict=True)]
    return [prices[0] / 2, *middles, prices[-1] * 2]


def _change(plan: Plan, other: Plan) -> tuple[str, str]:
    return next((part, choice) for part, choice in other.items() if plan[part] != choice)
