"""The names of datasets: unique, stable, and never replaced unasked."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from tests.support.images import solid_image

from clerestory.apps.datasets import add_dataset, check_dataset, load_dataset
from clerestory.cli.main import run
from clerestory.core.errors import DataError, InputError
from clerestory.data import locate
from clerestory.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "home")


def photos(folder: Path, colour: str = "red") -> Path:
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(solid_image(colour))
    return folder


def test_a_folder_keeps_the_whole_of_its_name(tmp_path: Path, store: Store) -> None:
    for year, colour in (("2023", "red"), ("2024", "blue")):
        assert add_dataset(store, str(photos(tmp_path / f"photos.{year}", colour))).name == f"photos.{year}"
    assert [row.name for row in store.datasets()] == ["photos.2023", "photos.2024"]
    (tmp_path / "photos.2023" / "my.table.csv").write_text("image,caption\na.png,red\n", encoding="utf-8")
    assert add_dataset(store, str(tmp_path / "photos.2023" / "my.table.csv")).name == "my.table"


def test_a_second_dataset_of_a_name_does_not_replace_the_first_unasked(tmp_path: Path, store: Store) -> None:
    first, second = photos(tmp_path / "x" / "pics", "red"), photos(tmp_path / "y" / "pics", "blue")
    digest = add_dataset(store, str(first)).digest
    for give_name in ("", "pics"):
        with pytest.raises(InputError, match=r"the name 'pics' belongs to the dataset from .*x/pics") as caught:
            add_dataset(store, str(second), give_name)
        assert "--name" in caught.value.fix
    assert load_dataset(store, str(second)).name == "pics-2", (
        "nobody named it, and commands such as search take no name"
    )
    assert store.dataset("pics").digest == digest
    assert add_dataset(store, str(second), "pics 2").name == "pics 2"
    assert load_dataset(store, str(second)).name in ("pics-2", "pics 2")
    assert add_dataset(store, str(second), "pics", replace=True).digest == store.dataset("pics").digest != digest


def test_a_dataset_whose_folder_has_moved_keeps_its_name(tmp_path: Path, store: Store) -> None:
    first = photos(tmp_path / "x" / "pics")
    digest = add_dataset(store, str(first)).digest
    (tmp_path / "y").mkdir()
    first.rename(tmp_path / "y" / "pics")
    assert add_dataset(store, str(tmp_path / "y" / "pics")).digest == digest
    assert store.dataset("pics").spec == str(tmp_path / "y" / "pics")


def test_a_folder_does_not_take_the_name_of_a_built_in_dataset(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "icons")
    with pytest.raises(InputError, match="'icons' is the name of a built-in dataset") as caught:
        add_dataset(store, str(tmp_path / "icons"))
    assert "--name" in caught.value.fix
    monkeypatch.chdir(tmp_path)
    assert locate("icons").spec == "icons"
    assert locate("./icons").spec == str(tmp_path / "icons")


def test_what_is_stored_opens_from_any_folder(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = {"image": [{"bytes": solid_image("red"), "path": None}], "caption": ["a red tile"]}
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    datasets.Dataset.from_dict(cells, features=features).save_to_disk(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    data = add_dataset(store, "hf:./data")
    assert data.name == "data"
    assert store.dataset("data").spec == f"hf:{tmp_path / 'data'}"
    monkeypatch.chdir("/")
    assert load_dataset(store, "data").digest == data.digest
    assert locate("hf:org/name#some").spec == "hf:org/name#some"


def test_printed_commands_can_be_pasted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(tmp_path / "my 'new' photos")
    colours = ("red", "blue", "green", "yellow", "white", "black", "orange", "purple", "navy", "pink")
    for colour in colours:
        (folder / f"{colour}.png").write_bytes(solid_image(colour))
    rows = "".join(f"{colour}.png,{colour} square\n" for colour in colours)
    (folder / "captions.csv").write_text(f"image,caption\n{rows}", encoding="utf-8")
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "home"))
    assert run(["data", "add", str(folder)]) == 0
    command = capsys.readouterr().err.rsplit("next: ", 1)[1]
    assert shlex.split(command) == ["clerestory", "train", "--data", folder.name]
    (folder / "b.png").write_bytes(solid_image("brown"))
    assert run(["data", "show", folder.name]) == 2
    command = capsys.readouterr().err.rsplit("with: clerestory ", 1)[1]
    assert run(shlex.split(command)) == 0
    assert run(["data", "show", folder.name]) == 0


def test_a_path_that_is_not_utf8_is_one_sentence(tmp_path: Path, store: Store) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    with pytest.raises(DataError, match=r"caf\\xe9 is not UTF-8"):
        add_dataset(store, os.fsdecode(folder))


@pytest.mark.parametrize("name", ["../x", "''", "a\nb", "\x1b[31m", " x", "-x", "a/b", "x" * 101])
def test_a_name_that_a_table_or_a_command_cannot_hold_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "a.png").write_bytes(solid_image())
    with pytest.raises(InputError, match="cannot be the name of a dataset"):
        add_dataset(store, str(tmp_path), name)


@pytest.mark.parametrize("name", ["shoes", "Schuhe für Kinder (2)", "靴", "a"])
def test_other_names_are_accepted(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "a.png").write_bytes(solid_image())
    assert add_dataset(store, str(tmp_path), name).name == name


def test_a_name_is_checked_at_once_and_registered_names_are_suggested(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.png").write_bytes(solid_image("red"))
    add_dataset(store, str(folder), "holidays")
    for name in ("holidays", "icons", "hf:org/name", str(folder), f"new-splits:{folder}"):
        check_dataset(store, name)
    for load in (check_dataset, load_dataset):
        with pytest.raises(DataError, match="'hollidays' does not exist") as caught:
            load(store, "hollidays")
        assert "holidays" in caught.value.closest


@pytest.mark.parametrize(
    "command",
    [
        "tune photos --data absent",
        "tune photos --data photographs --retain absent",
        "tune absent --data photographs",
        "evaluate photos --data absent",
        "evaluate absent --data photographs",
        "train --data absent",
        "use search dog --data absent",
        "serve --data absent",
    ],
)
def test_a_wrong_name_is_refused_before_torch_is_imported(command: str, tmp_path: Path) -> None:
    code = (
        f"import sys; from clerestory.cli.main import run; print(run({shlex.split(command)!r}), 'torch' in sys.modules)"
    )
    environment = {**os.environ, "CLERESTORY_HOME": str(tmp_path / "home")}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert shown.stdout.split() == ["2", "False"], shown.stderr
