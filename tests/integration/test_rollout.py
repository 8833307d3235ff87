from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from cloud_service.cli import main
from cloud_service.config import load_cloud_settings
from cloud_service.registry.catalogue import find_release
from cloud_service.registry.ceremony import init_repository
from cloud_service.registry.director import Director
from cloud_service.registry.metadata import SignedState
from cloud_service.registry.publishing import publish
from cloud_service.registry.repository import open_repository
from cloud_service.rollout.records import Rollout, RolloutState
from cloud_service.storage.action_store import ActionLog, Wanted
from cloud_service.storage.engine import open_engine
from cloud_service.storage.rollout_reader import RolloutReader
from shared.update.labels import NO_LABELS, Labels
from shared.update.names import ring_target
from shared.update.report import InstalledRelease
from tests.support.fleet_process import CloudRole, wait_until
from tests.support.mosquitto import Mosquitto
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.updating_device import UpdatingDevice

OLD, NEW, NEWER = "1.0.0", "2.0.0", "3.0.0"


class Site:
    """A repository with three releases, a broker, and the rollout service's configuration."""

    def __init__(self, folder: Path, broker: Mosquitto, *, rollout: str = "") -> None:
        self.broker = broker
        self.config = folder / "cloud.toml"
        self.config.write_text(
            f'data_dir = "data"\n[broker]\nport = {broker.port}\n'
            f"[rollout]\nmetrics_port = 0\ninterval_ms = 100\n{rollout}\n",
            encoding="utf-8",
        )
        settings = load_cloud_settings(self.config)
        self._repository = open_repository(settings)
        init_repository(self._repository, threshold=1, root_keys=1)
        for version in (OLD, NEW, NEWER):
            write_tiny_bundle(folder / version, version=version)
            publish(self._repository, folder / version)
        self._url = settings.storage_url()
        self.director = Director(self._repository)

    @property
    def reader(self) -> RolloutReader:
        return RolloutReader(open_engine(self._url, writes=False))

    @property
    def log(self) -> ActionLog:
        return ActionLog(open_engine(self._url, writes=False))

    def device(
        self,
        device_id: str,
        ring: str,
        *,
        refuses: tuple[str, ...] = (),
        password: str | None = None,
        labels: Labels = NO_LABELS,
    ) -> UpdatingDevice:
        """One that runs the old release."""
        old = find_release(self._repository.state(), "tiny", OLD)
        active = InstalledRelease(OLD, "d" * 64, old.gates[0], old.release)
        look_up = self.director.assignments
        port = self.broker.port
        return UpdatingDevice(port, device_id, ring, active, look_up, refuses=refuses, password=password, labels=labels)

    def state(self) -> SignedState:
        return self._repository.state()

    def command(self, *arguments: str) -> int:
        return main(["rollout", *arguments, "--config", str(self.config)])

    def start(self, version: str, *options: str) -> None:
        arguments = ("--rings", "canary,stable", "--soak", "1s", "--from", OLD, *options)
        assert self.command("start", f"tiny@{version}", *arguments) == 0

    def newest(self) -> Rollout:
        return self.reader.rollouts()[0]

    def wait_for(self, state: RolloutState) -> Rollout:
        wait_until(lambda: self.newest().state is state, f"a rollout that is {state.value}: {self.newest().reason}")
        return self.newest()

    def told(self, ring: str) -> str:
        """The version that the director has signed for a ring; "" where there is none."""
        assignment = self.director.assignments().get(ring_target(ring, "tiny"))
        return assignment.arms[0].version if assignment else ""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield Site(tmp_path, broker)


def all_run_only(some: Sequence[UpdatingDevice], all_devices: Sequence[UpdatingDevice], version: str) -> bool:
    """Whether these devices run it, and no other one ever did."""
    return [device for device in all_devices if version in device.ran] == list(some)


def all_run(devices: Sequence[UpdatingDevice], version: str) -> None:
    wait_until(
        lambda: all(device.active.version == version for device in devices),
        f"{version} on {[(device.device_id, device.active.version) for device in devices]}",
    )


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_a_good_bundle_reaches_every_ring(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as stack:
        devices = [stack.enter_context(site.device(f"canary-{number}", "canary")) for number in range(3)]
        devices += [stack.enter_context(site.device(f"stable-{number}", "stable")) for number in range(5)]
        site.start(NEW, "--share", "stable=0.5")
        stack.enter_context(CloudRole(site.config, "rollout"))
        rollout = site.wait_for(RolloutState.DONE)
        all_run(devices, NEW)
        assert [stage.figures.committed for stage in rollout.stages][0::2] == [3, 5]
        assert [(each.ring, each.version, each.devices) for each in site.reader.ring_shares("tiny")] == [
            ("canary", NEW, 3),
            ("stable", NEW, 5),
        ]
    capsys.readouterr()
    assert site.command("status", rollout.id, "--json") == 0
    assert json.loads(capsys.readouterr().out)["state"] == "done"
    assert site.log.verify().problem == ""
    actions = [each.entry.action for each in site.log.read(Wanted(20))]
    assert actions == ["rollout.finish", "rollout.open", "rollout.open", "rollout.open", "rollout.start"]


def test_a_bad_bundle_stops_in_the_first_ring_which_is_soon_back(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        canary = [stack.enter_context(site.device(f"canary-{number}", "canary")) for number in range(2)]
        canary += [
            stack.enter_context(site.device(f"canary-{number}", "canary", refuses=(NEW,))) for number in range(2, 5)
        ]
        stable = [stack.enter_context(site.device(f"stable-{number}", "stable")) for number in range(3)]
        site.start(NEW)
        stack.enter_context(CloudRole(site.config, "rollout"))
        rollout = site.wait_for(RolloutState.ROLLED_BACK)
        assert "devices could not take it" in rollout.reason
        wait_until(lambda: site.told("canary") == OLD, "the director sends the ring back")
        all_run(canary, OLD)
        assert [device.ran for device in canary[:2]] == [[OLD, NEW, OLD]] * 2
        assert [device.ran for device in stable] == [[OLD]] * 3
        assert site.told("stable") == "" and all(device.hints == 0 for device in stable)
        capsys.readouterr()
        assert site.command("status", rollout.id) == 1
        assert "canary-4 (ring canary): the golden set is answered otherwise" in capsys.readouterr().out
        site.start(NEWER)
        assert site.wait_for(RolloutState.DONE).plan.release.version == NEWER
        all_run([*canary, *stable], NEWER)


def test_labels_say_which_devices_of_a_ring_go_first(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    sites = {"d0": "berlin", "d1": "berlin", "d2": "paris", "d3": "rome"}
    with ExitStack() as stack:
        devices = {
            name: stack.enter_context(site.device(name, "canary", labels={"site": place, "line": "3"}))
            for name, place in sites.items()
        }
        devices["old-agent"] = stack.enter_context(site.device("old-agent", "canary"))
        first = [devices[name] for name in ("d0", "d1", "d2")]
        labels = ("--labels", "site:berlin,site:paris,line:3")
        site.start(NEW, "--rings", "canary", *labels, "--min-devices", "3", "--soak", "1h")
        stack.enter_context(CloudRole(site.config, "rollout"))
        rollout = site.wait_for(RolloutState.SOAKING)
        assert all_run_only(first, list(devices.values()), NEW)
        assert [stage.figures.eligible for stage in rollout.stages] == [3, 5]
        capsys.readouterr()
        assert site.command("status", rollout.id) == 0
        said = capsys.readouterr().out
        assert (
            "ring canary, its devices whose line is 3 and whose site is berlin or paris: soaking, of 3 devices" in said
        )
        assert site.command("promote") == 0
        all_run(list(devices.values()), NEW)
        assert site.command("rollback", rollout.id) == 0
        all_run(list(devices.values()), OLD)


def test_prometheus_is_told_where_rollouts_devices_and_orders_stand(site: Site) -> None:
    with site.device("canary-1", "canary"):
        site.start(NEW, "--min-devices", "2")
        with CloudRole(site.config, "rollout") as service:
            (port,) = (found[1] for line in service.log if (found := re.search(r"rollout metrics on \S+:(\d+)", line)))

            def page() -> str:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10.0) as answer:
                    return str(answer.read().decode())

            wait_until(lambda: 'tandem_rollout_devices{model="tiny",phase="committed"} 1.0' in page(), "the device")
            told = page()
    assert 'tandem_rollouts{model="tiny",state="running"} 1.0' in told
    assert 'tandem_rollouts{model="tiny",state="failed"} 0.0' in told
    assert "tandem_rollout_orders_unsigned 0.0" in told
    assert "tandem_rollout_broker_connected 1.0" in told


def test_in_an_emergency_one_command_sends_all_rings_below_the_floor(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        devices = [stack.enter_context(site.device(f"{ring}-1", ring)) for ring in ("canary", "stable")]
        stack.enter_context(CloudRole(site.config, "rollout"))
        for version in (NEW, NEWER):
            site.start(version)
            all_run(devices, version)
            finished = site.wait_for(RolloutState.DONE)
        assert site.command("rollback", finished.id, "--to", OLD) == 2
        assert "below the version floor: say why with --reason" in capsys.readouterr().err
        assert site.command("start", f"tiny@{OLD}", "--rings", "canary") == 2
        assert f"registry allow tiny@{OLD}" in capsys.readouterr().err
        assert site.command("rollback", finished.id, "--to", OLD, "--reason", "it answers wrongly") == 0
        all_run(devices, OLD)
        assert find_release(site.state(), "tiny", OLD).is_excepted
        assert site.command("rollback", site.newest().id) == 0
        all_run(devices, NEWER)


def test_a_broker_that_lost_everything_is_told_again_and_late_devices_take_the_newest(site: Site) -> None:
    with ExitStack() as stack:
        process = stack.enter_context(CloudRole(site.config, "rollout"))
        first = stack.enter_context(site.device("canary-0", "canary"))
        stable = stack.enter_context(site.device("stable-0", "stable"))
        for version in (NEW, NEWER):
            site.start(version)
            site.wait_for(RolloutState.DONE)
            all_run([first, stable], version)
        site.broker.kill()
        site.broker.start()
        late = stack.enter_context(site.device("canary-1", "canary"))
        all_run([late], NEWER)
        assert late.ran == [OLD, NEWER]
        assert process.terminate() == 0


def test_people_pause_approve_promote_and_take_back(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as stack:
        stack.enter_context(CloudRole(site.config, "rollout"))
        devices = [stack.enter_context(site.device(f"{ring}-0", ring)) for ring in ("canary", "stable")]
        site.start(NEW, "--soak", "1h")
        wait_until(lambda: site.newest().state is RolloutState.SOAKING, "the first ring has it")
        assert site.command("pause") == 0
        assert site.newest().state is RolloutState.PAUSED
        time.sleep(0.5)
        assert site.told("stable") == ""
        assert site.command("promote") == 0
        all_run(devices, NEW)
        assert site.command("start", f"tiny@{NEWER}", "--rings", "stable", "--from", OLD) == 2
        assert "has rollout" in capsys.readouterr().err
        assert site.command("rollback") == 0
        all_run(devices, OLD)
        assert site.command("pause") == 2
        site.start(NEWER, "--needs-approval")
        assert site.command("approve") == 2
        assert "another person" in capsys.readouterr().err


def test_a_pinned_device_runs_its_own_release_and_follows_its_ring_again_when_it_is_unpinned(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        stack.enter_context(CloudRole(site.config, "rollout"))
        ring = [stack.enter_context(site.device(f"canary-{number}", "canary")) for number in range(2)]
        dock = stack.enter_context(site.device("dock-1", "canary", refuses=(NEW,)))
        assert site.command("pin", "dock-1", f"tiny@{NEWER}", "--reason", "on the bench") == 0
        all_run([dock], NEWER)
        assert [device.hints for device in ring] == [0, 0]
        capsys.readouterr()
        wait_until(lambda: site.command("pins") == 0 and "runs 3.0.0, committed" in said(capsys), "it says so")
        assert site.command("pins") == 0
        assert re.search(r"dock-1  tiny 3.0.0  since .* by host:.*: on the bench\n", said(capsys))
        site.broker.kill()
        site.broker.start()
        site.start(NEW, "--rings", "canary", "--min-devices", "2")
        rollout = site.wait_for(RolloutState.DONE)
        all_run(ring, NEW)
        assert rollout.stages[0].figures.eligible == 2
        assert dock.ran == [OLD, NEWER]
        capsys.readouterr()
        assert site.command("status") == 0
        assert "1 device is pinned to a release of its own and in no rollout" in said(capsys)
        assert site.command("pin", "dock-1", f"tiny@{OLD}") == 0
        all_run([dock], OLD)
        assert site.command("unpin", "dock-1", "tiny") == 0
        assert "dock-1 follows its ring again for tiny, ring canary" in said(capsys)
        wait_until(lambda: NEW in dock.ran, "the device looks up what its ring is told")
        site.broker.kill()
        site.broker.start()
        late = stack.enter_context(site.device("canary-9", "canary"))
        all_run([late], NEW)
        assert site.command("pins", "--json") == 0
        assert said(capsys) == ""
    actions = [each.entry.action for each in site.log.read(Wanted(20)) if "pin" in each.entry.action]
    assert actions == ["rollout.unpin", "rollout.pin", "rollout.pin"]


def test_a_pin_that_cannot_be_is_refused_in_plain_words(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (("pin", "d/1", f"tiny@{NEW}"), "device 'd/1' is not a name"),
        (("pin", "d1", "tiny"), "write a release as MODEL@VERSION"),
        (("pin", "d1", "tiny@9"), "release 9 is not published; published are 1.0.0, 2.0.0, 3.0.0"),
        (("pin", "d1", f"huge@{NEW}"), "no release of a model huge is published; published models: tiny"),
        (("unpin", "d1", "tiny"), "device d1 is not pinned to a release of tiny"),
    ):
        assert site.command(*arguments) == 2
        assert words in capsys.readouterr().err
    assert main(["registry", "retire", f"tiny@{NEWER}", "--config", str(site.config)]) == 0
    assert site.command("pin", "d1", f"tiny@{NEWER}") == 2
    assert "tiny 3.0.0 was retired" in capsys.readouterr().err
    assert main(["registry", "verify", "--config", str(site.config)]) == 0


def test_a_dry_run_shows_the_plan_and_changes_nothing(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--rings", "canary,stable", "--share", "canary=0.1", "--from", OLD)
    assert site.command("start", f"tiny@{NEW}", *options, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "ring canary, 10% of its devices, watched for 10m, back to 1.0.0" in shown
    test = ("--ab", OLD, NEW, "--ring", "canary", "--share", "0.3")
    assert site.command("start", "tiny", *test, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "1. ring canary, 30% of its devices" in shown and "A/B test of both by device" in shown
    assert site.command("start", "tiny", *test, "--by", "key", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "1. ring canary, 30% of the requests by their key" in shown and "A/B test of both by request key" in shown
    assert site.command("start", f"tiny@{NEW}", "--rings", "canary", "--from", OLD, "--by", "key") == 2
    assert "--by says how an A/B test splits" in capsys.readouterr().err
    assert site.reader.rollouts() == []
    assert site.command("start", f"tiny@{NEW}", "--rings", "canary") == 2
    assert "--from VERSION" in capsys.readouterr().err
    assert site.command("start", "tiny@9", "--rings", "canary", "--from", OLD) == 2
    assert "published are 1.0.0, 2.0.0, 3.0.0" in capsys.readouterr().err


def test_at_a_guarded_broker_it_has_a_login_of_its_own(tmp_path: Path) -> None:
    names = ("tandem-rollout", "canary-0", "stable-0")
    with Mosquitto(tmp_path / "broker", {name: f"word-of-{name}" for name in names}) as broker, ExitStack() as stack:
        secret = tmp_path / "rollout.password"
        secret.write_text("word-of-tandem-rollout\n", encoding="utf-8")
        secret.chmod(0o600)
        site = Site(tmp_path, broker, rollout='password_file = "rollout.password"')
        devices = [stack.enter_context(site.device(name, name[:6], password=f"word-of-{name}")) for name in names[1:]]
        site.start(NEW)
        stack.enter_context(CloudRole(site.config, "rollout"))
        site.wait_for(RolloutState.DONE)
        all_run(devices, NEW)
        assert site.command("pin", "stable-0", f"tiny@{NEWER}") == 0
        all_run(devices[1:], NEWER)
        assert site.command("unpin", "stable-0", "tiny") == 0
        all_run(devices, NEW)
