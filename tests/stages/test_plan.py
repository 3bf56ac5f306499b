"""The forecast of a training run: what it counts, what it leaves behind, and how it is scored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.shapes import shapes

from clerestory.core.codec import decode, encode
from clerestory.core.evidence import Cost, Subject
from clerestory.core.sample import Dataset
from clerestory.stages.train import TrainConfig, train
from clerestory.stages.train import plan as planning
from clerestory.stages.train.estimate_store import Plan, duration, keep, kept, score
from clerestory.stages.train.plan import keep_plan, kept_plan, plan
from clerestory.store import Store

TINY = TrainConfig(preset="tiny", steps=6, batch=16, threads=1, checkpoint_every=4, validate_every=4)
PLAN = Plan(100, 32, 50.0, 45.0, 60.0, 800.0, 2.0, 0.4, 1.5, 2.5, 20, 3.6, "EUR")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return shapes()


def test_the_forecast_adds_up_and_leaves_nothing(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "LONGEST", 0.0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = plan(data, TINY, price=3.6, currency="EUR")
    parts = found.preparing + found.step * found.steps + found.looking + found.saving
    assert parts <= found.seconds + 0.01, "and what the first steps take more than others"
    assert found.low <= found.seconds <= found.high
    assert found.cost == pytest.approx(found.seconds / 1000)
    assert (found.steps, found.batch, found.probed) == (6, 16, 10)
    assert found.peak_mib > 100
    assert list(tmp_path.iterdir()) == []


def test_twice_the_steps_are_twice_the_time_of_steps(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100_000))
    monkeypatch.setattr(planning, "LONGEST", 0.0)
    monkeypatch.setattr(planning.time, "perf_counter", lambda: float(next(clock)))
    short = plan(data, replace(TINY, steps=400, validate_every=0, checkpoint_every=1000))
    long = plan(data, replace(TINY, steps=800, validate_every=0, checkpoint_every=1000))
    assert long.step == short.step > 0
    assert long.seconds - short.seconds == pytest.approx(400 * short.step)
    often = plan(data, replace(TINY, steps=400, validate_every=100, checkpoint_every=1000))
    assert often.looking == pytest.approx(5 * short.looking / 2)


def test_the_forecast_is_scored_once_by_the_run_it_is_of(
    data: Dataset, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "LONGEST", 0.0)
    found = plan(data, TINY)
    keep_plan(found, data, TINY, store)
    assert kept_plan(data, TINY, store) == found
    other = replace(TINY, seed=3)
    assert kept_plan(data, other, store) is None
    names = [m.name for m in train(data, other, store).evidence.measurements]
    assert names == ["recall@10"]

    evidence = train(data, TINY, store).evidence
    time_ratio, memory_ratio = (m for m in evidence.measurements if m.name.startswith("plan_"))
    assert time_ratio.value == pytest.approx(evidence.cost.seconds / found.seconds)
    assert memory_ratio.value == pytest.approx(evidence.cost.peak_mib / found.peak_mib)
    assert (time_ratio.direction, time_ratio.unit, bool(time_ratio.no_interval)) == ("none", "ratio", True)
    assert kept_plan(data, TINY, store) is None


def test_the_score_is_what_it_took_over_what_was_foretold() -> None:
    time_ratio, memory_ratio = score(PLAN, Cost(60.0, 50.0, 600.0))
    assert (time_ratio.value, memory_ratio.value) == (1.2, 0.75)
    assert score(replace(PLAN, seconds=0.0, peak_mib=0.0), Cost(1.0, 1.0, 1.0)) == ()


def test_a_plan_survives_and_a_damaged_one_is_no_plan(tmp_path: Path) -> None:
    subject = Subject(data="d")
    file = keep(PLAN, subject, tmp_path)
    assert kept(subject, tmp_path) == PLAN
    assert decode(Plan, json.loads(json.dumps(encode(PLAN)))) == PLAN
    file.write_text("{", encoding="utf-8")
    assert kept(subject, tmp_path) is None
    file.write_text("{}", encoding="utf-8")
    assert kept(subject, tmp_path) is None


def test_it_is_told_in_plain_words() -> None:
    text = "\n".join(PLAN.lines())
    for part in (
        "50 s (probably 45 s to 60 s)",
        "100 steps of 0.4 s",
        "800 MiB",
        "0.05 EUR, at 3.60 EUR an hour",
        "20 real",
    ):
        assert part in text
    assert "cost" not in "\n".join(replace(PLAN, price=None).lines())


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.42, "0.42 s"), (8.26, "8.3 s"), (42.4, "42 s"), (270, "4.5 min"), (11_520, "3.2 h")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
