"""What an operator may order of a rollout as it stands, and what each order does, in plain words. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cloud_service.rollout.desk import Order
from cloud_service.rollout.records import Rollout, RolloutState
from cloud_service.rollout.words import stage_words
from shared.errors import RolloutError

_CHANGED = "the rollout has gone on since this page was shown: look again before you decide"
_BUTTONS = {
    Order.APPROVE: "Approve",
    Order.PAUSE: "Pause",
    Order.RESUME: "Resume",
    Order.PROMOTE: "Promote",
    Order.ABORT: "Abort",
    Order.ABORT_KEEP: "Abort and leave the rings as they are",
    Order.ROLLBACK: "Roll back",
}
_AT_ONCE = (Order.PAUSE,)
_DANGEROUS = (Order.ABORT, Order.ABORT_KEEP, Order.ROLLBACK)
_ALTERNATIVES = {Order.ABORT: Order.ABORT_KEEP}
_RUNS = (RolloutState.RUNNING, RolloutState.SOAKING)


@dataclass(frozen=True)
class OrderButton:
    """`is_at_once`: it is carried out by one click, without a page that asks."""

    order: Order
    text: str
    is_at_once: bool
    is_dangerous: bool


@dataclass(frozen=True)
class OrderQuestion:
    """What the page that asks shows. `seen` goes with the answer, so that it is held against the rollout as it is.

    `alternative`: another way to do it, with what that does.
    """

    rollout: Rollout
    button: OrderButton
    effects: tuple[str, ...]
    seen: str
    alternative: OrderButton | None = None
    alternative_effects: tuple[str, ...] = ()


def order_buttons(rollout: Rollout) -> tuple[OrderButton, ...]:
    """The orders that its state allows; an alternative to one of them is offered where that one is asked for."""
    offered = (order for order in Order if order not in _ALTERNATIVES.values())
    return tuple(_button(order) for order in offered if _is_allowed(order, rollout))


def order_named(name: str) -> Order:
    """The order that a form names.

    Raises:
        RolloutError: it is none.
    """
    try:
        return Order(name)
    except ValueError as error:
        raise RolloutError(f"{name!r} is no order") from error


def order_question(order: Order, rollout: Rollout) -> OrderQuestion:
    """What is asked before the order is given.

    Raises:
        RolloutError: it cannot be given as the rollout stands.
    """
    if not _is_allowed(order, rollout):
        raise RolloutError(f"rollout {rollout.id} is {state_words(rollout)}: {_BUTTONS[order].lower()} cannot be done")
    question = OrderQuestion(rollout, _button(order), tuple(_effects(order, rollout)), _seen(rollout))
    other = _ALTERNATIVES.get(order)
    if other is None:
        return question
    return replace(question, alternative=_button(other), alternative_effects=tuple(_effects(other, rollout)))


def require_seen(order: Order, seen: str, rollout: Rollout) -> None:
    """Hold the rollout against what the operator saw. What stops a rollout, stops it wherever it stands by then.

    Raises:
        RolloutError: another stage would be promoted, or one that broke meanwhile.
    """
    if order is Order.PROMOTE and seen != _seen(rollout):
        raise RolloutError(_CHANGED)


def state_words(rollout: Rollout) -> str:
    """`rolled back`."""
    return rollout.state.value.replace("_", " ")


def _button(order: Order) -> OrderButton:
    return OrderButton(order, _BUTTONS[order], order in _AT_ONCE, order in _DANGEROUS)


def _is_allowed(order: Order, rollout: Rollout) -> bool:
    state = rollout.state
    if order is Order.ROLLBACK:
        return rollout.current is not None
    return state in {
        Order.APPROVE: (RolloutState.PENDING_APPROVAL,),
        Order.PAUSE: _RUNS,
        Order.RESUME: (RolloutState.PAUSED,),
        Order.PROMOTE: (*_RUNS, RolloutState.PAUSED),
    }.get(order, tuple(each for each in RolloutState if each.is_active))


def _seen(rollout: Rollout) -> str:
    stands = "runs" if rollout.state in _RUNS else rollout.state.value
    return f"{stands}/{'' if rollout.current is None else rollout.current}"


def _effects(order: Order, rollout: Rollout) -> list[str]:
    plan, place = rollout.plan, rollout.current
    if order in (Order.ABORT, Order.ROLLBACK):
        return [*_ways_back(rollout), "Rings that it has not reached never hear of it. It cannot be resumed."]
    if order is Order.ABORT_KEEP:
        return [
            "No further ring is opened.",
            "Rings that it reached stay with what they were told. It cannot be resumed.",
        ]
    if order is Order.APPROVE:
        first = f"It begins with {stage_words(plan.stages[0])}, as soon as its schedule allows it."
        return [first, f"{rollout.created_by} started it; another person has to approve it."]
    if order is Order.RESUME:
        return ["It goes on where it stood.", "A soak time that was under way begins anew."]
    if order is Order.PAUSE:
        return ["No ring is opened, none goes back; devices of open rings go on with what they were told."]
    return _promotion(rollout, place)


def _promotion(rollout: Rollout, place: int | None) -> list[str]:
    plan, effects = rollout.plan, []
    following = 0 if place is None else place + 1
    if place is not None:
        figures = rollout.stages[place].figures
        bad = max(figures.failed, figures.crashed)
        accepted = f", and {bad} failed devices are accepted" if bad else ""
        effects.append(f"{_sentence(stage_words(plan.stages[place]))} counts as passed{accepted}.")
    if following < len(plan.stages):
        effects.append(
            f"{_sentence(stage_words(plan.stages[following]))} is opened at once, whatever the schedule says."
        )
    else:
        effects.append("It was the last stage: the rollout is done.")
    return effects


def _ways_back(rollout: Rollout) -> list[str]:
    pairs = zip(rollout.plan.stages, rollout.stages, strict=True)
    reached = dict.fromkeys(stage.ring for stage, told in pairs if told.state.is_reached)
    if not reached:
        return ["It has reached no ring yet: no device is told anything."]
    effects = []
    for ring in reached:
        before = rollout.plan.fallback(ring)
        effects.append(
            f"Ring {ring} goes back to {before.version}."
            if before
            else f"Ring {ring} has no release to go back to: devices that have it keep it, no other one takes it."
        )
    return effects


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
