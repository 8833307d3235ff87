"""What the `keys`, `publish` and `registry` commands do."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timezone

from tuf.api.metadata import Signed

from cloud_service.config import load_cloud_settings
from cloud_service.registry.catalogue import ListedRelease, listed_gates, listed_releases
from cloud_service.registry.ceremony import ROLES, TOP_ROLES, init_repository, renew, revoke, rotate
from cloud_service.registry.chunks import chunks_of
from cloud_service.registry.cleaning import collect, retire
from cloud_service.registry.exceptions import allow, withdraw_exception
from cloud_service.registry.keys import PASSPHRASE_VARIABLE, PINNED_ROOT
from cloud_service.registry.metadata import SignedState, read_manifest
from cloud_service.registry.publishing import Published, publish, publish_gate
from cloud_service.registry.repository import Repository, open_repository
from cloud_service.registry.resigner import Resigner
from cloud_service.registry.verification import verify
from shared.errors import RegistryError
from shared.update.names import RELEASES_ROLE, chunk_path, manifest_target


def init_keys(options: argparse.Namespace) -> int:
    """Make keys and an empty repository."""
    repository = _repository(options)
    init_repository(
        repository, threshold=options.threshold, root_keys=options.keys, passphrase=_new_passphrase(options)
    )
    folder = repository.keys.folder
    _say(f"{folder}/offline: {options.keys} root keys, {options.threshold} of which sign; targets; releases")
    _say(f"{folder}/online: director; publishing (snapshot and timestamp)")
    _say(f"Give devices {folder / PINNED_ROOT}, and keep {folder / 'offline'} off this machine.")
    return 0


def rotate_keys(options: argparse.Namespace) -> int:
    """Give a role new keys."""
    for keyid in rotate(_repository(options), options.role, passphrase=_new_passphrase(options)):
        _say(f"{options.role}: {keyid} signs it no more")
    return 0


def revoke_key(options: argparse.Namespace) -> int:
    """Put a new key in the place of one."""
    roles = revoke(_repository(options), options.key, passphrase=_new_passphrase(options))
    _say(f"{options.key} signs {', '.join(roles)} no more; a new key does")
    return 0


def renew_signatures(options: argparse.Namespace) -> int:
    """Sign offline roles anew."""
    renewed = renew(_repository(options))
    if not renewed:
        raise RegistryError("no offline key is here: bring the key files")
    _say(f"signed anew: {', '.join(renewed)}")
    return 0


def show_keys(options: argparse.Namespace) -> int:
    """Each role's keys and expiry."""
    repository = _repository(options)
    state = repository.state()
    for role in ROLES:
        delegator = state.root.signed if role in TOP_ROLES else state.role("targets")
        of_role = delegator.get_delegated_role(role)
        until = _day(_signed_of(state, role))
        _say(f"{role}: {of_role.threshold} of {len(of_role.keyids)} keys sign; signed until {until}")
        for keyid in of_role.keyids:
            path = repository.keys.find(keyid)
            _say(f"  {keyid} {path.relative_to(repository.keys.folder) if path else 'is not here'}")
    return 0


def publish_bundle(options: argparse.Namespace) -> int:
    """Publish a bundle, or its gate alone."""
    repository = _repository(options)
    if options.gate_only and options.hardware:
        raise RegistryError("a gate is for its release's hardware: leave --hardware out")
    done = publish_gate(repository, options.bundle) if options.gate_only else None
    for line in _published(done or publish(repository, options.bundle, options.hardware)):
        _say(line)
    return 0


def list_releases(options: argparse.Namespace) -> int:
    """The listed releases."""
    for release in listed_releases(_repository(options).state()):
        if options.json:
            _say(json.dumps(asdict(release)))
        else:
            hardware = f" for {', '.join(release.hardware)}" if release.hardware else ""
            gate = f" gate {release.gates[0][:12]}" if release.gates else " without gate"
            excepted = " (allowed below the floor)" if release.is_excepted else ""
            _say(f"{release.model} {release.version} release {release.release}{gate}{hardware}{excepted}")
    return 0


def show_release(options: argparse.Namespace) -> int:
    """One release, or all of a model."""
    repository = _repository(options)
    state = repository.state()
    model, _, version = options.release.partition("@")
    found = [each for each in listed_releases(state, model) if not version or each.version == version]
    if not found:
        raise RegistryError(f"{options.release} is not listed")
    for release in found:
        _say(json.dumps(_details(repository, state, release), indent=1))
    return 0


def verify_all(options: argparse.Namespace) -> int:
    """Read everything; 1 where something is wrong."""
    repository = _repository(options)
    problems = verify(repository)
    for problem in problems:
        _say(problem)
    if not problems:
        state = repository.state()
        _say(f"{len(listed_releases(state))} releases and {len(listed_gates(state))} gates are whole")
    return 1 if problems else 0


def collect_garbage(options: argparse.Namespace) -> int:
    """Take away what nothing names."""
    swept = collect(_repository(options))
    _say(f"took away {swept.files} files of {swept.bytes} bytes; {swept.kept_for_now} are kept for now")
    return 0


def retire_release(options: argparse.Namespace) -> int:
    """Take a release off the list."""
    model, version = _release(options)
    retire(_repository(options), model, version, closes_way_back=options.close_way_back)
    _say(f"{model} {version} is no longer listed")
    return 0


def allow_release(options: argparse.Namespace) -> int:
    """Sign an exception, or take one back."""
    model, version = _release(options)
    if options.withdraw:
        withdraw_exception(_repository(options), model, version)
        _say(f"{model} {version} is bound by the floor again")
    else:
        allow(_repository(options), model, version, options.reason)
        _say(f"{model} {version} may be taken below the floor")
    return 0


def sign_now(options: argparse.Namespace) -> int:
    """Sign once what is due."""
    for warning in Resigner(_repository(options)).sign():
        _say(warning)
    return 0


def _repository(options: argparse.Namespace) -> Repository:
    return open_repository(load_cloud_settings(options.config))


def _release(options: argparse.Namespace) -> tuple[str, str]:
    model, at, version = options.release.partition("@")
    if not at or not version:
        raise RegistryError(f"{options.release!r} is no release: say MODEL@VERSION")
    return model, version


def _new_passphrase(options: argparse.Namespace) -> str:
    if not options.passphrase:
        return ""
    if said := os.environ.get(PASSPHRASE_VARIABLE):
        return said
    if not sys.stdin.isatty():
        raise RegistryError(f"--passphrase needs a terminal, or {PASSPHRASE_VARIABLE}")
    said, again = getpass.getpass("New passphrase: "), getpass.getpass("Again: ")
    if not said or said != again:
        raise RegistryError("the passphrase is empty, or was not the same twice")
    return said


def _published(done: Published) -> Iterator[str]:
    what = f"{done.model} {done.version}, release {done.release}"
    chunks = done.chunks
    if done.was_there:
        yield f"{what}, is listed already as it is"
        return
    if done.manifest_bytes:
        yield f"{what}: {chunks.new} new chunks of {chunks.new_bytes} bytes, stored in {chunks.stored_bytes} bytes;"
        yield f"  {chunks.shared} chunks of {chunks.shared_bytes} bytes were there already"
    if done.gate_digest:
        yield f"{what}: gate {done.gate_digest[:12]} in {done.gate_bytes} bytes"
    if done.unlisted:
        yield f"no longer listed: {', '.join(done.unlisted)}"
    if done.is_staged:
        yield "The keys of snapshot and timestamp are not here: devices see it when their holder signs next."


def _details(repository: Repository, state: SignedState, release: ListedRelease) -> dict[str, object]:
    name = manifest_target(release.model, release.version)
    manifest = read_manifest(repository.target(state, RELEASES_ROLE, name), name)
    stored = {chunk.sha256: chunk.length for _, _, chunk in chunks_of(manifest)}
    return {
        **asdict(release),
        "tier": manifest.tier,
        "model_digest": manifest.model_digest,
        "requires": asdict(manifest.requires),
        "files": {entry.path: entry.length for entry in manifest.files},
        "chunks": len(stored),
        "bytes": sum(stored.values()),
        "missing_chunks": [sha256 for sha256 in stored if not repository.store.exists(chunk_path(sha256))],
    }


def _signed_of(state: SignedState, role: str) -> Signed:
    top = {"root": state.root, "snapshot": state.snapshot, "timestamp": state.timestamp}
    found = top.get(role)
    return found.signed if found else state.role(role)


def _day(signed: Signed) -> str:
    return datetime.fromtimestamp(signed.expires.timestamp(), timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
