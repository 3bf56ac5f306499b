"""``clerestory data audit``: the verdict, the page and the table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from tests.support.faulty_data import jpeg, scene

from clerestory.cli.main import run


def test_a_page_is_written_once_and_says_the_same_as_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, seeds in {"train": (1, 2, 3), "test": (1, 4)}.items():
        (tmp_path / "pictures" / split).mkdir(parents=True)
        for seed in seeds:
            (tmp_path / "pictures" / split / f"{split}{seed}.jpg").write_bytes(jpeg(scene(seed)))
    page, table = tmp_path / "audit.html", tmp_path / "findings.csv"
    command = ["data", "audit", str(tmp_path / "pictures"), "--home", str(tmp_path / "home"), "--report", str(page)]
    assert run([*command, "--csv", str(table)]) == 1  # leakage
    said = capsys.readouterr()
    html = page.read_text()
    verdict = next(line for line in said.out.splitlines() if " problem" in line and " warning" in line)
    assert verdict.partition(" of ")[0] in html
    rows = csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines())
    assert {"test1.jpg", "train1.jpg"} <= {Path(row["sample"]).name for row in rows}
    assert "test1.jpg" in html
    page.write_text("mine")
    assert run(command) == 2
    refused = capsys.readouterr()
    assert "already exists" in refused.err
    assert refused.out == ""  # before the work
    assert page.read_text() == "mine"
    assert run([*command, "--force"]) == 1
    assert page.read_text().startswith("<!doctype html>")
    assert run(["data", "audit", str(tmp_path / "pictures"), "--report", str(tmp_path / "no" / "a.html")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_without_a_calibration_the_audit_says_so_and_with_one_how_much_it_may_miss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "home"))
    data = tmp_path / "pictures"
    data.mkdir()
    for seed in range(22):
        (data / f"{seed:02d}.jpg").write_bytes(jpeg(scene(seed)))
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    command = ["data", "audit", str(data), "--set", "min_sharpness=0", "--set", "licences.allow_unknown=true"]
    page = tmp_path / "audit.html"
    assert run([*command, "--report", str(page)]) == 0
    said = capsys.readouterr().out
    assert "was not measured on this data (not calibrated)" in said
    assert f"clerestory data audit {data} --calibrate" in said
    assert "not calibrated" in page.read_text()
    assert run([*command, "--calibrate", "--samples", "22"]) == 0
    said = capsys.readouterr().out
    assert "none was reported; up to" in said
    assert "Calibrated on" in said
    assert run([*command, "--report", str(page), "--force"]) == 0  # the calibration is still valid
    assert "What the checks detect" in page.read_text()
    assert "cluster" not in page.read_text()
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before
    (data / "new.jpg").write_bytes(jpeg(scene(99)))
    capsys.readouterr()
    assert run([*command, "--json"]) == 0  # other data
    assert json.loads(capsys.readouterr().out)["calibration"] is None
    for path in data.glob("1*.jpg"):
        path.unlink()
    assert run([*command, "--calibrate"]) == 2
    assert "needs 20 or more" in capsys.readouterr().err
    assert run([*command, "--calibrate", "--samples", "3"]) == 2
