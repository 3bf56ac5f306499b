"""Captions of image files, and the table that names them: it is the user's, and it opens again as data."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.support.colour_tiles import ColourModel
from tests.support.images import encode_image, solid_image

from clerestory.apps.captioning import caption_files, captions_csv, check_file, file_cell, image_files, safe_path
from clerestory.cli.main import run
from clerestory.data import open_data

NAMES = [
    "a.png",
    "=1+2.png",
    "+a.png",
    "-a.png",
    "@x.png",
    "＝a.png",
    "'q.png",
    'say "hi", twice.png',
    "ü ö.png",
    " =b.png",
]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the home of a store, as the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CLERESTORY_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("folder", ["", "photos/one"])
def test_the_table_opens_again_with_every_file_under_its_own_name(work: Path, folder: str) -> None:
    images = []
    for i, name in enumerate(NAMES):
        for sub in ("x", "y"):
            path = work / folder / sub / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(solid_image((i * 20, 0 if sub == "x" else 255, 90)))
            images.append(path)
    table = work / "captions.csv"
    rows = [{"file": file_cell(path, table), "caption": f"=caption of {i}"} for i, path in enumerate(images)]
    table.write_text(captions_csv(rows), encoding="utf-8", newline="")
    data = open_data(table)
    assert {sample.id for sample in data} == {path.relative_to(work).as_posix() for path in images}
    for i, path in enumerate(images):
        sample = data[path.relative_to(work).as_posix()]
        assert data.read(sample) == path.read_bytes()
        assert sample.caption == f"'=caption of {i}"


@settings(max_examples=100, deadline=None)
@given(name=st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=30))
def test_a_file_name_is_never_a_formula_and_always_the_same_file(name: str) -> None:
    cell = file_cell(Path("photos") / name, Path("photos") / "captions.csv")
    assert cell.lstrip(" ")[:1] not in "=+-@＝＋－＠" or not cell.strip()
    assert os.path.normpath(cell) == os.path.normpath(name)


def test_files_are_captioned_in_their_order_and_unreadable_ones_have_a_reason(tmp_path: Path) -> None:
    for name, colour in (("a.png", "crimson"), ("c.png", "navy")):
        (tmp_path / name).write_bytes(encode_image(Image.new("RGB", (9, 9), colour)))
    (tmp_path / "b.png").write_bytes(b"GIF89a")
    files = [tmp_path / name for name in ("a.png", "b.png", "missing.png", "c.png")]
    results = dict(caption_files(ColourModel(silent=""), files, 1))
    assert list(results) == files
    assert results[files[0]].suggestions[0].text == "crimson tile"  # type: ignore[union-attr]
    assert results[files[3]].suggestions[0].text == "navy tile"  # type: ignore[union-attr]
    assert "GIF" in str(results[files[1]])
    assert results[files[2]] == "there is no such file"
    assert [bool(check_file(path)) for path in files] == [False, True, True, False]


def describe(*arguments: str) -> int:
    return run(["use", "describe", *arguments, "--model", "starter", "--quiet"])


def test_a_table_written_by_hand_is_not_overwritten(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "a.png").write_bytes(solid_image())
    (work / "captions.csv").write_text("image,caption\na.png,by hand\n", encoding="utf-8")
    assert describe("a.png", "--csv", "captions.csv") == 2
    assert "captions.csv already exists" in capsys.readouterr().err
    assert (work / "captions.csv").read_text(encoding="utf-8") == "image,caption\na.png,by hand\n"
    assert describe("a.png", "--csv", "captions.csv", "--force") == 0
    assert "by hand" not in (work / "captions.csv").read_text(encoding="utf-8")


def test_a_wrong_output_is_an_error_before_the_work(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "a.png").write_bytes(solid_image())
    assert describe("a.png", "--csv", "no/such/captions.csv") == 2
    assert "does not exist" in capsys.readouterr().err
    assert describe("a.png", "--csv", "a.png", "--force") == 2
    assert "is one of the images" in capsys.readouterr().err
    assert (work / "a.png").read_bytes() == solid_image()
    assert not (work / "no").exists()
    assert not (work / "home").exists()  # not even the store was opened


def test_images_of_two_folders_stay_apart_and_odd_names_are_said(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("x", "y"):
        (work / folder).mkdir()
        (work / folder / "d.png").write_bytes(solid_image())
    odd = os.fsdecode(b"x/caf\xe9.png")
    (work / odd).write_bytes(solid_image())
    assert run(["use", "describe", "x/d.png", "y/d.png", odd, "--model", "starter", "--csv", "captions.csv"]) == 1
    assert "not UTF-8" in capsys.readouterr().err
    assert {sample.id for sample in open_data(work / "captions.csv")} == {"x/d.png", "y/d.png"}


def test_a_name_in_the_table_of_a_review_is_the_name_of_the_file() -> None:
    assert [safe_path(name) for name in ("=a.png", "a.png", "@b.png")] == ["./=a.png", "a.png", "./@b.png"]


def test_folders_are_captioned_at_any_depth_and_confidence_is_a_word(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "in/deep").mkdir(parents=True)
    (work / "in/.thumbnails").mkdir()
    for i, name in enumerate(["in/b.PNG", "in/deep/a.png", "in/.hidden.png", "in/.thumbnails/a.png", "in/deep/c.jfif"]):
        (work / name).write_bytes(solid_image((i, 9, 200)))
    (work / "in/notes.txt").write_text("not an image", encoding="utf-8")
    (work / "in/deep/c.jfif").write_bytes(solid_image("green", kind="JPEG"))
    assert image_files([work / "in"]) == [work / "in/b.PNG", work / "in/deep/a.png", work / "in/deep/c.jfif"]
    assert describe("in", "--csv", "captions.csv") == 0
    assert "%" not in capsys.readouterr().out
    rows = list(csv.DictReader((work / "captions.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert [row["file"] for row in rows] == ["in/b.PNG", "in/deep/a.png", "in/deep/c.jfif"]
    assert {row["confidence"] for row in rows} <= {"unlikely", "possible", "likely"}
    (work / "empty").mkdir()
    assert describe("empty") == 2
    assert "has no images" in capsys.readouterr().err


def test_many_unreadable_files_have_one_summary(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "in").mkdir()
    for i in range(50):
        (work / f"in/{i}.png").write_bytes(b"")
    assert run(["use", "describe", "in", "--model", "starter"]) == 2
    assert len(capsys.readouterr().err.splitlines()) < 10


def test_a_named_pipe_is_named_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(solid_image())
    os.mkfifo(tmp_path / "b.png")
    results = dict(caption_files(ColourModel(silent=""), image_files([tmp_path]), 1))
    assert results[tmp_path / "b.png"] == "it is a pipe, a device or a socket, not a file"
    assert not isinstance(results[tmp_path / "a.png"], str)
