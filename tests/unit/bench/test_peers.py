"""The protocol between the measurement and an engine's process, and how answers are compared."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench.peers.agreement import DisagreementError, Expected, check_class, check_tokens
from tests.bench.peers.contestants import CONTESTANTS, Contestant
from tests.bench.peers.peer import Floats
from tests.bench.peers.remote import AbsentError, RemotePeer
from tests.bench.peers.worker import serve

PROMPT = [3, 4]
STATE = np.array([1.0, 0.0], np.float32)
FIRSTS = np.array([0.1, 4.0, 3.9, -1.0], np.float32)
SECONDS = {1: np.array([5.0, 0.0, 0.0, 0.0], np.float32)}
EXPECTED = Expected(PROMPT, {2: STATE, 4: FIRSTS}, SECONDS)
CHOSEN = Contestant("fake", "fake", "")


class FakePeer:
    """Answers with `state`, and with `tokens` one after the other; notes what it is asked."""

    def __init__(self, state: Floats = STATE, tokens: Sequence[int] = ()) -> None:
        self.calls: list[str] = []
        self._state, self._tokens = state, list(tokens)

    def prepare(self, checkpoint: Path) -> None:
        raise OSError(f"no room for {checkpoint.name}")

    def classify(self, ids: Sequence[int]) -> Floats:
        self.calls.append(f"classify {list(ids)}")
        return self._state

    def first_token(self, ids: Sequence[int]) -> int:
        self.calls.append(f"first_token {list(ids)}")
        return self._tokens.pop(0) if self._tokens else 0

    def step(self) -> int:
        self.calls.append("step")
        return self._tokens.pop(0) if self._tokens else 0


def asked(peer: FakePeer, *requests: dict[str, object]) -> list[dict[str, Any]]:
    answers = io.StringIO()
    serve(io.StringIO("".join(json.dumps(one) + "\n" for one in requests)), answers, CHOSEN, lambda: peer)
    return [json.loads(line) for line in answers.getvalue().splitlines()]


def test_runs_that_warm_up_are_not_timed() -> None:
    peer = FakePeer()
    answer = asked(peer, {"do": "time", "task": "classify", "ids": [5], "runs": 3, "warm_runs": 1, "warm_s": 0})[0]
    assert len(answer["ms"]) == 3
    assert peer.calls == ["classify [5]"] * 4


def test_steps_follow_one_prompt() -> None:
    peer = FakePeer()
    asked(peer, {"do": "time", "task": "step", "ids": [5], "runs": 2, "warm_runs": 3, "warm_s": 0})
    assert peer.calls == ["first_token [5]", *["step"] * 5]


def test_a_failed_request_is_answered_with_its_reason_and_the_next_one_served() -> None:
    failed, served = asked(FakePeer(), {"do": "prepare", "checkpoint": "net"}, {"do": "once", "ids": [1]})
    assert failed == {"error": "OSError: no room for net"}
    assert "peak_kib" in served


def test_an_engine_that_cannot_be_opened_answers_every_request_with_the_reason() -> None:
    def opened() -> FakePeer:
        raise ModuleNotFoundError("No module named 'engine'")

    answers = io.StringIO()
    serve(io.StringIO('{"do": "once", "ids": [1]}\n' * 2), answers, CHOSEN, opened)
    assert answers.getvalue().count("No module named 'engine'") == 2


def test_a_process_that_dies_is_absent_with_its_last_words(tmp_path: Path) -> None:
    with (
        RemotePeer(Path(sys.executable), "nobody", tmp_path, tmp_path / "log") as worker,
        pytest.raises(AbsentError, match="ended with status 1: StopIteration"),
    ):
        worker.ask(do="once", ids=[1])


def test_an_environment_that_is_missing_is_absent_too(tmp_path: Path) -> None:
    with pytest.raises(AbsentError, match="does not start"):
        RemotePeer(tmp_path / "bin" / "python", "nobody", tmp_path, tmp_path / "log")


def test_a_state_turned_away_from_the_expected_one_is_refused() -> None:
    assert check_class(FakePeer(np.array([2.0, 0.1], np.float32)), EXPECTED, 0.95) == "cosine 0.9988"
    with pytest.raises(DisagreementError, match=r"FP32 0\.7071"):
        check_class(FakePeer(np.array([1.0, 1.0], np.float32)), EXPECTED, 0.95)


def test_an_answer_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(DisagreementError):
        check_class(FakePeer(np.array([np.nan, 1.0], np.float32)), EXPECTED, 0.6)


def test_likely_tokens_are_accepted_and_an_unlikely_second_is_refused() -> None:
    assert check_tokens(FakePeer(tokens=[1, 0]), EXPECTED, 0.95) == "tokens 1.00, 1.00"
    with pytest.raises(DisagreementError):
        check_tokens(FakePeer(tokens=[1, 3]), EXPECTED, 0.95)


def test_after_a_first_token_without_logits_the_step_has_to_equal_a_longer_prompt() -> None:
    assert check_tokens(FakePeer(tokens=[2, 0, 0]), EXPECTED, 0.95) == "tokens 0.98"
    with pytest.raises(DisagreementError, match="longer prompt"):
        check_tokens(FakePeer(tokens=[2, 0, 1]), EXPECTED, 0.95)


def test_each_contestant_has_a_folder_and_a_name_of_its_own() -> None:
    assert len({one.folder_name for one in CONTESTANTS}) == len({one.name for one in CONTESTANTS}) == len(CONTESTANTS)
