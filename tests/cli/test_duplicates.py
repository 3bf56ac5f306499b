"""``clerestory data duplicates`` and ``clerestory completion``."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import pytest
from tests.support.images import solid_image

from clerestory.cli.main import run


def test_images_that_are_there_twice_are_listed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, colours in {"train": {"a": "red", "b": "navy", "=c": "red"}, "test": {"d": "red", "e": "gold"}}.items():
        (tmp_path / "pictures" / split).mkdir(parents=True)
        for name, colour in colours.items():
            (tmp_path / "pictures" / split / f"{name}.png").write_bytes(solid_image(colour))
    table = tmp_path / "twice.csv"
    chosen = ["data", "duplicates", str(tmp_path / "pictures"), "--home", str(tmp_path / "home")]
    assert run([*chosen, "--csv", str(table), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {Path(row["image"]).stem for row in rows} == {"a", "=c", "d"}
    assert {row["group"] for row in rows} == {1}
    assert len({row["split"] for row in rows}) == 2
    assert any(row["other split"] for row in rows)
    written = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    assert len(written) == 3
    assert all(not cell.startswith("=") for row in written for cell in row.values())
    assert run(chosen) == 0
    assert "1 image more than once, 2 copies of 5 samples" in capsys.readouterr().out
    assert run([*chosen, "--csv", str(table)]) == 2  # an existing file is not replaced
    assert "already exists" in capsys.readouterr().err


def test_data_without_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pictures").mkdir()
    for colour in ("red", "navy"):
        (tmp_path / "pictures" / f"{colour}.png").write_bytes(solid_image(colour))
    assert run(["data", "duplicates", str(tmp_path / "pictures"), "--home", str(tmp_path / "home")]) == 0
    assert "is there more than once" in capsys.readouterr().out


def test_the_script_for_a_shell_is_valid_and_knows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "bash"]) == 0
    printed = capsys.readouterr()
    assert "source <(clerestory completion bash)" in printed.err
    for command in ("evaluate", "duplicates", "--suites"):
        assert command in printed.out
    asked = "COMP_WORDS=(clerestory da); COMP_CWORD=1; complete -p clerestory"
    shown = subprocess.run(["bash", "-c", f"{printed.out}\n{asked}"], capture_output=True, text=True, check=True)
    assert "clerestory" in shown.stdout
    assert run(["completion", "tcsh"]) == 2
