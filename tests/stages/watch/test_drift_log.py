"""Logs of embeddings: every form of a column, and every kind of damage in one sentence with its count."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clerestory.core.errors import DataError, NotFound
from clerestory.stages.watch.drift.log import describe_left_out, read_log
from clerestory.stages.watch.drift.monitors import DriftMonitors
from clerestory.stages.watch.drift.observations import DriftObservation, ObservationTable
from clerestory.stages.watch.drift.replay import replay_drift
from clerestory.stages.watch.drift.settings import DriftSettings

SETTINGS = DriftSettings(window=8)


def write(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_a_list_column_numbered_columns_and_texts_are_the_same(tmp_path: Path) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    listed = read_log(write(tmp_path / "a.parquet", embedding=list(rows)))
    numbered = read_log(write(tmp_path / "b.parquet", e0=rows[:, 0], e1=rows[:, 1], e2=rows[:, 2]))
    text = tmp_path / "c.csv"
    text.write_text('embedding\n"[0, 1, 2]"\n"[3,4,5]"\n[6 7 8]\n"[9.0, 10, 11]"\n', encoding="utf-8")
    for table in (listed, numbered, read_log(text)):
        assert table.embeddings is not None
        assert np.array_equal(table.embeddings, rows)
        assert table.left_out == {}


def test_unusable_rows_are_counted_by_reason_and_the_rest_is_sorted_by_time(tmp_path: Path) -> None:
    rows: list[object] = [[1.0, 2.0], [float("nan"), 0.0], [1.0], None, [3.0, 4.0], [5.0, 6.0]]
    times = ["2026-03-02", "2026-03-01", "2026-03-01", "2026-03-01", "2026-03-01T12:00:00+01:00", "soon"]
    table = read_log(write(tmp_path / "log.parquet", embedding=rows, time=times, id=list("abcdef")))
    assert list(table.ids) == ["e", "a"]
    assert table.times is not None
    assert table.times.tolist() == [
        dt.datetime(2026, 3, 1, 11, tzinfo=dt.UTC).timestamp(),
        dt.datetime(2026, 3, 2, tzinfo=dt.UTC).timestamp(),
    ]
    assert sorted(describe_left_out(dict(table.left_out))) == [
        "1 observation left out: a time that is missing or cannot be read",
        "1 observation left out: an embedding of another width than 2",
        "1 observation left out: an embedding that is not finite",
        "1 observation left out: no embedding",
    ]
    assert table.notes == ("the rows were not in the order of their times and have been sorted",)


@pytest.mark.parametrize("unit", [1, 1e3, 1e6, 1e9])
def test_numbers_are_times_in_any_usual_unit(tmp_path: Path, unit: float) -> None:
    moment = 1_790_000_000
    table = read_log(write(tmp_path / "log.parquet", time=[int(moment * unit)], brightness=[0.5]))
    assert table.times is not None
    assert table.times.tolist() == [moment]


def test_watched_columns_by_name_and_by_request(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.parquet",
        brightness=[0.1, None],
        label=[3, 4],
        zero_match=[True, False],
        score2=[1, 2],
        x=["a", "b"],
    )
    table = read_log(path, columns=["score2", "x"])
    assert table.columns == ("brightness", "score2", "label", "zero_match", "x")
    assert table.categories["zero_match"] == ["true", "false"]
    assert table.categories["label"] == ["3", "4"]
    assert np.isnan(table.numbers["brightness"][1])
    with pytest.raises(NotFound, match="style"):
        read_log(path, slice_by=["style"])


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("no.parquet", None, "does not exist"),
        ("empty.csv", b"", "it is empty"),
        ("empty.parquet", b"", "it is empty"),
        ("header.csv", b"e0,e1\n", "has no rows"),
        ("text.parquet", b"not a table at all", "cannot be read"),
        ("names.csv", b"colour,size\nred,1\n", "has no column to watch"),
        ("log.txt", b"e0,e1\n1,2\n", "is not a log"),
        ("times.csv", b"e0,e1,time\n1,2,soon\n", "no time in the column 'time'"),
        ("nan.csv", b"e0,e1\nnan,2\n", "no row of nan.csv can be used: 1 with an embedding that is not finite"),
    ],
)
def test_bad_logs_are_named_in_one_sentence(tmp_path: Path, name: str, content: bytes | None, problem: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=problem) as error:
        read_log(path)
    assert error.value.fix


def test_a_row_with_too_few_cells_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("e0,e1\n1,2\n3\n4,5\n", encoding="utf-8")
    table = read_log(path)
    assert len(table) == 2
    assert table.left_out == {"a wrong number of columns": 1}


# Monitors.


def table_of(rows: np.ndarray, **extra: object) -> ObservationTable:
    return ObservationTable([f"r{i}" for i in range(len(rows))], rows.astype(np.float32), **extra)  # type: ignore[arg-type]


def gaussian(seed: int, count: int, shift: float = 0.0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, 6))
    rows[:, 0] += shift
    return rows


def test_one_busy_person_is_not_drift() -> None:
    """A thousand near-identical observations of one person count once in a day; without names they are an alarm."""
    usual, busy = gaussian(1, 400), np.tile(gaussian(2, 1, 3.0), (1000, 1)) + gaussian(3, 1000) * 0.01
    times = 1.79e9 + 60.0 * np.arange(1400)
    traffic = np.concatenate([usual, busy])
    reference = table_of(gaussian(0, 600))
    names = [f"person {i}" for i in range(400)] + ["the busy one"] * 1000
    named = replay_drift(table_of(traffic, times=times, subjects=names), reference, SETTINGS)
    assert named.alarms == ()
    assert named.monitors.left_out["the same person again"] == 999
    assert replay_drift(table_of(traffic, times=times), reference, SETTINGS).alarms


def test_slices_share_the_budget_and_small_ones_are_not_watched() -> None:
    styles = ["line"] * 300 + ["flat"] * 280 + ["rare"] * 20
    reference = table_of(gaussian(0, 600), categories={"style": styles})
    monitors = DriftMonitors(reference, DriftSettings(window=8, slice_by=("style",)))
    assert [(each.monitor, each.slice) for each in monitors.monitors] == [
        ("embedding", "all"),
        ("embedding", "style=line"),
        ("embedding", "style=flat"),
    ]
    assert monitors.share == pytest.approx(1 / 3)
    assert "20 observations" in monitors.unwatched["style=rare"]


def test_a_change_of_one_slice_names_it_and_its_observations() -> None:
    rng = np.random.default_rng(4)
    styles = rng.choice(["line", "flat"], 3000).tolist()
    rows = gaussian(5, 3000)
    rows[1500:, 1] += 2.5 * (np.array(styles[1500:]) == "line")
    reference = table_of(gaussian(0, 800), categories={"style": rng.choice(["line", "flat"], 800).tolist()})
    settings = DriftSettings(window=8, slice_by=("style",), windows_per_false_alarm=1000)
    replay = replay_drift(table_of(rows, categories={"style": styles}), reference, settings)
    assert {alarm.slice for alarm in replay.alarms} == {"all", "style=line"}
    alarm = next(alarm for alarm in replay.alarms if alarm.slice == "style=line")
    assert all(styles[int(each.id[1:])] == "line" for each in alarm.observations)
    assert all(int(each.id[1:]) >= 1400 for each in alarm.observations)
    assert all(len(each.nearest) == 3 for each in alarm.observations)
    assert alarm.change.recent > alarm.change.reference


def test_numbers_and_categories_are_watched_by_the_same_detector() -> None:
    rng = np.random.default_rng(6)
    reference = ObservationTable(
        [str(i) for i in range(600)],
        numbers={"brightness": rng.random(600)},
        categories={"language": rng.choice(["de", "en"], 600).tolist()},
    )
    traffic = ObservationTable(
        [str(i) for i in range(1600)],
        numbers={"brightness": np.concatenate([rng.random(800), 0.3 * rng.random(800)])},
        categories={"language": [*rng.choice(["de", "en"], 800).tolist(), *["fr"] * 800]},
    )
    alarms = {alarm.monitor: alarm for alarm in replay_drift(traffic, reference, SETTINGS).alarms}
    assert set(alarms) == {"brightness", "language"}
    assert all(alarm.began_window >= 95 for alarm in alarms.values())
    assert alarms["language"].change.value in {"fr", "de", "en"}
    assert alarms["brightness"].change.recent < 0.3 < alarms["brightness"].change.reference


def test_they_go_on_bit_for_bit_in_the_middle_of_a_window() -> None:
    reference = table_of(gaussian(0, 300), numbers={"brightness": np.linspace(0, 1, 300)})
    traffic = [
        DriftObservation(f"o{i}", 1.79e9 + i, f"p{i % 70}", row.astype(np.float32), {"brightness": 0.5})
        for i, row in enumerate(gaussian(1, 333, 0.2))
    ]
    settings = DriftSettings(window=8, subject_hours=0.01)
    whole = DriftMonitors(reference, settings)
    for each in traffic:
        whole.observe(each)
    first, second = DriftMonitors(reference, settings), DriftMonitors(reference, settings)
    for each in traffic[:101]:
        first.observe(each)
    second.restore(json_safe(first.state()))
    for each in traffic[101:]:
        second.observe(each)
    assert second.state() == whole.state()


def json_safe(states: dict[tuple[str, str], bytes]) -> dict[tuple[str, str], bytes]:
    """As a database would hold them."""
    return {(json.loads(json.dumps(monitor)), name): bytes(state) for (monitor, name), state in states.items()}


def test_too_little_data_is_said_and_no_answer() -> None:
    replay = replay_drift(table_of(gaussian(1, 40)), table_of(gaussian(0, 100)), SETTINGS)
    assert replay.is_undecided
    assert replay.min_windows > replay.num_windows == 5
    one = replay_drift(table_of(gaussian(1, 1)), table_of(gaussian(0, 100)), SETTINGS)
    assert one.is_undecided
    with pytest.raises(DataError, match="31 observations, and windows of 8 need 32"):
        replay_drift(table_of(gaussian(1, 40)), table_of(gaussian(0, 31)), SETTINGS)
    with pytest.raises(DataError, match="6 numbers in .* and 2 in"):
        replay_drift(table_of(gaussian(1, 40)), table_of(np.zeros((40, 2))), SETTINGS)
    only = ObservationTable(["a"] * 40, numbers={"brightness": np.zeros(40)})
    with pytest.raises(DataError, match="no watched column in common"):
        replay_drift(table_of(gaussian(1, 40)), only, SETTINGS)
