"""What may be chosen: the parts of a network and the choices each one has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.errors import ConfigurationError

Plan = Mapping[str, str]
"""Part name to choice name, e.g. "layers.0.mlp.down_proj.weight" to "int8-dynamic"."""

PlanKey = tuple[tuple[str, str], ...]


def plan_key(plan: Plan) -> PlanKey:
    """The one hashable form of a plan."""
    return tuple(sorted(plan.items()))


@dataclass(frozen=True)
class SearchSpace:
    """The choices of every part, and the plan that changes nothing, against which loss is measured."""

    choices: Mapping[str, tuple[str, ...]]
    baseline: Plan

    def __post_init__(self) -> None:
        """Raises: ConfigurationError: there is no part, or the baseline does not fit the parts."""
        if not self.choices:
            raise ConfigurationError("there is nothing to tune: the network has no part with a choice")
        if not self.holds(self.baseline):
            raise ConfigurationError("the baseline plan must give every part one of its own choices, and no other part")

    @classmethod
    def of(cls, parts: Sequence[str], choices: Sequence[str], baseline: str) -> SearchSpace:
        """Every part has the same `choices`; the baseline gives each `baseline`.

        Raises:
            ConfigurationError: there is no part, or `baseline` is none of `choices`.
        """
        return cls(dict.fromkeys(parts, tuple(choices)), dict.fromkeys(parts, baseline))

    def holds(self, plan: Plan) -> bool:
        """Whether `plan` gives every part one of its choices and names no other part."""
        return plan.keys() == self.choices.keys() and all(plan[part] in self.choices[part] for part in plan)

    def uniform(self, choice: str) -> Plan:
        """`choice` wherever it is offered, the baseline elsewhere."""
        return {part: choice if choice in offered else self.baseline[part] for part, offered in self.choices.items()}

    def menu(self) -> tuple[Plan, ...]:
        """The baseline, then every uniform plan, each once, in the order in which choices first appear."""
        names = dict.fromkeys(choice for offered in self.choices.values() for choice in offered)
        plans = {plan_key(plan): plan for plan in (self.baseline, *(self.uniform(name) for name in names))}
        return tuple(plans.values())


def changed(plan: Plan, *changes: tuple[str, str]) -> Plan:
    """`plan` with each (part, choice) of `changes` in place."""
    return {**plan, **dict(changes)}
