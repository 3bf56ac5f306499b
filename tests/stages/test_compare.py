"""Comparisons of planted differences, of none, and of too little data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tests.support.paired_rows import Columns, put_evaluation, put_model, rows

from clerestory.core.comparison import Comparison, ComparisonRow
from clerestory.core.errors import ConfigError, InputError, Undecided
from clerestory.core.evidence import Evidence
from clerestory.core.rows import TaskName
from clerestory.stages.compare import CompareConfig, compare
from clerestory.stages.release import verify
from clerestory.stats.paired import mcnemar
from clerestory.stats.rows import read_rows
from clerestory.store import Store


class Two:
    """Two evaluated models in a store."""

    def __init__(self, store: Store, place: Path) -> None:
        self.store = store
        self.a, self.b = put_model(store, place, "a"), put_model(store, place, "b")

    def evaluated(self, a: Columns, b: Columns, **of_a: object) -> tuple[Evidence, Evidence]:
        first = put_evaluation(self.store, self.a, a, **of_a)  # type: ignore[arg-type]  # a test's own keywords
        return first, put_evaluation(self.store, self.b, b)

    def compared(self, **config: float) -> Comparison:
        return compare(self.a, self.b, self.store, CompareConfig(**config))  # type: ignore[arg-type]  # numbers only


@pytest.fixture
def two(store: Store, tmp_path: Path) -> Two:
    return Two(store, tmp_path / "models")


def whole(found: Comparison) -> ComparisonRow:
    [row] = [row for row in found.results if row.is_overall]
    return row


def test_a_planted_gain_is_better_and_a_planted_loss_worse(two: Two) -> None:
    two.evaluated(rows(1500, change={"": (0.0, 0.2)}), rows(1500))
    found = two.compared()
    row = whole(found)
    assert (row.outcome, found.verdict, found.exit_code) == ("better", "better", 0)
    assert row.low is not None
    assert row.low > 0
    assert row.difference == pytest.approx(row.a - row.b)
    other = compare(two.b, two.a, two.store)
    mirrored = whole(other)
    assert (mirrored.outcome, other.exit_code) == ("worse", 1)
    assert mirrored.difference == -row.difference
    assert (mirrored.low, mirrored.high) == (-(row.high or 0), -row.low)


def test_hardly_any_change_on_many_samples_is_no_difference(two: Two) -> None:
    two.evaluated(rows(4000, change={"": (0.002, 0.003)}), rows(4000))
    found = two.compared(margin=0.02)
    assert whole(found).outcome == "no_difference"
    assert found.exit_code == 0


def test_little_on_few_samples_is_inconclusive_and_says_how_many_more(two: Two) -> None:
    two.evaluated(rows(90, change={"": (0.15, 0.2)}, seed=3), rows(90))
    found = two.compared()
    row = whole(found)
    assert (row.outcome, found.exit_code) == ("inconclusive", 3)
    assert row.additional_rows is not None
    assert row.additional_rows > 90
    assert row.detectable is not None
    assert row.detectable > found.margin


def test_a_group_that_lost_is_found_inside_a_whole_that_gained(two: Two) -> None:
    change = {"twemoji": (0.3, 0.0), "noto": (0.0, 0.6), "openmoji": (0.0, 0.6)}
    two.evaluated(rows(3000, change=change), rows(3000))
    found = two.compared()
    outcomes = {row.value: row.outcome for row in found.results if row.group == "style"}
    assert whole(found).outcome == "better"
    assert outcomes == {"noto": "better", "openmoji": "better", "twemoji": "worse"}
    assert found.exit_code == 1


def test_groups_that_differ_by_chance_alone_are_not_called_different(two: Two) -> None:
    a, b = rows(3000, change={"": (0.05, 0.075)}, seed=5), rows(3000)
    for found in (a, b):
        found["emoji_group"] = np.array([f"g{i}" for i in np.random.default_rng(1).integers(0, 40, 3000)], dtype=object)
    two.evaluated(a, b)
    results = [row for row in two.compared().results if row.group == "emoji_group"]
    assert len(results) == 40
    assert {row.outcome for row in results} <= {"inconclusive", "no_difference"}
    assert all(
        row.p_adjusted >= row.p_value for row in results if row.p_adjusted is not None and row.p_value is not None
    )


def test_unclustered_answers_agree_with_mcnemar_and_clustered_ones_have_none(two: Two) -> None:
    a, b = rows(800, change={"": (0.1, 0.05)}, seed=2), rows(800)
    two.evaluated(a, b)
    row = whole(two.compared())
    exact = mcnemar((a["rank"] <= 10).astype(float), (b["rank"] <= 10).astype(float))
    assert (row.only_a, row.only_b, row.p_mcnemar) == (exact.only_a, exact.only_b, exact.p)
    assert row.p_value is not None
    assert math.log10(row.p_value) == pytest.approx(math.log10(exact.p), abs=1)
    put_evaluation(two.store, two.a, rows(800, concepts=200, change={"": (0.1, 0.05)}))
    put_evaluation(two.store, two.b, rows(800, concepts=200))
    clustered = whole(two.compared())
    assert (clustered.clusters, clustered.p_mcnemar) == (200, None)


def test_flips_are_those_that_flipped_and_the_furthest_come_first(two: Two) -> None:
    a, b = rows(400, change={"": (0.1, 0.1)}, seed=4), rows(400)
    was, now_ = b["rank"] <= 10, a["rank"] <= 10
    far = int(np.flatnonzero(was & ~now_)[3])
    a["rank"][far] = 500.0
    two.evaluated(a, b)
    found = two.compared(max_flips=1000)
    lost = [flip.sample for flip in found.flips if flip.correct == "b"]
    won = {flip.sample for flip in found.flips if flip.correct == "a"}
    assert set(lost) == {f"s{i}" for i in np.flatnonzero(was & ~now_)}
    assert won == {f"s{i}" for i in np.flatnonzero(~was & now_)}
    assert lost[0] == f"s{far}"
    first = found.flips[0]
    assert (first.caption, first.rank_a, first.rank_b) == (f"caption {far}", 500.0, 2.0)


def test_rows_pair_by_what_was_asked_and_not_by_their_order(two: Two) -> None:
    a, b = rows(600, change={"": (0.0, 0.3)}), rows(600)
    order = np.random.default_rng(1).permutation(600)
    two.evaluated({name: cells[order] for name, cells in a.items()}, b)
    row = whole(two.compared())
    assert (row.only_b, row.n) == (0, 600)


def test_a_caption_is_the_same_question_whichever_picture_answers_it(two: Two) -> None:
    a, b = rows(300), rows(300)
    for found in (a, b):
        found["task"][:] = "text_to_image"
    a["sample"] = np.array([f"other{i}" for i in range(300)], dtype=object)
    two.evaluated(a, b)
    assert whole(two.compared()).n == 300


def test_unscored_rows_are_counted_and_never_score_0(two: Two) -> None:
    a, b = rows(500), rows(500)
    a["rank"][:40] = np.nan
    two.evaluated(a, b)
    row = whole(two.compared())
    assert (row.n, row.dropped, row.difference) == (460, 40, 0.0)


def test_when_nothing_is_scored_for_both_it_cannot_tell(two: Two) -> None:
    a, b = rows(100), rows(100)
    a["rank"][:50], b["rank"][50:] = np.nan, np.nan
    two.evaluated(a, b)
    with pytest.raises(Undecided, match="no question is scored for both"):
        two.compared()


def test_conditions_make_families_and_blind_questions_are_left_out(two: Two) -> None:
    def some(seed: int) -> Columns:
        parts = []
        for condition, severity in (("clean", ""), ("fog", "3"), ("typos", ""), ("blind", "")):
            part = rows(200, change={"": (0.05, 0.05)}, seed=seed)
            part["condition"][:], part["severity"][:] = condition, severity
            parts.append(part)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    two.evaluated(some(1), some(2))
    assert [row.condition for row in two.compared().results if row.is_overall] == [
        "clean",
        "corrupted",
        "perturbed_text",
    ]


def test_a_task_keeps_its_measure_where_some_conditions_have_a_score_as_well(two: Two) -> None:
    def some(seed: int) -> Columns:
        plain, typos = (rows(300, change={"": (0.05, 0.05)}, seed=seed) for _ in range(2))
        typos["condition"][:] = "typos"
        typos["score"] = (typos["rank"] <= 10).astype(float)
        return {name: np.concatenate([plain[name], typos[name]]) for name in plain}

    two.evaluated(some(1), some(2))
    found = [(row.condition, row.metric, row.n) for row in two.compared().results if row.is_overall]
    assert found == [("clean", "recall@10", 300), ("perturbed_text", "recall@10", 300)]


def test_rows_about_the_validity_of_benchmarks_are_not_compared(two: Two) -> None:
    def some() -> Columns:
        plain, trust = rows(100), rows(100)
        trust["task"][:] = TaskName.VALIDITY.value
        return {name: np.concatenate([plain[name], trust[name]]) for name in plain}

    two.evaluated(some(), some())
    assert {row.task for row in two.compared().results} == {"image_to_text"}


def test_scores_that_are_not_binary_are_compared_by_their_mean(two: Two) -> None:
    a, b = rows(400), rows(400)
    dice = np.random.default_rng(0).uniform(0.2, 0.6, 400)
    for found, more in ((a, 0.1), (b, 0.0)):
        found["task"][:] = "caption"
        found["rank"][:] = np.nan
        found["chrf"] = dice + more * np.random.default_rng(2).uniform(0, 2, 400)
    two.evaluated(a, b)
    found = two.compared()
    row = whole(found)
    assert (row.metric, row.outcome, row.only_a, row.p_mcnemar) == ("chrf", "better", None, None)
    assert not found.flips


def test_ranks_among_different_numbers_of_candidates_are_excluded_and_named(two: Two) -> None:
    a, b = rows(200), rows(200)
    for found in (a, b):
        half = found["task"] == "image_to_text"
        half[:100] = False
        found["task"][half] = "text_to_image"
    two.evaluated(a, b, facts={"candidates.image_to_text.test": 500, "candidates.text_to_image.test": 77})
    found = two.compared()
    assert [row.task for row in found.results if row.is_overall] == ["image_to_text"]
    assert any("77 for one model, 500 for the other" in each.message for each in found.exclusions)
    assert found.exit_code == 3


def test_missing_stale_and_other_data_are_a_sentence_with_the_command(two: Two) -> None:
    with pytest.raises(Undecided) as missing:
        two.compared()
    assert (missing.value.message, missing.value.fix) == (
        f"{two.a[:12]} was never evaluated here",
        f"clerestory evaluate {two.a[:12]}",
    )
    put_evaluation(two.store, two.a, rows(50), code="0" * 64)
    with pytest.raises(Undecided) as stale:
        two.compared()
    assert "is stale: code changed since" in stale.value.message
    put_evaluation(two.store, two.a, rows(50))
    put_evaluation(two.store, two.b, rows(50), data="e" * 64)
    with pytest.raises(Undecided) as other:
        two.compared()
    assert "was not evaluated on the data of" in other.value.message
    assert other.value.fix == f"clerestory evaluate {two.b[:12]}"
    with pytest.raises(Undecided, match="evaluated on other data only"):
        compare(two.a, two.b, two.store, data="e" * 64)


def test_a_model_is_not_compared_with_itself(two: Two) -> None:
    with pytest.raises(InputError, match="are the same model"):
        compare(two.a, two.a[:12], two.store)


@pytest.mark.parametrize("wrong", [{"margin": 0.0}, {"margin": 1.5}, {"alpha": 0.0}, {"alpha": 0.9}, {"max_flips": -1}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        CompareConfig(**wrong)  # type: ignore[arg-type]  # numbers only


def test_a_comparison_is_evidence_kept_once_and_verified_from_its_rows(two: Two) -> None:
    two.evaluated(rows(900, concepts=300, change={"": (0.02, 0.1)}), rows(900, concepts=300))
    found = two.compared()
    assert two.compared() == found
    evidence = two.store.evidence(found.evidence)
    assert evidence.kind == "compare"
    assert evidence.subject.model == two.a
    assert evidence.facts["model_b"] == two.b
    assert len(two.store.find_evidence("compare")) == 1
    assert len(read_rows(two.store.blobs.get(evidence.rows))["a"]) == 900
    findings = [f for f in verify(two.a, two.store) if "compare evidence" in f.where]
    assert {f.state for f in findings} == {"pass"}
    assert any("numbers are reproduced from 900 rows" in f.message for f in findings)
