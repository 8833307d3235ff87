"""What `cloud-service rollout pin`, `unpin` and `pins` do."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cloud_service.config import CloudSettings, load_cloud_settings
from cloud_service.registry.catalogue import ListedRelease, listed_releases, record_path
from cloud_service.registry.repository import Repository, open_repository
from cloud_service.rollout.command_parts import host_actor, reading, say, say_if_not_carried_out, writing
from cloud_service.rollout.pin_desk import PinDesk
from cloud_service.rollout.pinning import SHORT_TRIAL, PinWish, make_pin
from cloud_service.rollout.ring_order import RingOrder
from cloud_service.rollout.words import pin_fields, pin_lines
from cloud_service.storage.rollout_pins import PinReader, PinStore
from cloud_service.storage.rollout_reader import RolloutReader
from shared.clock import SystemClock
from shared.errors import RolloutError
from shared.types import checked_identifier
from shared.update.assignment import Trial
from shared.update.report import UpdateReport


def pin_device(options: argparse.Namespace) -> int:
    """Let one device run a release of its own."""
    settings, wish = load_cloud_settings(options.config), _wish(options)
    releases = _releases(open_repository(settings), wish)
    with reading(settings) as engine:
        reader = RolloutReader(engine)
        orders, report = reader.orders(wish.model), reader.report(wish.device_id, wish.model)
    with _desk(settings) as desk:
        assignment = make_pin(wish, desk.new_id(), releases, orders, report)
        pin = desk.pin(wish.device_id, assignment, host_actor(), options.reason)
    say([json.dumps(pin_fields(pin, report), ensure_ascii=False)] if options.json else pin_lines(pin, report))
    say_if_not_carried_out(settings)
    return 0


def unpin_device(options: argparse.Namespace) -> int:
    """Let a device follow its ring again."""
    settings = load_cloud_settings(options.config)
    device_id, model = checked_identifier("device", options.device), checked_identifier("model", options.model)
    with _desk(settings) as desk:
        ended = desk.unpin(device_id, model, host_actor(), options.reason)
    with reading(settings) as engine:
        reader = RolloutReader(engine)
        orders, report = reader.orders(model), reader.report(device_id, model)
    if options.json:
        say([json.dumps(pin_fields(ended, report), ensure_ascii=False)])
    else:
        say([f"{device_id} follows its ring again for {model}{_what_its_ring_is_told(orders, report)}"])
    say_if_not_carried_out(settings)
    return 0


def show_pins(options: argparse.Namespace) -> int:
    """Show the devices that run a release of their own."""
    with reading(load_cloud_settings(options.config)) as engine:
        reader = RolloutReader(engine)
        found = [(pin, reader.report(pin.device_id, pin.model)) for pin in PinReader(engine).pins()]
    for pin, report in found:
        say([json.dumps(pin_fields(pin, report), ensure_ascii=False)] if options.json else pin_lines(pin, report))
    return 0


def _wish(options: argparse.Namespace) -> PinWish:
    model, separator, version = options.release.partition("@")
    if not separator:
        raise RolloutError(f"{options.release!r}: write a release as MODEL@VERSION")
    return PinWish(
        checked_identifier("device", options.device),
        checked_identifier("model", model),
        checked_identifier("version", version),
        options.gate,
        Trial(requests=0, seconds=0.0) if options.without_trial else SHORT_TRIAL,
    )


def _releases(repository: Repository, wish: PinWish) -> list[ListedRelease]:
    listed = listed_releases(repository.state())
    releases = [each for each in listed if each.model == wish.model]
    is_listed = any(each.version == wish.version for each in releases)
    if not is_listed and repository.store.get(record_path(wish.model, wish.version)):
        raise RolloutError(f"{wish.model} {wish.version} was retired: publish it again, or name another release")
    if not releases:
        known = ", ".join(sorted({each.model for each in listed})) or "none"
        raise RolloutError(f"no release of a model {wish.model} is published; published models: {known}")
    return releases


def _what_its_ring_is_told(orders: Sequence[RingOrder], report: UpdateReport | None) -> str:
    if report is None:
        return ""
    told = next((order.assignment for order in orders if order.ring == report.ring), None)
    if told is None:
        return f"; ring {report.ring} is told nothing, so it stays with what it runs"
    return f", ring {report.ring}"


@contextmanager
def _desk(settings: CloudSettings) -> Iterator[PinDesk]:
    with writing(settings) as engine:
        yield PinDesk(PinStore(engine), SystemClock(), most=settings.registry.device_assignments)
