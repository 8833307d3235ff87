"""What `cloud-service rollout` does."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone

from cloud_service.config import CloudSettings, load_cloud_settings
from cloud_service.registry.catalogue import ListedRelease, listed_releases
from cloud_service.registry.exceptions import allow
from cloud_service.registry.repository import open_repository
from cloud_service.rollout.command_parts import host_actor, reading, say, say_if_not_carried_out, writing
from cloud_service.rollout.conditions import parse_condition
from cloud_service.rollout.desk import Order, RolloutDesk
from cloud_service.rollout.going_back import floor_of, make_way_back
from cloud_service.rollout.plan import Comparison, Plan
from cloud_service.rollout.plan_file import read_plan_file
from cloud_service.rollout.planning import Wish, make_plan
from cloud_service.rollout.records import Rollout, RolloutState
from cloud_service.rollout.ring_order import RingOrder
from cloud_service.rollout.words import failure_line, pinned_lines, plan_lines, rollout_fields, rollout_lines
from cloud_service.storage.rollout_pins import PinReader
from cloud_service.storage.rollout_reader import RolloutReader
from cloud_service.storage.rollout_store import RolloutStore
from shared.clock import SystemClock
from shared.errors import RolloutError
from shared.types import checked_identifier
from shared.update.labels import LabelCondition

DID_NOT_END_WELL = 1
"""The exit code of `status` for one rollout that was rolled back, failed or aborted."""
_BAD_ENDS = (RolloutState.ROLLED_BACK, RolloutState.FAILED, RolloutState.ABORTED)


def start_rollout(options: argparse.Namespace) -> int:
    """Begin a rollout, or show what it would be."""
    settings, wish = load_cloud_settings(options.config), _wish(options)
    with _reader(settings) as reader:
        orders = reader.orders(wish.model)
    plan = make_plan(wish, listed_releases(open_repository(settings).state(), wish.model), orders)
    if options.dry_run:
        _show_plan(plan, as_json=options.json)
        return 0
    with _desk(settings) as desk:
        rollout = desk.start(plan, host_actor())
    _show([rollout], as_json=options.json)
    say_if_not_carried_out(settings)
    return 0


def act(name: str, options: argparse.Namespace) -> int:
    """Give an order."""
    settings = load_cloud_settings(options.config)
    order = Order.ABORT_KEEP if name == "abort" and options.keep else Order(name)
    with _reader(settings) as reader:
        rollout_id = options.rollout or _the_one_meant(reader, order)
    with _desk(settings) as desk:
        _show([desk.give(order, rollout_id, host_actor())], as_json=options.json)
    return 0


def roll_back(options: argparse.Namespace) -> int:
    """Send rings back to what they ran before, or all of them to the version that is named."""
    if options.to is None:
        return act(Order.ROLLBACK.value, options)
    settings = load_cloud_settings(options.config)
    with _reader(settings) as reader:
        rollout_id = options.rollout or _the_one_meant(reader, Order.ROLLBACK)
        ending = reader.rollout(rollout_id)
        if ending is None:
            raise RolloutError(f"there is no rollout {rollout_id}")
        model = ending.plan.model
        under_way = [each for each in reader.rollouts(model=model) if each.state.is_active]
        orders = reader.orders(model)
    plan = make_way_back(model, options.to, _allowed(settings, model, options, orders), orders)
    with _desk(settings) as desk:
        for each in under_way:
            desk.give(Order.ABORT_KEEP, each.id, host_actor())
        rollout = desk.start(plan, host_actor(), everywhere=True)
    _show([rollout], as_json=options.json)
    return 0


def _allowed(
    settings: CloudSettings, model: str, options: argparse.Namespace, orders: Sequence[RingOrder]
) -> list[ListedRelease]:
    """What is listed of `model`, after the exception is signed that the version needs."""
    repository = open_repository(settings)
    listed = listed_releases(repository.state(), model)
    wanted = next((each for each in listed if each.version == options.to), None)
    if wanted is None or wanted.is_excepted or wanted.release >= floor_of(orders):
        return listed
    if not options.reason:
        raise RolloutError(f"{model} {options.to} lies below the version floor: say why with --reason")
    allow(repository, model, options.to, options.reason)
    return listed_releases(repository.state(), model)


def show_status(options: argparse.Namespace) -> int:
    """Show rollouts, newest first, or one with the reasons of its failures; 1 where that one did not end well."""
    with reading(load_cloud_settings(options.config)) as engine:
        reader, pins = RolloutReader(engine), PinReader(engine)
        if options.rollout is None:
            _show(reader.rollouts(limit=max(1, options.limit)), as_json=options.json)
            say([] if options.json else pinned_lines(pins.pins()))
            return 0
        rollout = reader.rollout(options.rollout)
        if rollout is None:
            raise RolloutError(f"there is no rollout {options.rollout}")
        failures, pinned = reader.failures(rollout.id), pins.pins(model=rollout.plan.model)
    if options.json:
        say([json.dumps(rollout_fields(rollout, failures), ensure_ascii=False)])
    else:
        say([*rollout_lines(rollout), *(failure_line(failure) for failure in failures), *pinned_lines(pinned)])
    return DID_NOT_END_WELL if rollout.state in _BAD_ENDS else 0


def _wish(options: argparse.Namespace) -> Wish:
    model, version, before = _versions(options)
    rings = tuple(ring.strip() for ring in (options.rings or "").split(",") if ring.strip())
    shares = dict(_share(text, rings) for text in options.share)
    if options.by and not options.ab:
        raise RolloutError("--by says how an A/B test splits: name its releases with --ab A B")
    if options.ab:
        shares = dict.fromkeys(rings, 0.5) | shares
    return Wish(
        checked_identifier("model", model),
        checked_identifier("version", version),
        read_plan_file(options.plan),
        rings,
        shares,
        options.soak,
        options.shadow,
        options.gate,
        options.min_devices,
        _moment_s(options.not_before),
        options.needs_approval,
        before,
        options.without_fallback,
        Comparison(options.margin, decides=options.decide) if options.ab else None,
        _conditions(options.labels, rings),
        options.by == "key",
    )


def _versions(options: argparse.Namespace) -> tuple[str, str, str | None]:
    """Model, new version, and the one to go back to."""
    model, separator, version = options.release.partition("@")
    if options.ab and not separator:
        return model, options.ab[1], options.ab[0]
    if options.ab or not separator:
        raise RolloutError(f"{options.release!r}: write a release as MODEL@VERSION, and for an A/B test MODEL alone")
    return model, version, options.before


def _conditions(texts: Sequence[str], rings: Sequence[str]) -> dict[str, LabelCondition]:
    told: dict[str, list[str]] = {}
    for text in texts:
        ring, condition = _of_ring(text, rings)
        told.setdefault(ring, []).append(condition)
    return {ring: parse_condition(",".join(parts)) for ring, parts in told.items()}


def _share(text: str, rings: Sequence[str]) -> tuple[str, float]:
    ring, share = _of_ring(text, rings)
    try:
        return ring, float(share)
    except ValueError as error:
        raise RolloutError(f"--share {text}: write it as RING=0.1") from error


def _of_ring(text: str, rings: Sequence[str]) -> tuple[str, str]:
    """RING=WHAT; what is said alone is of the one ring that there is."""
    ring, separator, what = text.partition("=")
    return (rings[0], text) if not separator and len(rings) == 1 else (ring, what)


def _moment_s(text: str | None) -> int:
    if text is None:
        return 0
    try:
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError as error:
        raise RolloutError(f"--not-before {text}: write it as 2030-01-31T22:00:00Z") from error
    return int(moment.timestamp())


def _the_one_meant(reader: RolloutReader, order: Order) -> str:
    found = [rollout.id for rollout in reader.rollouts() if rollout.state.is_active]
    if len(found) != 1:
        raise RolloutError(f"{len(found)} rollouts are under way: name the one to {order.value}")
    return found[0]


@contextmanager
def _desk(settings: CloudSettings) -> Iterator[RolloutDesk]:
    with writing(settings) as engine:
        yield RolloutDesk(RolloutStore(engine), SystemClock())


@contextmanager
def _reader(settings: CloudSettings) -> Iterator[RolloutReader]:
    with reading(settings) as engine:
        yield RolloutReader(engine)


def _show_plan(plan: Plan, *, as_json: bool) -> None:
    say([json.dumps(asdict(plan), ensure_ascii=False)] if as_json else plan_lines(plan))


def _show(rollouts: Iterable[Rollout], *, as_json: bool) -> None:
    for rollout in rollouts:
        say([json.dumps(rollout_fields(rollout), ensure_ascii=False)] if as_json else rollout_lines(rollout))
