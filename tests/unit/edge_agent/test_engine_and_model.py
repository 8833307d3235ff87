from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge_agent.config import ModelSettings
from edge_agent.engine.onnxruntime_engine import OnnxRuntimeEngine
from edge_agent.loading import load_model, load_models
from edge_agent.model import EdgeModel
from shared.bundle import Tier, read_bundle
from shared.errors import BundleDigestMismatch, BundleGraphMismatch, ConfigurationError, EngineError
from shared.types import Reason
from tests.support.edge_parts import ScriptedEngine, model_with_engine
from tests.support.tiny_bundle import LABELS, tiny_graph, write_tiny_bundle


def test_the_engine_gives_one_logit_a_label(tiny_folder: Path) -> None:
    engine = OnnxRuntimeEngine(read_bundle(tiny_folder), threads=1)
    logits = engine.predict(np.array([1, 1, 2], np.int64))
    assert logits.dtype == np.float32 and logits.tolist() == [12.0, 6.0, 0.0]


def test_a_graph_that_takes_other_inputs_is_refused(tmp_path: Path) -> None:
    graph = tiny_graph(LABELS)
    graph.graph.input[0].name = graph.graph.node[0].input[1] = "words"
    write_tiny_bundle(tmp_path / "other", graph=graph)
    with pytest.raises(BundleGraphMismatch, match="words"):
        load_model(tmp_path / "other")


def test_a_graph_with_too_few_labels_is_refused(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "few", graph=tiny_graph(LABELS[:2]))
    with pytest.raises(BundleGraphMismatch, match="2 logits for 3 labels"):
        load_model(tmp_path / "few")


def test_a_file_that_is_no_graph_is_an_engine_error(tmp_path: Path) -> None:
    broken = helper.make_model(
        helper.make_graph(
            [helper.make_node("NoSuchOperator", ["input_ids"], ["logits"])],
            "broken",
            [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        )
    )
    write_tiny_bundle(tmp_path / "broken", graph=broken)
    with pytest.raises(EngineError, match="cannot load"):
        load_model(tmp_path / "broken")


def test_a_damaged_bundle_is_not_loaded(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "damaged")
    graph = tmp_path / "damaged" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleDigestMismatch):
        load_model(tmp_path / "damaged")


def test_a_bundle_for_a_newer_onnx_runtime_says_which(tiny_folder: Path) -> None:
    bundle = read_bundle(tiny_folder)
    newer = replace(bundle.manifest, requires=replace(bundle.manifest.requires, onnxruntime="99.1.0"))
    with pytest.raises(EngineError, match=r"needs ONNX Runtime 99\.1\.0"):
        OnnxRuntimeEngine(replace(bundle, manifest=newer), threads=1)


def test_two_models_of_one_name_are_refused(tiny_folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="called 'tiny'"):
        load_models([ModelSettings(bundle=tiny_folder), ModelSettings(bundle=tiny_folder)])


def test_a_sure_prediction_is_kept_and_a_torn_one_is_not(tiny_model: EdgeModel) -> None:
    sure = tiny_model.predict(tiny_model.encode("card"), 3)
    torn = tiny_model.predict(tiny_model.encode("card cash"), 3)
    assert sure.decision.keep and sure.top[0].label == "card"
    assert not torn.decision.keep and torn.decision.reason is Reason.UNCERTAIN
    assert sum(item.score for item in torn.top) == pytest.approx(1.0)


def test_top_k_beyond_the_labels_gives_all_of_them(tiny_model: EdgeModel) -> None:
    assert len(tiny_model.predict(tiny_model.encode("card"), 100).top) == 3


def test_a_bundle_without_a_gate_keeps_nothing(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "full", tier=Tier.FULL)
    model = load_model(tmp_path / "full")
    decision = model.predict(model.encode("card"), 1).decision
    assert (decision.keep, decision.reason, model.gate_threshold) == (False, Reason.UNCERTIFIED, None)


def test_a_gate_without_a_certified_threshold_keeps_nothing(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "uncertified", threshold=None)
    model = load_model(tmp_path / "uncertified")
    assert model.predict(model.encode("card"), 1).decision.reason is Reason.UNCERTIFIED


def test_the_golden_set_notices_another_answer(tiny_folder: Path, tiny_model: EdgeModel) -> None:
    def always_loan(token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.array([0.0, 0.0, 6.0], np.float32)

    tiny_model.check_golden_set()
    with pytest.raises(EngineError, match="'card' gave loan"):
        model_with_engine(tiny_folder, ScriptedEngine(always_loan)).check_golden_set()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_an_engine_error(tiny_folder: Path, wrong: float) -> None:
    model = model_with_engine(tiny_folder, ScriptedEngine(lambda ids: np.array([wrong, 0, 0], np.float32)))
    with pytest.raises(EngineError, match="not finite"):
        model.predict(model.encode("card"), 3)
