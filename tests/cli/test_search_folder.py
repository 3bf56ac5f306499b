"""``clerestory use search`` on a folder: its index, filters, several parts of a query, captions, files as results."""

from __future__ import annotations

import csv
import json
import os
import shlex
from pathlib import Path

import pytest
from tests.support.images import solid_image

from clerestory.cli.main import run
from clerestory.store import open_store

COLOURS = ("red", "orange", "yellow", "green", "blue", "navy")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "pictures"
    (folder / "sub").mkdir(parents=True)
    for colour in COLOURS:
        (folder / f"{colour}.png").write_bytes(solid_image(colour, size=(16, 24)))
        (folder / "sub" / f"dark {colour}.png").write_bytes(solid_image(colour, size=(40, 24)))
    (folder / "copy of red.png").write_bytes(solid_image("red", size=(16, 24)))
    (folder / "broken.jpg").write_bytes(b"nothing")
    return folder


def test_a_folder_is_searched_without_becoming_a_dataset(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    chosen = ["--data", str(pictures), "--model", "starter", "--home", str(home), "--json"]

    def found(*arguments: str, code: int = 0) -> list[dict[str, object]]:
        assert run(["use", "search", *arguments, *chosen]) == code
        return json.loads(capsys.readouterr().out or "[]")

    assert run(["use", "search", "a red square", *chosen[:-1], "--limit", "3"]) == 0
    shown = capsys.readouterr()
    assert "broken.jpg is left out: this is not a JPEG, PNG or WEBP image" in shown.err
    with open_store(home) as store:
        assert store.datasets() == []
    like = found("--like", str(pictures / "red.png"), "--limit", "2")
    assert like[0]["id"] == "copy of red.png"
    assert like[0]["copies"] == ["red.png"]
    assert like[0]["score"] == pytest.approx(1, abs=1e-4)
    assert {str(row["id"]) for row in found("red", "--under", "sub", "--limit", "50")} == {
        f"sub/dark {colour}.png" for colour in COLOURS
    }
    assert [row["id"] for row in found("red", "--orientation", "landscape", "--name", "*NA*")] == ["sub/dark navy.png"]
    assert found("red", "--after", "2999") == []
    words = {str(row["id"]): row["score"] for row in found("red", "--limit", "50")}
    both = found("red", "--like", str(pictures / "blue.png"), "--without", "a green thing", "--limit", "50")
    assert {row["confidence"] for row in both} <= {"not measured", "unlikely"}
    assert {str(row["id"]): row["score"] for row in both} != words

    table, links = tmp_path / "hits.csv", tmp_path / "hits"
    rows = found("red", "--csv", str(table), "--links", str(links), "--limit", "4")
    written = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    assert [row["id"] for row in written] == [row["id"] for row in rows]
    assert [(table.parent / row["file"]).resolve() for row in written] == [Path(str(row["file"])) for row in rows]
    assert [os.readlink(link) for link in sorted(links.iterdir())] == [row["file"] for row in rows]
    found("red", "--links", str(links), code=2)
    found("red", "--csv", str(table), code=2)
    found("red", "--after", "yesterday", code=2)
    found("--without", "red", code=2)
    assert run(["use", "search", "red", "--data", "icons", "--under", "sub", "--home", str(home)]) == 2
    assert "need a folder of images" in capsys.readouterr().err
    for name, problem in {"away/photos": "does not exist", str(tmp_path / "broken"): "can be read"}.items():
        (tmp_path / "broken").mkdir(exist_ok=True)
        (tmp_path / "broken" / "a.jpg").write_bytes(b"nothing")
        assert run(["use", "search", "red", "--data", name, "--model", "starter", "--home", str(home)]) == 2
        assert problem in capsys.readouterr().err


def test_captions_of_a_table_are_shown_and_measure_the_confidence(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pictures / "captions.csv"
    files = [path.relative_to(pictures).as_posix() for path in sorted(pictures.rglob("*.png"))]
    table.write_text("file,caption,split\n" + "".join(f"{file},a {Path(file).stem} field,test\n" for file in files))
    try:
        arguments = ["use", "search", "a navy field", "--data", str(pictures), "--model", "starter", "--limit", "20"]
        assert run([*arguments, "--home", str(tmp_path / "home"), "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
        assert {row["id"]: row["caption"] for row in rows}["sub/dark navy.png"] == "a dark navy field"
        assert "not measured" not in {row["confidence"] for row in rows}
    finally:
        table.unlink()


def test_words_after_a_minus_are_avoided_as_those_of_without(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def scores(*words: str) -> dict[str, float]:
        arguments = ["--data", str(pictures), "--model", "starter", "--home", str(tmp_path / "home"), "--json"]
        assert run(["use", "search", *words, *arguments]) == 0
        return {row["id"]: row["score"] for row in json.loads(capsys.readouterr().out)}

    expected = scores("a field", "--without", "red", "--without", "navy blue")
    assert scores('a field -red -"navy blue"') == expected
    assert scores("-red a field", "--without", "navy blue") == expected
    assert scores("a field") != expected
    assert run(["use", "search", "a", "field", "-red", "--data", str(pictures)]) == 2
    assert 'clerestory use search "WORDS -red"' in capsys.readouterr().err


def test_left_out_files_are_named_when_they_change_and_counted_afterwards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "red.png").write_bytes(solid_image("red"))
    (folder / "one.jpg").write_bytes(b"nothing")

    def told(*options: str) -> str:
        chosen = ["--data", str(folder), "--model", "starter", "--home", str(tmp_path / "home")]
        assert run(["use", "search", "red", *chosen, *options]) == 0
        return capsys.readouterr().err

    assert "one.jpg is left out: this is not a JPEG" in told()
    again = told()
    assert "notice: 1 file is left out, as before" in again
    assert "one.jpg" not in again
    (folder / "two.jpg").write_bytes(b"nothing else")
    changed = told()
    assert all(f"{name}.jpg is left out" in changed for name in ("one", "two"))
    assert "2 files are left out, as before" in told()
    assert "two.jpg is left out" in told("--rescan-all")


@pytest.mark.parametrize(("under", "closest"), [("nope", ""), ("sbu", "sub"), ("sub/deeper", ""), ("../photos", "")])
def test_a_subfolder_without_images_is_an_error_with_the_closest(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], under: str, closest: str
) -> None:
    chosen = ["--data", str(pictures), "--model", "starter", "--home", str(tmp_path / "home")]
    assert run(["use", "search", "red", *chosen, "--under", under]) == 2
    error = capsys.readouterr().err
    assert f"there is no subfolder with images named {under!r}" in error
    assert "known: sub" in error
    assert (f"did you mean: {closest}" in error) == bool(closest)


@pytest.mark.parametrize("under", ["./sub/", "sub/../sub", "{pictures}/sub"])
def test_a_subfolder_may_be_written_in_any_way(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], under: str
) -> None:
    chosen = ["--data", str(pictures), "--model", "starter", "--home", str(tmp_path / "home"), "--json"]
    assert run(["use", "search", "red", *chosen, "--under", under.format(pictures=pictures)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows
    assert all(row["id"].startswith("sub/") for row in rows)


def test_a_home_that_cannot_be_made_is_replaced_by_memory(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below a file nobody can make a folder, not even root."""
    (tmp_path / "file").write_bytes(b"")
    home, temporary = tmp_path / "file" / "home", tmp_path / "memory"
    temporary.mkdir()
    monkeypatch.setattr("clerestory.cli.temporary_store.MEMORY", str(temporary))
    arguments = ["--model", "starter", "--home", str(home)]
    assert run(["use", "search", "red", "--data", str(pictures), *arguments, "--limit", "1"]) == 0
    told = capsys.readouterr()
    assert "so the index is kept in memory and made again next time; to keep it, name" in told.err
    assert "copy of red.png" in told.out
    assert run(["use", "describe", str(pictures / "red.png"), *arguments]) == 0
    assert "kept in memory" in capsys.readouterr().err
    monkeypatch.setenv("CLERESTORY_DB", f"sqlite:///{tmp_path}/other.db")
    assert run(["use", "search", "red", "--data", str(pictures), *arguments]) == 2, "that database is not bound to it"
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("red", "{pictures}"), ("a", "red", "photos"), ("{pictures}",), ("red", "./nowhere")]
)
def test_a_folder_in_place_of_the_last_word_is_named_with_the_right_command(
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    given = [word.format(pictures=pictures) for word in words]
    assert run(["use", "search", *given, "--home", "home"]) == 2
    error = capsys.readouterr().err
    assert f"{given[-1]} is a" in error
    query = shlex.quote(" ".join(given[:-1])) if given[:-1] else "WORDS"
    assert f"clerestory use search {query} --data {given[-1]}" in error
    assert not (tmp_path / "home").exists()
    assert run(["serve", given[-1], "--home", "home"]) == 2
    served = capsys.readouterr().err
    assert ("clerestory serve --data" in served) == (given[-1] != "./nowhere")


def test_a_word_of_a_query_may_be_the_name_of_a_folder(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "red").mkdir()
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", str(pictures), "--model", "starter", "--home", "home", "--limit", "1", "--json"]
    assert run(["use", "search", "a", "red", *arguments]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1
