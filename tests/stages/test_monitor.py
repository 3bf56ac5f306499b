"""The monitor's rules on made-up records, and its numbers against plain arithmetic."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from clerestory.core.errors import ConfigError
from clerestory.models.moe.balancing import ExpertLoad
from clerestory.stages.train.losses import bank_softmax_loss
from clerestory.stages.train.monitor import Monitor, MonitorThresholds, StepRecord
from clerestory.stages.train.monitor.detectors import ALL
from clerestory.stages.train.monitor.findings import CODES, format_finding
from clerestory.stages.train.monitor.statistics import (
    batch_accuracy,
    caption_grounding,
    chance_loss,
    duplicate_share,
    embedding_spread,
    expert_loads,
    global_norm,
    image_ids,
    leaked_share,
)

HEALTHY: dict[str, Any] = {
    "steps": 1000,
    "loss": 3.0,
    "contrastive": 2.5,
    "caption": 1.5,
    "chance_loss": 4.8,
    "batch_accuracy": 0.4,
    "batch": 100,
    "grad_norm": 2.0,
    "weight_norm": 30.0,
    "update_ratio": 0.01,
    "lr": 1e-3,
    "peak_lr": 1e-3,
    "logit_scale": 20.0,
    "embedding_cosine": 0.1,
    "embedding_rank": 30.0,
    "text_cosine": 0.4,
    "experts": 4,
    "dead_experts": 0,
    "caption_loss": 1.5,
    "caption_loss_shuffled": 1.8,
    "caption_gain_error": 0.02,
    "captions": 32,
    "duplicate_share": 0.0,
}


def named(
    changes: dict[str, Any], before: int = 60, after: int = 40, thresholds: MonitorThresholds | None = None
) -> list[str]:
    """The codes reported when a healthy run changes after some steps."""
    monitor = Monitor(thresholds or MonitorThresholds())
    reported = [f for n in range(before) for f in monitor.step(StepRecord(n + 1, **HEALTHY))]
    assert reported == [], "a healthy run"
    reported = [f for n in range(before, before + after) for f in monitor.step(StepRecord(n + 1, **HEALTHY | changes))]
    return [f.code for f in reported]


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("CLR-T010", {"embedding_cosine": 0.99, "embedding_rank": 1.1}),
        ("CLR-T011", {"dead_experts": 1, "max_expert_load": 2.0}),
        ("CLR-T012", {"contrastive": 4.79, "batch_accuracy": 0.01}),
        ("CLR-T013", {"logit_scale": 150.0}),
        ("CLR-T013", {"logit_scale": 0.5}),
        ("CLR-T014", {"grad_norm": 90.0}),
        ("CLR-T014", {"weight_norm": 300.0}),
        ("CLR-T015", {"val_recall": 0.1, "val_images": 200}),
        ("CLR-T016", {"caption_loss": 1.0, "caption_loss_shuffled": 1.0}),
        ("CLR-T017", {"leaked_share": 0.5, "leakage_images": 100}),
        ("CLR-T018", {"duplicate_share": 0.6}),
        ("CLR-T019", {"update_ratio": 0.5}),
        ("CLR-T019", {"loss": 9.0}),
        ("CLR-T019", {"loss": None, "grad_norm": None, "skipped": 12}),
        ("CLR-T020", {"update_ratio": 1e-6}),
    ],
)
def test_each_fault_has_its_name_and_nothing_else_is_named(code: str, changes: dict[str, Any]) -> None:
    if code == "CLR-T015":
        monitor = Monitor()
        reported = [
            monitor.step(StepRecord(n, val_recall=share, val_images=200))
            for n, share in enumerate((0.5, 0.1, 0.1, 0.1))
        ]
        assert [[f.code for f in some] for some in reported] == [[], [], [code], []]
    else:
        assert named(changes, before=220) == [code], "captions are judged after a fifth of the run"


def test_every_record_may_be_partial() -> None:
    monitor = Monitor()
    for name in HEALTHY:
        for step in range(30):
            assert monitor.step(StepRecord(step, **{name: HEALTHY[name]})) == []
    assert monitor.findings() == ()


@settings(max_examples=60, deadline=None)
@given(noise=st.lists(st.floats(0.6, 1.6), min_size=80, max_size=80))
def test_noise_is_no_fault(noise: list[float]) -> None:
    monitor = Monitor()
    for step, factor in enumerate(noise):
        shaken = {
            k: HEALTHY[k] * factor for k in ("grad_norm", "update_ratio", "caption_gain_error", "embedding_cosine")
        }
        shaken |= {"loss": 3 + factor / 10, "batch_accuracy": 0.4 * factor}
        assert monitor.step(StepRecord(step + 1, **HEALTHY | shaken)) == []


def test_one_odd_step_is_no_fault() -> None:
    odd = {"embedding_cosine": 0.99, "duplicate_share": 0.9, "update_ratio": 0.5, "grad_norm": 1e4, "dead_experts": 2}
    assert named(odd, after=1) == []


def test_every_run_may_begin_collapsed_and_knowing_nothing() -> None:
    monitor = Monitor()
    start = {"embedding_cosine": 0.99, "batch_accuracy": 0.01, "contrastive": 4.9, "update_ratio": 1e-6, "lr": 1e-5}
    for step in range(70):
        assert monitor.step(StepRecord(step + 1, **HEALTHY | start)) == [], "the learning rate is still rising"


def test_weights_may_grow_slowly_for_as_long_as_they_like() -> None:
    monitor = Monitor()
    for step in range(1, 1000):
        assert monitor.step(StepRecord(step, **HEALTHY | {"weight_norm": 30 + step / 3})) == []


def test_the_end_of_the_schedule_may_be_slow() -> None:
    assert named({"update_ratio": 1e-6, "lr": 1e-6}) == []


def test_a_fault_is_said_once_and_told_to_have_passed() -> None:
    monitor = Monitor()
    said = []
    for step in range(1, 61):
        bad = step in range(11, 21) or step in range(41, 51)
        said += monitor.step(StepRecord(step, **HEALTHY | {"duplicate_share": 0.5 if bad else 0.0}))
    assert [f.code for f in said] == ["CLR-T018"]
    assert said[0].message.startswith("step 13: 50% of the batch")
    (finding,) = monitor.findings()
    assert finding.message.startswith("steps 13 to 50: ")
    assert finding.message.endswith("the run has recovered")
    assert (finding.state, said[0].state) == ("warn", "fail")
    assert finding.details["recovered"] is True
    assert (finding.details["first_step"], finding.details["last_step"]) == (13, 50)


def test_between_the_thresholds_nothing_flickers() -> None:
    monitor, states = Monitor(), []
    for step, share in enumerate([0.3] * 5 + [0.22, 0.24] * 10 + [0.1] * 5):
        monitor.step(StepRecord(step + 1, duplicate_share=share))
        states.append([f.state for f in monitor.findings()])
    assert states[4] == ["fail"]
    assert all(s == ["fail"] for s in states[5:25]), "below the limit, but not clearly"
    assert states[-1] == ["warn"]


def test_chance_is_no_forgetting() -> None:
    few = [StepRecord(n, val_recall=r, val_images=10) for n, r in enumerate((0.6, 0.3, 0.3, 0.3, 0.3))]
    monitor = Monitor()
    assert [f for record in few for f in monitor.step(record)] == [], "6 of 10 and then 3 of 10 is luck"


def test_every_finding_is_complete_and_has_a_page() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/findings.md").read_text("utf-8")
    explained = (Path(__file__).parents[2] / "docs/explanation/when-training-goes-wrong.md").read_text("utf-8")
    assert {detector.code for detector in ALL} == set(CODES)
    assert len({code.code for code in CODES}) == 12
    for detector in ALL:
        assert f"### {detector.code.code}" in page
        assert detector.code.code in explained
        assert re.search(r"[a-z]", detector.code.fix)
        assert detector.where
    (finding,) = Monitor().step(StepRecord(1, leaked_share=1.0, leakage_images=40))
    assert format_finding(finding).startswith("CLR-T017 step 1: 40 of 40 validation images")
    assert "Fix: remove them" in format_finding(finding)


def test_thresholds_are_positive() -> None:
    with pytest.raises(ConfigError, match="max_update_ratio"):
        MonitorThresholds(max_update_ratio=0)


def test_a_record_of_a_log_line() -> None:
    line = {"step": 3, "loss": None, "skipped": 1, "seconds": 2.5, "val_recall@10": 0.5, "n": 20, "lr": 0.1}
    assert StepRecord.from_log(line) == StepRecord(3, lr=0.1, val_recall=0.5, val_images=20, skipped=1)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_spread_equals_the_plain_formulas() -> None:
    rows = unit(12, 5)
    found = embedding_spread(rows)
    pairs = [float(rows[i] @ rows[j]) for i in range(12) for j in range(12) if i != j]
    assert found.cosine == pytest.approx(np.mean(pairs), abs=1e-5)
    assert found.std == pytest.approx(float(rows.var(dim=0).sum().sqrt()), rel=1e-4)
    values = np.linalg.svd(rows.numpy() - rows.numpy().mean(0), compute_uv=False) ** 2
    assert found.rank == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-3)
    assert embedding_spread(torch.eye(9)).rank == pytest.approx(8, rel=1e-3), (
        "nine corners of a simplex span eight dimensions"
    )
    same = embedding_spread(rows[:1].expand(8, -1))
    assert same.cosine == pytest.approx(1, abs=1e-5)
    assert same.std < 1e-3
    assert embedding_spread(rows[:1]).rank == 1
    assert math.isnan(embedding_spread(rows * math.nan).cosine)


def test_guessing_is_the_loss_of_equal_similarities() -> None:
    one = unit(1, 8)
    texts, bank = one.expand(6, -1), one.expand(9, -1)
    images = one.expand(6, -1)
    loss = bank_softmax_loss(images, texts, bank, torch.arange(6), (4, 8), 0.1, 0.5)
    assert chance_loss(6, 9, 0.5) == pytest.approx(float(loss), rel=1e-4)
    assert chance_loss(128) == pytest.approx(math.log(128))


def test_found_counts_only_what_is_nearer_than_all_others() -> None:
    texts = torch.eye(4)
    assert batch_accuracy(texts, texts, torch.arange(4)) == 1
    assert batch_accuracy(texts.roll(1, 0), texts, torch.arange(4)) == 0
    assert batch_accuracy(torch.ones(4, 4) / 2, texts, torch.arange(4)) == 0, "a tie is not found"
    assert batch_accuracy(texts[[0, 0, 2, 3]], texts[[0, 0, 2, 3]], torch.tensor([0, 0, 2, 3])) == 1


def test_caption_grounding_is_the_mean_over_captions() -> None:
    random = torch.Generator().manual_seed(0)
    own, other = torch.randn(3, 4, 7, generator=random), torch.randn(3, 4, 7, generator=random)
    ids = torch.tensor([[1, 4, 2, 0], [1, 5, 6, 2], [1, 3, 2, 0]])
    found = caption_grounding(own, other, ids, pad=0)

    def mean(logits: torch.Tensor) -> list[float]:
        logp = torch.log_softmax(logits, -1)
        words = [[(p, int(row[p + 1])) for p in range(3) if row[p + 1] != 0] for row in ids]
        return [-float(np.mean([logp[i, p, w] for p, w in some])) for i, some in enumerate(words)]

    assert found.loss == pytest.approx(np.mean(mean(own)), rel=1e-5)
    assert found.shuffled == pytest.approx(np.mean(mean(other)), rel=1e-5)
    difference = np.subtract(mean(other), mean(own))
    assert found.error == pytest.approx(difference.std(ddof=1) / math.sqrt(3), rel=1e-4)


def test_loads_are_shares_of_a_fair_share() -> None:
    found = expert_loads([[10, 10, 10, 10], [40, 0, 0, 0], [0, 0, 0, 0]])
    assert found is not None
    assert (found.experts, found.min, found.max, found.dead) == (4, 0, 4, 3)
    for tokens, dead in ((7, 1), (8, 0)):  # an equal share is 752
        counts = (1000, 1000, 1000, tokens)
        monitored = expert_loads([counts])
        assert monitored is not None
        assert monitored.dead == len(ExpertLoad(counts).dead) == dead, (
            "the monitor and the router agree on what is dead"
        )
    assert expert_loads([]) is None
    assert expert_loads([[0, 0]]) is None


def test_length_and_copies() -> None:
    tensors: Iterable[torch.Tensor] = [torch.full((2, 2), 3.0), torch.tensor([8.0])]
    assert global_norm(tensors) == pytest.approx(10)
    assert global_norm([]) == 0
    pixels = torch.randint(0, 255, (5, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ids = image_ids(pixels[[0, 1, 0, 2, 0]])
    assert ids.tolist() == [0, 1, 0, 3, 0]
    assert duplicate_share(ids) == pytest.approx(0.4)
    assert duplicate_share(ids[:2]) == 0


def test_copies_are_found_after_resizing_and_plain_pictures_are_not_copies() -> None:
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(40, 3, 6, 6, generator=random)
    large = F.interpolate(coarse, size=(48, 48), mode="bicubic", antialias=True).clamp(0, 1)
    small = F.interpolate(large, size=(36, 36), mode="bicubic", antialias=True).clamp(0, 1)
    train, val = ((x * 255).round().to(torch.uint8).permute(0, 2, 3, 1) for x in (large, small))
    assert leaked_share(train, val[:10]) == 1
    assert leaked_share(train[:20], val[10:30]) == 0.5
    assert leaked_share(train[:20], val[20:]) == 0
    white = torch.full((4, 36, 36, 3), 255, dtype=torch.uint8)
    assert leaked_share(white, white) == 0
