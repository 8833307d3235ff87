"""Processes of the demo: ready or a clear error, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import psutil
import pytest

from deploy.demo.errors import DemoError
from deploy.demo.processes import DemoProcess, ProcessPlan, Warden
from deploy.demo.warden import end_run

PARENT = (
    "import subprocess, sys, time; "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True); "
)


@pytest.fixture
def warden(tmp_path: Path) -> Iterator[Warden]:
    one = Warden(tmp_path.name)
    yield one
    one.close()


def process(tmp_path: Path, warden: Warden, code: str, *, ready: bool = True, within_s: float = 5.0) -> DemoProcess:
    async def check() -> bool:
        return ready

    plan = ProcessPlan("it", (sys.executable, "-c", code), tmp_path / "it.log", check, within_s, grace_s=1.0)
    return DemoProcess(plan, warden.mark)


def wait_until_gone(pids: list[int], within_s: float = 8.0) -> bool:
    deadline = time.monotonic() + within_s
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(is_running(pid) for pid in pids)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_process_that_ends_at_once_is_an_error_with_the_end_of_its_log(tmp_path: Path, warden: Warden) -> None:
    one = process(tmp_path, warden, "print('no such bundle'); raise SystemExit(2)", ready=False)
    one.start()
    with pytest.raises(DemoError, match=r"(?s)ended before it was ready.*no such bundle"):
        anyio.run(one.wait_until_ready)


def test_a_process_that_never_serves_is_an_error_in_time(tmp_path: Path, warden: Warden) -> None:
    one = process(tmp_path, warden, "import time; time.sleep(60)", ready=False, within_s=0.3)
    one.start()
    with pytest.raises(DemoError, match=r"not ready within 0\.3 s"):
        anyio.run(one.wait_until_ready)
    anyio.run(one.stop)


def test_a_program_that_is_not_there_is_an_error(tmp_path: Path, warden: Warden) -> None:
    async def never() -> bool:
        return False

    with pytest.raises(DemoError, match="cannot run /nowhere/broker"):
        DemoProcess(ProcessPlan("broker", ("/nowhere/broker",), tmp_path / "log", never), warden.mark).start()


def test_stopping_ends_children_and_those_deaf_to_sigterm(tmp_path: Path, warden: Warden) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    one = process(tmp_path, warden, PARENT + deaf)
    one.start()
    pids = family(one, 2)
    while "deaf" not in (tmp_path / "it.log").read_text():
        time.sleep(0.02)
    anyio.run(one.stop)
    assert wait_until_gone(pids)
    assert one.pid is None


def test_a_killed_process_can_be_started_again(tmp_path: Path, warden: Warden) -> None:
    one = process(tmp_path, warden, "import time; time.sleep(60)")
    one.start()
    first = one.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert wait_until_gone([first])
    assert one.pid is None
    one.kill()
    one.start()
    assert one.pid not in (None, first)
    anyio.run(one.stop)


def test_a_killed_owner_leaves_nothing_behind(tmp_path: Path) -> None:
    owner_code = (
        "import sys, time; from pathlib import Path; from deploy.demo.processes import Warden; "
        "from tests.unit.deploy.demo.test_processes import process, PARENT; "
        "one = process(Path(sys.argv[1]), Warden(sys.argv[2]), PARENT + 'time.sleep(60)'); "
        "one.start(); print(one.pid, flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", owner_code, str(tmp_path), tmp_path.name], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pids = [int(owner.stdout.readline())]
    while len(pids) < 2:
        pids = [pids[0], *(child.pid for child in psutil.Process(pids[0]).children())]
    pids += [child.pid for child in psutil.Process(owner.pid).children()]
    owner.kill()
    owner.wait()
    assert wait_until_gone(pids)


def test_a_killed_process_leaves_no_child_behind_though_it_is_nobodys_any_more(tmp_path: Path, warden: Warden) -> None:
    one = process(tmp_path, warden, PARENT + "time.sleep(60)")
    one.start()
    pids = family(one, 2)
    os.kill(pids[0], signal.SIGKILL)
    one.kill()
    assert wait_until_gone(pids)


def test_only_processes_of_the_run_are_ended(tmp_path: Path, warden: Warden) -> None:
    ours, others = process(tmp_path, warden, "import time; time.sleep(60)"), Warden(f"{warden.mark}-2")
    bystander = process(tmp_path, others, "import time; time.sleep(60)")
    ours.start()
    bystander.start()
    pids = family(ours, 1)
    end_run(warden.mark, grace_s=1.0)
    assert wait_until_gone(pids)
    assert bystander.pid is not None
    others.close()
    assert bystander.pid is None


def test_ending_a_run_that_is_over_already_does_no_harm() -> None:
    end_run("never-started")


def family(one: DemoProcess, size: int) -> list[int]:
    assert one.pid is not None
    pids = [one.pid]
    while len(pids) < size:
        pids = [one.pid, *(child.pid for child in psutil.Process(one.pid).children(recursive=True))]
        time.sleep(0.02)
    return pids
