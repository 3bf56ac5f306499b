"""``clerestory use search`` on a folder: its index, filters, several parts of a query, captions, files as results."""

from __future__ import annotations

import csv
import json
import os
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
    assert {row["confidence"] for row in both} <= {"not measured", "a guess"}
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
