"""``clerestory data audit``: the verdict, the page and the table."""

from __future__ import annotations

import csv
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
