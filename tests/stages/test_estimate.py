"""The estimate of a training run: its sum, its storage and its accuracy."""

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
from clerestory.stages.train import estimate as estimating
from clerestory.stages.train.estimate import estimate_training, store_estimate
from clerestory.stages.train.estimate_store import TrainEstimate, accuracy, load, save
from clerestory.stages.train.run import training_subject
from clerestory.store import Store

TINY = TrainConfig(preset="tiny", steps=6, batch_size=16, threads=1, checkpoint_every=4, validate_every=4)
ESTIMATE = TrainEstimate(100, 32, 50.0, 45.0, 60.0, 800.0, 2.0, 0.4, 1.5, 2.5, 20, 3.6, "EUR")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return shapes()


def test_the_estimate_adds_up_and_leaves_nothing(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimating, "MAX_SECONDS", 0.0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = estimate_training(data, TINY, price_per_hour=3.6, currency="EUR")
    parts = found.prepare_seconds + found.step_seconds * found.steps + found.validate_seconds + found.save_seconds
    assert parts <= found.seconds + 0.01, "and what the first steps take more than others"
    assert found.low <= found.seconds <= found.high
    assert found.cost == pytest.approx(found.seconds / 1000)
    assert (found.steps, found.batch_size, found.measured_steps) == (6, 16, 10)
    assert found.peak_mib > 100
    assert list(tmp_path.iterdir()) == []


def test_twice_the_steps_are_twice_the_time_of_steps(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100_000))
    monkeypatch.setattr(estimating, "MAX_SECONDS", 0.0)
    monkeypatch.setattr(estimating.time, "perf_counter", lambda: float(next(clock)))
    short = estimate_training(data, replace(TINY, steps=400, validate_every=0, checkpoint_every=1000))
    long = estimate_training(data, replace(TINY, steps=800, validate_every=0, checkpoint_every=1000))
    assert long.step_seconds == short.step_seconds > 0
    assert long.seconds - short.seconds == pytest.approx(400 * short.step_seconds)
    often = estimate_training(data, replace(TINY, steps=400, validate_every=100, checkpoint_every=1000))
    assert often.validate_seconds == pytest.approx(5 * short.validate_seconds / 2)


def test_an_estimate_is_compared_once_with_its_run(
    data: Dataset, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimating, "MAX_SECONDS", 0.0)
    found = estimate_training(data, TINY)
    store_estimate(found, data, TINY, store)
    assert load(training_subject(data, TINY), store.runs) == found
    other = replace(TINY, seed=3)
    assert load(training_subject(data, other), store.runs) is None
    names = [m.name for m in train(data, other, store).evidence.measurements]
    assert names == ["recall@10"]

    evidence = train(data, TINY, store).evidence
    time_ratio, memory_ratio = (m for m in evidence.measurements if m.name.startswith("plan_"))
    assert time_ratio.value == pytest.approx(evidence.cost.seconds / found.seconds)
    assert memory_ratio.value == pytest.approx(evidence.cost.peak_mib / found.peak_mib)
    assert (time_ratio.direction, time_ratio.unit, bool(time_ratio.no_interval)) == ("none", "ratio", True)
    assert load(training_subject(data, TINY), store.runs) is None


def test_the_accuracy_is_actual_over_estimated() -> None:
    time_ratio, memory_ratio = accuracy(ESTIMATE, Cost(60.0, 50.0, 600.0))
    assert (time_ratio.value, memory_ratio.value) == (1.2, 0.75)
    assert accuracy(replace(ESTIMATE, seconds=0.0, peak_mib=0.0), Cost(1.0, 1.0, 1.0)) == ()


def test_an_estimate_is_stored_and_a_corrupt_file_is_ignored(tmp_path: Path) -> None:
    subject = Subject(data="d")
    file = save(ESTIMATE, subject, tmp_path)
    assert load(subject, tmp_path) == ESTIMATE
    assert decode(TrainEstimate, json.loads(json.dumps(encode(ESTIMATE)))) == ESTIMATE
    file.write_text("{", encoding="utf-8")
    assert load(subject, tmp_path) is None
    file.write_text("{}", encoding="utf-8")
    assert load(subject, tmp_path) is None


def test_it_is_described_in_plain_words() -> None:
    text = "\n".join(ESTIMATE.lines())
    for part in (
        "50 s (likely 45 s to 1 min)",
        "100 steps of 0.4 s",
        "800 MiB",
        "0.05 EUR, at 3.60 EUR per hour",
        "20 real",
    ):
        assert part in text
    assert "cost" not in "\n".join(replace(ESTIMATE, price_per_hour=None).lines())
