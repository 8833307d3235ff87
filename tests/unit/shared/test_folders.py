"""A folder is the old one or the new one, whatever a kill or an error left beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.folders import replacing_folder


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "parent" / "models"


def write(destination: Path, text: str) -> None:
    with replacing_folder(destination) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "text").write_text(text, encoding="utf-8")


def read(destination: Path) -> str:
    assert [path.name for path in destination.parent.iterdir()] == [destination.name]
    return (destination / "inner" / "text").read_text(encoding="utf-8")


def test_a_new_folder_takes_the_place_of_the_old_one(destination: Path) -> None:
    write(destination, "old")
    write(destination, "new")
    assert read(destination) == "new"


def test_an_error_leaves_the_old_folder_and_nothing_beside_it(destination: Path) -> None:
    write(destination, "old")
    with pytest.raises(OSError, match="no room"), replacing_folder(destination) as folder:
        (folder / "half").touch()
        raise OSError("no room")
    assert read(destination) == "old"


def test_what_was_half_built_is_begun_anew(destination: Path) -> None:
    stale = destination.with_name(".models.building")
    stale.mkdir(parents=True)
    (stale / "half").touch()
    write(destination, "new")
    assert read(destination) == "new"
    assert not (destination / "half").exists()


def test_a_folder_that_was_retired_and_not_replaced_is_back_before_a_new_one_is_begun(destination: Path) -> None:
    write(destination, "old")
    destination.rename(destination.with_name(".models.retired"))
    with pytest.raises(OSError, match="no room"), replacing_folder(destination):
        raise OSError("no room")
    assert read(destination) == "old"


def test_a_folder_that_was_replaced_and_not_yet_taken_away_goes(destination: Path) -> None:
    write(destination.with_name(".models.retired"), "old")
    write(destination, "new")
    write(destination, "newer")
    assert read(destination) == "newer"


def test_where_the_name_belongs_to_a_file_it_is_an_error(destination: Path) -> None:
    destination.parent.mkdir()
    destination.parent.joinpath("file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        write(destination.parent / "file" / "models", "new")
