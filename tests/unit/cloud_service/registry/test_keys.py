from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cloud_service.registry.keys import KeyFolder
from shared.errors import RegistryError


def test_a_key_file_is_its_owners_alone_and_gives_the_same_key_again(tmp_path: Path) -> None:
    made = KeyFolder(tmp_path / "keys").new("director", "online")

    keyid = made.public_key.keyid
    path = KeyFolder(tmp_path / "keys").find(keyid)
    again = KeyFolder(tmp_path / "keys").signer(keyid)

    assert path is not None and path.parent.name == "online"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert again is not None and again.public_key.keyid == keyid


def test_a_key_with_a_passphrase_is_read_with_it_and_with_no_other(tmp_path: Path) -> None:
    keyid = KeyFolder(tmp_path).new("root", "offline", "open sesame").public_key.keyid

    assert KeyFolder(tmp_path, lambda path: "open sesame").signer(keyid) is not None
    with pytest.raises(RegistryError, match="passphrase is wrong"):
        KeyFolder(tmp_path, lambda path: "guess").signer(keyid)
    assert b"ENCRYPTED" in (KeyFolder(tmp_path).find(keyid) or tmp_path).read_bytes()


def test_a_key_that_others_can_read_does_not_sign(tmp_path: Path) -> None:
    keyid = KeyFolder(tmp_path).new("root", "offline").public_key.keyid
    path = KeyFolder(tmp_path).find(keyid)
    assert path is not None
    path.chmod(0o644)

    with pytest.raises(RegistryError, match="chmod 600"):
        KeyFolder(tmp_path).signer(keyid)


def test_a_file_under_another_keys_name_does_not_sign(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path)
    keyid, other = (keys.new("root", "offline").public_key.keyid for _ in range(2))
    path, others = keys.find(keyid), keys.find(other)
    assert path is not None and others is not None
    path.write_bytes(others.read_bytes())

    with pytest.raises(RegistryError, match="another key"):
        KeyFolder(tmp_path).signer(keyid)


def test_a_retired_key_is_not_found_any_more(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path)
    keyid = keys.new("targets", "offline").public_key.keyid
    keys.retire(keyid)

    assert keys.find(keyid) is None and keys.signer(keyid) is None
    assert keys.is_empty()
