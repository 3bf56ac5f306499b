"""The guard: it warns of a fine-tuning that destroys, in time, and is silent about one that does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.support.tiny_hf import make_clip

from clerestory.core.progress import ProgressTask
from clerestory.core.sample import Dataset
from clerestory.models.resolve import open_folder
from clerestory.stages.train.tune import TuneConfig, TuneResult, tune
from clerestory.stages.train.tune.forgetting import ForgettingMonitor, chance_score
from clerestory.store import Store

STEPS = 40
LOOK = {"lock": "none", "batch_size": 48, "threads": 1, "num_validations": 4, "steps": STEPS}
DESTRUCTIVE, GENTLE = 2e-2, 1e-6


class RecordingProgress:
    """Records the lines in their order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def task(self, label: str, total: int) -> Iterator[ProgressTask]:
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        pass

    def write_line(self, line: str) -> None:
        self.lines.append(line)


def run(
    folder: Path, new: Dataset, retained: Dataset, store: Store, **changes: Any
) -> tuple[TuneResult, RecordingProgress]:
    progress = RecordingProgress()
    result = tune(open_folder(folder), new, retained, TuneConfig(**(LOOK | changes)), store, progress)
    return result, progress


def codes(result: TuneResult) -> set[str]:
    return {finding.code for finding in result.evidence.findings}


def score(result: TuneResult, phase: str, of: str = "retention", alpha: float | None = None) -> float:
    where = {"set": of, "phase": phase} | ({} if alpha is None else {"alpha": f"{alpha:g}"})
    return next(m.value for m in result.evidence.measurements if where.items() <= dict(m.slice).items())


def test_a_destructive_fine_tuning_is_named_while_it_can_be_stopped(
    clip: Path, new: Dataset, retained: Dataset, store: Store
) -> None:
    result, progress = run(clip, new, retained, store, learning_rate=DESTRUCTIVE, alphas=(1.0,))
    assert {"CLR-T040", "CLR-T041"} <= codes(result)
    assert score(result, "after") < 0.5 * score(result, "before")
    told = next(line for line in progress.lines if "CLR-T04" in line)
    named = next(f for f in result.evidence.findings if f.code == "CLR-T040")
    assert named.details["step"] <= STEPS // 2
    assert f"step {named.details['step']}: " in named.message
    assert ". Fix: " in told
    assert sum("CLR-T041" in line for line in progress.lines) == 1
    # It was said before the last step, not after.
    place = progress.lines.index(told)
    assert any(line.startswith("step ") for line in progress.lines[place + 1 :])


def test_a_gentle_one_is_left_in_peace(clip: Path, new: Dataset, retained: Dataset, store: Store) -> None:
    result, progress = run(clip, new, retained, store, learning_rate=GENTLE, alphas=(1.0,))
    assert not codes(result) & {"CLR-T040", "CLR-T041", "CLR-T042", "CLR-T045"}
    assert not [line for line in progress.lines if "CLR-" in line]
    assert abs(score(result, "change")) < 0.05


def test_stop_goes_back_to_the_last_look_at_which_enough_was_kept(
    clip: Path, new: Dataset, retained: Dataset, store: Store
) -> None:
    result, progress = run(clip, new, retained, store, learning_rate=DESTRUCTIVE, on_forgetting="stop", alphas=(1.0,))
    facts = result.evidence.facts
    assert facts["stopped"] is True
    assert facts["steps"] < STEPS
    validations = [m for m in result.evidence.measurements if m.slice["phase"] == "validation"]
    kept = [m.value for m in validations[:-1]]
    assert score(result, "after") == (kept[-1] if kept else score(result, "before"))
    assert score(result, "after") > validations[-1].value
    assert any(line.startswith("stopped") for line in progress.lines)


def test_blend_keeps_the_stated_share(clip: Path, new: Dataset, retained: Dataset, store: Store) -> None:
    grid = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    result, _ = run(
        clip, new, retained, store, learning_rate=1e-2, on_forgetting="interpolate", min_retention=0.9, alphas=grid
    )
    alpha = result.evidence.facts["alpha"]
    before = score(result, "before")
    fits = [a for a in grid if score(result, "interpolation", alpha=a) >= 0.9 * before]
    assert 0.0 in fits
    assert 1.0 not in fits
    assert alpha in fits
    assert score(result, "after", "new") == max(score(result, "interpolation", "new", a) for a in fits)
    assert score(result, "after") >= 0.9 * before
    assert "CLR-T043" in codes(result)
    if alpha == 0.0:
        was, now = (load_file(f / "model.safetensors") for f in (clip, store.model_folder(result.model)))
        assert all(torch.equal(was[name], now[name]) for name in was)


def test_who_knows_nothing_is_told_so(tmp_path: Path, new: Dataset, retained: Dataset, store: Store) -> None:
    folder = make_clip(tmp_path / "ignorant")
    result, _ = run(folder, new, retained, store, learning_rate=DESTRUCTIVE, steps=6, alphas=(1.0,))
    assert "CLR-T042" in codes(result)
    assert not codes(result) & {"CLR-T040", "CLR-T041"}


def test_pictures_that_are_learnt_from_are_no_proof(clip: Path, known: Dataset, store: Store) -> None:
    result = tune(open_folder(clip), known, known, TuneConfig(**(LOOK | {"steps": 2})), store, retention_split="train")
    assert "CLR-T045" in codes(result)


def test_without_val_the_gain_is_not_claimed(clip: Path, new: Dataset, retained: Dataset, store: Store) -> None:
    result, _ = run(clip, new.split("train"), retained, store, learning_rate=GENTLE, steps=2, alphas=(1.0,))
    finding = next(f for f in result.evidence.findings if f.code == "CLR-T044")
    assert finding.state == "not_run"
    assert {m.slice["set"] for m in result.evidence.measurements} == {"retention"}


def test_a_run_that_loses_nothing_is_rarely_accused() -> None:
    """Scores that change at random around the same mean: at most 5 % of whole runs, all looks together."""
    random = np.random.default_rng(0)
    alarms = runs = 0
    groups = np.arange(120)
    for _ in range(300):
        before = random.choice([1.0, 0.5, 0.25, 0.1], 120)
        monitor = ForgettingMonitor(before, groups, 0.05, 0.95, 10)
        for step in range(10):
            after = np.where(random.random(120) < 0.3, random.permutation(before), before)
            after += before.mean() - after.mean() + random.normal(0, 0.01)
            monitor.check(step, after)
        alarms += any(look.state != "retained" for look in monitor.checks)
        runs += 1
    assert alarms / runs <= 0.07


def test_a_loss_is_seen_as_soon_as_it_is_clear_and_named_by_its_size() -> None:
    random = np.random.default_rng(1)
    before = random.choice([1.0, 0.5], 200)
    monitor = ForgettingMonitor(before, np.arange(200), 0.05, 0.8, 5)
    states = []
    for step, loss in enumerate((0.0, 0.002, 0.1, 0.6, 0.6)):
        states.append(monitor.check(step, before * (1 - loss * (random.random(200) < 0.8))).state)
    assert states == ["retained", "declining", "declining", "below_minimum", "below_minimum"] or states == [
        "retained",
        "retained",
        "declining",
        "below_minimum",
        "below_minimum",
    ]
    found = {f.code: f for f in monitor.findings("held")}
    assert set(found) == {"CLR-T040", "CLR-T041"}
    assert found["CLR-T041"].details["step"] == 3
    assert "step 3: " in found["CLR-T041"].message


def test_a_collapse_that_leaves_no_spread_is_seen() -> None:
    monitor = ForgettingMonitor(np.ones(30), np.arange(30), 0.1, 0.95, 5)
    assert monitor.check(1, np.full(30, 0.05)).state == "below_minimum"


def test_chance_is_the_mean_of_the_inverse_ranks() -> None:
    assert chance_score(4) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
