"""Which row of `model_states` is a device's newest word on a model."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, or_, select

from cloud_service.storage import tables


def is_present_boot() -> ColumnElement[bool]:
    """Whether a word is of the device's present boot; joins `model_states` and `devices`."""
    states, devices = tables.model_states.c, tables.devices.c
    return and_(states.device_id == devices.device_id, states.boot_id == devices.boot_id)


def is_newest_word() -> ColumnElement[bool]:
    """Whether the device has said nothing newer on that model since its boot; of words of one moment one is taken."""
    states, newer = tables.model_states.c, tables.model_states.alias()
    same = [newer.c[name] == states[name] for name in ("device_id", "model", "boot_id")]
    order = ("heard_s", "sequence", "model_version", "variant")
    is_newer = or_(
        *(
            and_(*(newer.c[before] == states[before] for before in order[:place]), newer.c[name] > states[name])
            for place, name in enumerate(order)
        )
    )
    found = select(newer.c.sequence).where(*same, is_newer).correlate(tables.model_states).exists()
    return ~found
