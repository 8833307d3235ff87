"""From a form of the page of risks to an order for a ring, and to plain words of what it changes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cloud_service.dashboard.risk_choices import RISK_NAMES, RISK_WORDS, Figures, figures_at
from cloud_service.dashboard.risk_view import RingRow
from cloud_service.dashboard.wording import percent
from cloud_service.watch.orders import Order, make_policy, order_of, threshold_in_force
from cloud_service.watch.records import KnownGate
from shared.errors import GateError, InputError
from shared.gate import Gate, Guarantee, Risk
from shared.gate_policy import obeyed
from shared.types import GatePolicy

ACTIONS = ("set", "escalate_all", "bundle")
MOST_REASON_CHARACTERS = 500


@dataclass(frozen=True)
class Change:
    """One sentence for the page that asks for confirmation; `kind` is stricter, looser, same or promise."""

    kind: str
    words: str


@dataclass(frozen=True)
class Confirmation:
    """What the operator is asked to confirm. `fields` carry the order to the next form, `back` leads away."""

    known: KnownGate
    ring: str
    online: int
    title: str
    button: str
    is_emergency: bool
    changes: tuple[Change, ...]
    now: Figures
    then: Figures
    reason: str
    fields: tuple[tuple[str, str], ...]
    back: str


def order_from(form: Mapping[str, str], current: GatePolicy | None) -> Order:
    """What a form asks for. To escalate all keeps the rest as it is, so that it can be taken back.

    Raises:
        InputError: the form names no action, or a number is none.
    """
    action, reason = form.get("action", ""), form.get("reason", "").strip()
    if len(reason) > MOST_REASON_CHARACTERS or not reason.isprintable():
        raise InputError(f"a reason has at most {MOST_REASON_CHARACTERS} printable characters")
    if action == "escalate_all":
        return replace(order_of(current) if current else Order(), escalate_all=True, reason=reason)
    if action == "bundle":
        return Order(reason=reason)
    if action != "set":
        raise InputError(f"{action!r} is none of {', '.join(ACTIONS)}")
    return Order(
        in_force=_alphas(form, "alpha."),
        least_threshold=_number(form, "least_threshold", 1.0),
        audit_share=_number(form, "audit_percent", 100.0),
        offload_cap=_number(form, "cap_percent", 100.0),
        budget_in_force=_alphas(form, "budget."),
        reason=reason,
    )


def policy_for(
    known: KnownGate, ring: str, order: Order, *, newest_sequence: int, issued_by: str, now_unix_ms: int
) -> GatePolicy:
    """The policy to issue: valid against the gate as the cloud has it, by the very rules that devices hold it to.

    Raises:
        GateError: a device with this gate would refuse it.
        InputError: the ring is no name.
    """
    if order.offload_cap is None and order.budget_in_force:
        raise GateError("a risk to loosen to needs an offload cap")
    policy = make_policy(
        known.gate,
        order,
        model=known.model,
        ring=ring,
        newest_sequence=newest_sequence,
        issued_by=issued_by,
        now_unix_ms=now_unix_ms,
    )
    obeyed(known.gate, policy)
    return policy


def confirmation(
    known: KnownGate, row: RingRow, policy: GatePolicy, form: Mapping[str, str], audit_share: float
) -> Confirmation:
    """`policy` is what would be issued, `row` the ring's stand now."""
    then = threshold_in_force(known.gate, policy)
    action = form.get("action", "")
    share = audit_share if policy.audit_share is None else policy.audit_share
    fields = tuple((name, value) for name, value in form.items() if name not in ("csrf", "reason"))
    return Confirmation(
        known=known,
        ring=row.ring,
        online=row.online,
        title={"escalate_all": "Escalate all at once", "bundle": "Back to the bundle's own"}.get(
            action, "Apply a choice"
        ),
        button={"escalate_all": "Escalate all now", "bundle": "Go back to it"}.get(action, "Apply it"),
        is_emergency=action == "escalate_all",
        changes=tuple(changes_of(known.gate, row, policy)),
        now=figures_at(known.gate, row.threshold, audit_share),
        then=figures_at(known.gate, then, share),
        reason=policy.reason,
        fields=fields,
        back=f"/risk?gate={known.digest}&ring={row.ring}",
    )


def changes_of(gate: Gate, row: RingRow, policy: GatePolicy) -> list[Change]:
    """What becomes stricter or looser, and what is promised then."""
    then = threshold_in_force(gate, policy)
    if policy.escalate_all:
        return [
            Change("stricter", "Nothing is kept: every answer is asked of the cloud."),
            Change("promise", "Where the cloud is not had, the device's own answer goes out flagged as degraded."),
        ]
    found = [_threshold_change(row.threshold, then)]
    if found[0].kind == "looser" and row.open_alarms:
        found.append(Change("looser", "An alarm of this ring is still open; a looser gate goes against it."))
    chosen = _in_force(gate, policy)
    found += [_alpha_change(risk, row.in_force.get(risk), alpha) for risk, alpha in chosen.items()]
    found += [_promise(gate, risk, alpha) for risk, alpha in chosen.items()] if then is not None else []
    return [*found, *_extras(policy)]


def policy_words(policy: GatePolicy) -> str:
    """A policy in one sentence."""
    if policy.escalate_all:
        return "Escalate all."
    promised = ", ".join(f"{risk} ≤ {percent(alpha)}" for risk, alpha in sorted(policy.in_force.items()))
    return " ".join([f"{promised or 'The bundle’s own choice'}.", *(change.words for change in _extras(policy))])


def _threshold_change(now: float | None, then: float | None) -> Change:
    if now == then:
        return Change("same", "The threshold stays as it is.")
    if then is None:
        return Change("stricter", "Nothing is kept any more: everything goes to the cloud.")
    if now is None:
        return Change("looser", f"Answers are kept again, from a score of {then:.4g} on; now everything is escalated.")
    if then > now:
        return Change(
            "stricter", f"Stricter: kept from a score of {then:.4g} on instead of {now:.4g}; more goes to the cloud."
        )
    return Change("looser", f"Looser: kept from a score of {then:.4g} on instead of {now:.4g}; less goes to the cloud.")


def _alpha_change(risk: Risk, now: float | None, then: float) -> Change:
    name = RISK_NAMES[risk]
    if now == then:
        return Change("same", f"{name}: at most {percent(then)}, as now.")
    if now is None:
        return Change("stricter", f"{name}: at most {percent(then)}, which nothing promises now.")
    return Change("stricter" if then < now else "looser", f"{name}: at most {percent(then)} instead of {percent(now)}.")


def _promise(gate: Gate, risk: Risk, alpha: float) -> Change:
    certificate = gate.certificate(risk)
    sure = f"with probability at least {percent(1.0 - certificate.delta)}"
    if certificate.guarantee is Guarantee.EXPECTATION:
        sure = "on average over calibration data"
    return Change("promise", f"Promised {sure}: {RISK_WORDS[risk]} at most {percent(alpha)}.")


def _extras(policy: GatePolicy) -> list[Change]:
    found = []
    if policy.least_threshold is not None:
        found.append(
            Change("stricter", f"Never kept below a score of {policy.least_threshold:.4g}, stricter than certified.")
        )
    if policy.audit_share is not None:
        found.append(Change("same", f"{percent(policy.audit_share)} of kept answers are audited."))
    if policy.offload_cap is not None:
        loosest = ", ".join(f"{risk} {percent(alpha)}" for risk, alpha in sorted(policy.budget_in_force.items()))
        words = f"Over an offload of {percent(policy.offload_cap)} the gate may loosen as far as {loosest}"
        found.append(Change("looser", f"{words}; such answers say reason=budget and stand outside the promise."))
    return found


def _in_force(gate: Gate, policy: GatePolicy) -> dict[Risk, float]:
    return {Risk(name): alpha for name, alpha in policy.in_force.items()} or dict(gate.in_force)


def _alphas(form: Mapping[str, str], prefix: str) -> dict[str, float]:
    found = {}
    for name in form:
        if name.startswith(prefix):
            alpha = _number(form, name, 1.0)
            if alpha is not None:
                found[name.removeprefix(prefix)] = alpha
    return found


def _number(form: Mapping[str, str], name: str, whole: float) -> float | None:
    text = form.get(name, "").strip().replace(",", ".").replace("%", "")
    if not text:
        return None
    try:
        return float(text) / whole
    except ValueError as error:
        raise InputError(f"{name.replace('_', ' ')}: {text!r} is no number") from error


def fields_logged(ring: str, policy: GatePolicy, changes: Sequence[Change]) -> dict[str, object]:
    """What the log of actions keeps of a policy."""
    return {
        "policy_id": policy.policy_id,
        "model": policy.model,
        "ring": ring,
        "gate_digest": policy.gate_digest,
        "in_force": dict(policy.in_force),
        "escalate_all": policy.escalate_all,
        "least_threshold": policy.least_threshold,
        "audit_share": policy.audit_share,
        "offload_cap": policy.offload_cap,
        "budget_in_force": dict(policy.budget_in_force),
        "reason": policy.reason,
        "changes": [change.words for change in changes],
    }
