"""From what the store says to what the Devices pages show. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_service.dashboard.chart import Chart, offload_chart, outcome_chart, p99_chart, ratio_of
from cloud_service.dashboard.devices_address import PAGE_ROWS, DevicesAddress
from cloud_service.dashboard.devices_question import DeviceHistory, DeviceModel, DevicesReading, ListedDevice
from cloud_service.dashboard.ranges import PRESETS, Axis, Preset
from cloud_service.dashboard.wording import percent
from cloud_service.fleet.presence import DeviceState
from cloud_service.fleet.tally import Tally, p99_ms, total

PATH = "/devices"
LINK_WORDS = {"closed": "connected", "open": "cut off", "half_open": "trying again", "none": "no cloud set"}
_COLUMNS = (
    ("device", "Device"),
    ("presence", "Presence"),
    ("seen", "Last seen"),
    ("ring", "Ring"),
    ("model", "Model"),
    ("version", "Version"),
    ("accepted", "Accepted"),
    ("offload", "Offload ratio"),
    ("p99", "p99"),
    ("link", "Cloud link"),
    ("gate", "Gate"),
    ("policy", "Policy"),
    ("agent", "Agent"),
)
NUMBERS = frozenset({"accepted", "offload", "p99"})


@dataclass(frozen=True)
class Heading:
    """A column's title and what sorts by it; `direction` as `aria-sort` has it."""

    key: str
    title: str
    address: str
    direction: str


@dataclass(frozen=True)
class ListedRow:
    """One row of the list; `running` None: the device has no model yet. Counts since it began in its present boot."""

    device: DeviceState
    presence: str
    running: DeviceModel | None
    offload_ratio: float | None
    link_words: str
    gate_words: str
    policy_words: str


@dataclass(frozen=True)
class DevicesView:
    """The list. `before` and `after` are addresses, empty where they lead nowhere."""

    address: DevicesAddress
    now_s: int
    reading: DevicesReading
    headings: tuple[Heading, ...]
    rows: tuple[ListedRow, ...]
    first_row: int
    last_row: int
    pages: int
    before: str
    after: str
    is_ready: bool

    @property
    def fleet_size(self) -> int:
        """All devices, whatever is searched for."""
        fleet = self.reading.fleet
        return fleet.online + fleet.silent + fleet.offline


@dataclass(frozen=True)
class Change:
    """One entry of a device's log. `title` names the kind of event."""

    at_s: int
    title: str
    text: str


@dataclass(frozen=True)
class DeviceView:
    """One device. `shown` and `presets` name the stretch of the charts; figures are of that stretch."""

    device: DeviceState
    presence: str
    now_s: int
    axis: Axis
    shown: Preset
    presets: tuple[Preset, ...]
    total: Tally
    offload_ratio: float | None
    p99_ms: float | None
    running: tuple[DeviceModel, ...]
    ended: tuple[DeviceModel, ...]
    offload_chart: Chart
    outcome_chart: Chart
    p99_chart: Chart
    changes: tuple[Change, ...]


def devices_view(address: DevicesAddress, reading: DevicesReading | None, now_s: int, seen_since_s: int) -> DevicesView:
    """The list at `now_s`; `reading` is None while the store is not set up."""
    told = reading or DevicesReading()
    pages = max(1, -(-told.matches // PAGE_ROWS))
    first = (address.page - 1) * PAGE_ROWS
    return DevicesView(
        address=address,
        now_s=now_s,
        reading=told,
        headings=tuple(_heading(address, key, title) for key, title in _COLUMNS),
        rows=tuple(_row(each, seen_since_s) for each in told.rows),
        first_row=first + 1 if told.rows else 0,
        last_row=first + len(told.rows),
        pages=pages,
        before=_path(address.at_page(min(pages, address.page - 1))) if address.page > 1 else "",
        after=_path(address.at_page(address.page + 1)) if address.page < pages else "",
        is_ready=reading is not None,
    )


def device_view(history: DeviceHistory, shown: Preset, now_s: int, seen_since_s: int) -> DeviceView:
    """One device at `now_s`."""
    whole = total(history.tallies.values())
    running = tuple(each for each in history.models if each.boot_id == history.device.boot_id)
    return DeviceView(
        device=history.device,
        presence=presence_of(history.device, seen_since_s),
        now_s=now_s,
        axis=history.axis,
        shown=shown,
        presets=tuple(PRESETS.values()),
        total=whole,
        offload_ratio=ratio_of(whole),
        p99_ms=p99_ms(whole),
        running=running,
        ended=tuple(each for each in history.models if each.boot_id != history.device.boot_id),
        offload_chart=offload_chart(history.axis, history.tallies),
        outcome_chart=outcome_chart(history.axis, history.tallies),
        p99_chart=p99_chart(history.axis, history.tallies),
        changes=_changes(history),
    )


def presence_of(device: DeviceState, seen_since_s: int) -> str:
    """`online`, `silent` or `offline`."""
    if not device.is_online:
        return "offline"
    return "online" if device.last_seen_s is not None and device.last_seen_s >= seen_since_s else "silent"


def gate_words(running: DeviceModel) -> str:
    """From which score on the device keeps its answers."""
    threshold = running.gate.threshold
    return "escalates all" if threshold is None else f"keeps from {threshold:.4g}"


def in_force_words(in_force: dict[str, float]) -> str:
    """`kept-disagreement ≤ 5.0%`."""
    return ", ".join(f"{risk} ≤ {percent(alpha)}" for risk, alpha in sorted(in_force.items())) or "nothing promised"


def _row(listed: ListedDevice, seen_since_s: int) -> ListedRow:
    running = listed.running
    return ListedRow(
        device=listed.device,
        presence=presence_of(listed.device, seen_since_s),
        running=running,
        offload_ratio=running.wanted / running.accepted if running and running.accepted > 0 else None,
        link_words=LINK_WORDS.get(running.cloud_link, running.cloud_link) if running else "",
        gate_words=gate_words(running) if running else "",
        policy_words=_policy_words(running) if running else "",
    )


def _policy_words(running: DeviceModel) -> str:
    if running.gate.refused_policy_id:
        return "refused"
    return "obeyed" if running.gate.policy_id else "none"


def _heading(address: DevicesAddress, key: str, title: str) -> Heading:
    direction = ("descending" if address.is_descending else "ascending") if key == address.sort_key else ""
    return Heading(key, title, _path(address.sorted_by(key)), direction)


def _path(address: DevicesAddress) -> str:
    return f"{PATH}?{address.query()}" if address.query() else PATH


def _changes(history: DeviceHistory) -> tuple[Change, ...]:
    """Newest first. Of a boot that has ended, its last word is what is known."""
    changes = [Change(history.device.first_heard_s, "First heard", "The device reported for the first time.")]
    for policy in history.policies:
        force = "escalate all" if policy.escalates_all else in_force_words(dict(policy.in_force))
        sent = "" if policy.published_s is not None else " Not sent yet."
        because = f" Because: {policy.reason}." if policy.reason else ""
        changes.append(
            Change(
                policy.issued_s,
                "Policy",
                f"{policy.policy_id} for {policy.model} in ring {policy.ring} by {policy.issued_by}: {force}."
                f"{because}{sent}",
            )
        )
    for alarm in history.alarms:
        seen = f" Acknowledged by {alarm.acknowledged_by}." if alarm.acknowledged_by else ""
        text = f"{alarm.model}, ring {alarm.ring}: {alarm.text}{seen}"
        changes.append(Change(alarm.raised_s, f"Alarm: {alarm.kind}", text))
    for model in history.models:
        if model.boot_id != history.device.boot_id:
            text = f"Boot {model.boot_id} with {model.model} {model.model_version} was last heard."
            changes.append(Change(model.heard_s, "Boot ended", text))
    return tuple(sorted(changes, key=lambda change: -change.at_s))
