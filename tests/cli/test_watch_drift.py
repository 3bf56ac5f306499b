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


def test_one_observation_is_answered_in_observations_and_a_year(
    tmp_path: Path, reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    live = _log(tmp_path / "live.csv", 1, 0.0, 1)
    assert _replay("--replay", live, "--reference", reference, "--json") == 3
    shown = json.loads(capsys.readouterr().out)
    assert shown["budget"][0] == "At most one false alarm a year is expected, whatever the traffic is."
    assert round(shown["windows_per_false_alarm"]) == 1_000
    assert shown["facts"]["digest of the traffic's log"] != shown["facts"]["digest of the reference's log"]


def test_traffic_that_is_the_reference_is_said_to_be_it(
    tmp_path: Path, reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _replay("--replay", reference, "--reference", reference) == 0
    assert "800 of the 800 observations are the reference itself" in capsys.readouterr().out
    live = _log(tmp_path / "live.csv", 1_600, 0.0, 1)
    assert _replay("--replay", live, "--reference", reference) == 0
    assert "the reference itself" not in capsys.readouterr().out


def test_rows_of_one_time_are_taken_in_their_order(
    tmp_path: Path, reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.random.default_rng(1).normal(3, 1, (1_600, 4))
    lines = ["1700000000," + ",".join(f"{x:.4f}" for x in row) for row in rows]
    live = tmp_path / "live.csv"
    live.write_text("\n".join(["time,e0,e1,e2,e3", *lines, ""]), encoding="utf-8")
    assert _replay("--replay", str(live), "--reference", reference, "--json") == 1
    shown = json.loads(capsys.readouterr().out)
    assert round(shown["windows_per_false_alarm"]) == 100_000
    assert any("the same time" in note for note in shown["notes"])
