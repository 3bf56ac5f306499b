"""``clerestory watch drift --replay``: exit codes, JSON, the report, and logs that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from clerestory.cli.main import run


def _log(path: Path, num: int, mean: float, seed: int, begin: float = 1.7e9) -> str:
    rows = np.random.default_rng(seed).normal(mean, 1, (num, 4))
    lines = [f"{begin + i * 600:.0f}," + ",".join(f"{x:.4f}" for x in row) for i, row in enumerate(rows)]
    path.write_text("\n".join(["time,e0,e1,e2,e3", *lines, ""]), encoding="utf-8")
    return str(path)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "home"))


@pytest.fixture
def reference(tmp_path: Path) -> str:
    return _log(tmp_path / "reference.csv", 800, 0, 0, 1.6e9)


def _replay(*args: str) -> int:
    return run(["watch", "drift", *args])


@pytest.mark.parametrize(("mean", "num", "code"), [(0.0, 1_600, 0), (3.0, 1_600, 1), (0.0, 1, 3)])
def test_the_exit_code_says_whether_there_is_drift(
    mean: float, num: int, code: int, tmp_path: Path, reference: str
) -> None:
    assert _replay("--replay", _log(tmp_path / "live.csv", num, mean, 1), "--reference", reference) == code


def test_an_alarm_as_json_and_as_a_report(tmp_path: Path, reference: str, capsys: pytest.CaptureFixture[str]) -> None:
    live, out = _log(tmp_path / "live.csv", 1_600, 3.0, 1), tmp_path / "drift.html"
    args = ("--replay", live, "--reference", reference, "--out", str(out))
    assert _replay(*args, "--json") == 1
    assert json.loads(capsys.readouterr().out)["alarms"]
    page = out.read_bytes()
    assert b"<html" in page
    assert b'src="http' not in page
    assert _replay(*args) == 2
    assert out.read_bytes() == page


def test_a_date_divides_one_log_into_reference_and_traffic(tmp_path: Path) -> None:
    assert _replay("--replay", _log(tmp_path / "live.csv", 2_400, 0.0, 1), "--until", "2023-11-20") == 0


def test_an_empty_log_and_no_reference_are_usage_errors(tmp_path: Path, reference: str) -> None:
    assert _replay("--replay", _log(tmp_path / "live.csv", 0, 0.0, 1), "--reference", reference) == 2
    assert _replay("--replay", reference) == 2


def test_rows_that_cannot_be_used_do_not_end_a_replay(tmp_path: Path, reference: str) -> None:
    live = tmp_path / "live.csv"
    _log(live, 1_600, 0.0, 1)
    with live.open("a", encoding="utf-8") as file:
        file.write("1700960000,nan,0,0,0\n,0,0,0,0\n1700960600,0,0\n")
    assert _replay("--replay", str(live), "--reference", reference) == 0
