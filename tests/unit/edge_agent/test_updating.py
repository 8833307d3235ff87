from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.agent import Agent
from edge_agent.config import load_agent_settings
from edge_agent.update.disk import RealDisk
from edge_agent.update.machine import Life, UpdateState
from edge_agent.update.slots import ModelSlots, installed_of
from edge_agent.updating import InstalledModels, updates_folder
from shared.bundle import read_bundle
from shared.errors import ConfigurationError
from tests.support.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.anyio


def configured(folder: Path) -> Path:
    write_tiny_bundle(folder / "v1", version="1.0.0")
    file = folder / "agent.toml"
    file.write_text(
        'device_id = "d1"\nmodels = [{ bundle = "v1" }]\n[http]\nport = 0\n'
        '[update]\nroot_file = "nowhere.json"\ntransport = "http"\nurl = "http://127.0.0.1:9"\n',
        encoding="utf-8",
    )
    return file


def slots_of(config: Path) -> ModelSlots:
    settings = load_agent_settings(config)
    return ModelSlots(updates_folder(settings), settings.models[0].bundle, RealDisk())


def put_in_slot(config: Path, slot: str, version: str, told: str) -> None:
    """The bundle `version` lies in a slot that is known to hold the bundle `told`, and is the active one."""
    slots, folders = slots_of(config), {}
    for each in {version, told}:
        folders[each] = slots.folder(slot) if each == version else config.parent / each
        write_tiny_bundle(folders[each], version=each)
    installed = installed_of(read_bundle(folders[told]).manifest, 2, "", is_proven=True)
    slots.save(UpdateState("tiny", active=slot, slots={slot: installed}, life=Life.STOPPED))


async def test_starts_that_fail_for_want_of_a_file_are_held_against_no_model(tmp_path: Path) -> None:
    config = configured(tmp_path)
    put_in_slot(config, "a", "2.0.0", "2.0.0")
    for _ in range(4):
        with pytest.raises(ConfigurationError, match="root_file"):
            await Agent(load_agent_settings(config)).run()
    state = slots_of(config).state
    assert (state.active, state.failed_starts, state.crashes, state.life) == ("a", 0, 0, Life.STOPPED)


def test_a_slot_that_holds_another_bundle_than_is_known_of_it_is_not_started(tmp_path: Path) -> None:
    config = configured(tmp_path)
    put_in_slot(config, "a", "3.0.0", "2.0.0")
    installed = InstalledModels(load_agent_settings(config))
    (model,) = installed.load()
    assert (model.identity.version, installed.releases["tiny"].version) == ("1.0.0", "1.0.0")
    assert "slot a" in slots_of(config).state.error


def test_a_slot_that_holds_what_is_known_of_it_is_started(tmp_path: Path) -> None:
    config = configured(tmp_path)
    put_in_slot(config, "b", "2.0.0", "2.0.0")
    (model,) = InstalledModels(load_agent_settings(config)).load()
    assert model.identity.version == "2.0.0"
