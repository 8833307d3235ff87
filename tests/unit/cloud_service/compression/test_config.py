"""A wrong configuration names the key and the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_service.compression.config import load_config
from shared.errors import ConfigurationError

SHIPPED = Path("deploy/demo/models.toml")


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = SHIPPED.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "models.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def test_the_shipped_configuration_is_read_and_its_folders_are_beside_it() -> None:
    config = load_config(SHIPPED)
    assert config.name == "banking77"
    assert config.bundles_dir.resolve() == (SHIPPED.parent / "bundles").resolve()


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("seed = 77", "sede = 77", "sede: unknown key"),
        ("max_length = 64", "max_length = 64\nmax_lenght = 3", r"data\.max_lenght: unknown key"),
        ("batch_size = 32", "batch_size = 0", r"teacher\.training\.batch_size: .*greater than 0"),
        ("head_size = 32", "head_size = 24", r"full\.shape\.head_size: .*multiple of 16"),
        ("error_alpha = 0.05", "error_alpha = 0.04", "error_alpha must be one of alphas"),
        ("learning_rate = 1e-4", "learning_rate = nan", r"teacher\.training\.learning_rate"),
        ("[full.shape]", 'prompt = "{text}:"\n[full.shape]', "a new network has no language model"),
        ("[full.shape]", "label_words = { a = 'b' }\n[full.shape]", "label_words goes with a prompt"),
        (
            "keep_ratio = 0.67\nffn_keep_ratio = 0.875\nlayers = 2",
            "layers = 2\ntarget.bytes = 9",
            "a target allots by itself",
        ),
        ('name = "banking77"', "name = banking77", "not valid TOML"),
    ],
)
def test_a_mistake_names_the_key_and_the_file(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    path = changed(tmp_path, old, new)
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such configuration file"):
        load_config(tmp_path / "none.toml")
