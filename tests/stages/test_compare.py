"""A comparison says what is there: planted differences, none, and what cannot be told."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tests.support.paired_rows import Columns, put_examination, put_model, rows

from clerestory.core.comparison import Comparison, Line
from clerestory.core.errors import ConfigError, InputError, Undecided
from clerestory.core.evidence import Evidence
from clerestory.stages.compare import CompareConfig, compare
from clerestory.stages.release import verify
from clerestory.stats.paired import mcnemar
from clerestory.stats.rows import read_rows
from clerestory.store import Store


class Two:
    """Two examined models in a store."""

    def __init__(self, store: Store, place: Path) -> None:
        self.store = store
        self.a, self.b = put_model(store, place, "a"), put_model(store, place, "b")

    def examined(self, a: Columns, b: Columns, **of_a: object) -> tuple[Evidence, Evidence]:
        first = put_examination(self.store, self.a, a, **of_a)  # type: ignore[arg-type]  # a test's own keywords
        return first, put_examination(self.store, self.b, b)

    def compared(self, **config: float) -> Comparison:
        return compare(self.a, self.b, self.store, CompareConfig(**config))  # type: ignore[arg-type]  # numbers only


@pytest.fixture
def two(store: Store, tmp_path: Path) -> Two:
    return Two(store, tmp_path / "models")


def whole(found: Comparison) -> Line:
    [line] = [line for line in found.lines if line.whole]
    return line


def test_a_planted_gain_is_better_and_a_planted_loss_worse(two: Two) -> None:
    two.examined(rows(1500, change={"": (0.0, 0.2)}), rows(1500))
    found = two.compared()
    line = whole(found)
    assert (line.word, found.verdict, found.exit_code) == ("better", "better", 0)
    assert line.low is not None
    assert line.low > 0
    assert line.difference == pytest.approx(line.a - line.b)
    other = compare(two.b, two.a, two.store)
    mirrored = whole(other)
    assert (mirrored.word, other.exit_code) == ("worse", 1)
    assert mirrored.difference == -line.difference
    assert (mirrored.low, mirrored.high) == (-(line.high or 0), -line.low)


def test_hardly_any_change_on_many_samples_is_no_difference(two: Two) -> None:
    two.examined(rows(4000, change={"": (0.002, 0.003)}), rows(4000))
    found = two.compared(margin=0.02)
    assert whole(found).word == "no_difference"
    assert found.exit_code == 0


def test_little_on_few_samples_is_inconclusive_and_says_how_many_more(two: Two) -> None:
    two.examined(rows(90, change={"": (0.15, 0.2)}, seed=3), rows(90))
    found = two.compared()
    line = whole(found)
    assert (line.word, found.exit_code) == ("inconclusive", 3)
    assert line.needs is not None
    assert line.needs > 90
    assert line.detectable is not None
    assert line.detectable > found.margin


def test_a_group_that_lost_is_found_inside_a_whole_that_gained(two: Two) -> None:
    change = {"twemoji": (0.3, 0.0), "noto": (0.0, 0.6), "openmoji": (0.0, 0.6)}
    two.examined(rows(3000, change=change), rows(3000))
    found = two.compared()
    words = {line.value: line.word for line in found.lines if line.group == "style"}
    assert whole(found).word == "better"
    assert words == {"noto": "better", "openmoji": "better", "twemoji": "worse"}
    assert found.exit_code == 1


def test_groups_that_differ_by_chance_alone_are_not_called_different(two: Two) -> None:
    a, b = rows(3000, change={"": (0.05, 0.075)}, seed=5), rows(3000)
    for found in (a, b):
        found["emoji_group"] = np.array([f"g{i}" for i in np.random.default_rng(1).integers(0, 40, 3000)], dtype=object)
    two.examined(a, b)
    lines = [line for line in two.compared().lines if line.group == "emoji_group"]
    assert len(lines) == 40
    assert {line.word for line in lines} <= {"inconclusive", "no_difference"}
    assert all(line.adjusted >= line.p for line in lines if line.adjusted is not None and line.p is not None)


def test_unclustered_answers_agree_with_mcnemar_and_clustered_ones_have_none(two: Two) -> None:
    a, b = rows(800, change={"": (0.1, 0.05)}, seed=2), rows(800)
    two.examined(a, b)
    line = whole(two.compared())
    exact = mcnemar((a["rank"] <= 10).astype(float), (b["rank"] <= 10).astype(float))
    assert (line.only_a, line.only_b, line.exact) == (exact.only_a, exact.only_b, exact.p)
    assert line.p is not None
    assert math.log10(line.p) == pytest.approx(math.log10(exact.p), abs=1)
    put_examination(two.store, two.a, rows(800, concepts=200, change={"": (0.1, 0.05)}))
    put_examination(two.store, two.b, rows(800, concepts=200))
    clustered = whole(two.compared())
    assert (clustered.clusters, clustered.exact) == (200, None)


def test_flips_are_those_that_flipped_and_the_furthest_come_first(two: Two) -> None:
    a, b = rows(400, change={"": (0.1, 0.1)}, seed=4), rows(400)
    was, now_ = b["rank"] <= 10, a["rank"] <= 10
    far = int(np.flatnonzero(was & ~now_)[3])
    a["rank"][far] = 500.0
    two.examined(a, b)
    found = two.compared(flips=1000)
    lost = [flip.sample for flip in found.flips if flip.right == "b"]
    won = {flip.sample for flip in found.flips if flip.right == "a"}
    assert set(lost) == {f"s{i}" for i in np.flatnonzero(was & ~now_)}
    assert won == {f"s{i}" for i in np.flatnonzero(~was & now_)}
    assert lost[0] == f"s{far}"
    first = found.flips[0]
    assert (first.caption, first.said_a, first.said_b) == (f"caption {far}", "place 500", "place 2")


def test_rows_pair_by_what_was_asked_and_not_by_their_order(two: Two) -> None:
    a, b = rows(600, change={"": (0.0, 0.3)}), rows(600)
    order = np.random.default_rng(1).permutation(600)
    two.examined({name: cells[order] for name, cells in a.items()}, b)
    line = whole(two.compared())
    assert (line.only_b, line.n) == (0, 600)


def test_a_caption_is_the_same_question_whichever_picture_answers_it(two: Two) -> None:
    a, b = rows(300), rows(300)
    for found in (a, b):
        found["task"][:] = "text_to_image"
    a["sample"] = np.array([f"other{i}" for i in range(300)], dtype=object)
    two.examined(a, b)
    assert whole(two.compared()).n == 300


def test_unscored_rows_are_counted_and_never_score_0(two: Two) -> None:
    a, b = rows(500), rows(500)
    a["rank"][:40] = np.nan
    two.examined(a, b)
    line = whole(two.compared())
    assert (line.n, line.dropped, line.difference) == (460, 40, 0.0)


def test_when_nothing_is_scored_for_both_it_cannot_tell(two: Two) -> None:
    a, b = rows(100), rows(100)
    a["rank"][:50], b["rank"][50:] = np.nan, np.nan
    two.examined(a, b)
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

    two.examined(some(1), some(2))
    assert [line.condition for line in two.compared().lines if line.whole] == ["clean", "corrupted", "words"]


def test_a_task_keeps_its_measure_where_some_conditions_have_a_score_as_well(two: Two) -> None:
    def some(seed: int) -> Columns:
        plain, typos = (rows(300, change={"": (0.05, 0.05)}, seed=seed) for _ in range(2))
        typos["condition"][:] = "typos"
        typos["score"] = (typos["rank"] <= 10).astype(float)
        return {name: np.concatenate([plain[name], typos[name]]) for name in plain}

    two.examined(some(1), some(2))
    found = [(line.condition, line.measure, line.n) for line in two.compared().lines if line.whole]
    assert found == [("clean", "recall@10", 300), ("words", "recall@10", 300)]


def test_what_is_said_of_benchmarks_is_no_score_of_the_model(two: Two) -> None:
    def some() -> Columns:
        plain, trust = rows(100), rows(100)
        trust["task"][:] = "trust"
        return {name: np.concatenate([plain[name], trust[name]]) for name in plain}

    two.examined(some(), some())
    assert {line.task for line in two.compared().lines} == {"image_to_text"}


def test_scores_that_are_no_right_or_wrong_are_compared_by_their_mean(two: Two) -> None:
    a, b = rows(400), rows(400)
    dice = np.random.default_rng(0).uniform(0.2, 0.6, 400)
    for found, more in ((a, 0.1), (b, 0.0)):
        found["task"][:] = "caption"
        found["rank"][:] = np.nan
        found["chrf"] = dice + more * np.random.default_rng(2).uniform(0, 2, 400)
    two.examined(a, b)
    found = two.compared()
    line = whole(found)
    assert (line.measure, line.word, line.only_a, line.exact) == ("chrf", "better", None, None)
    assert not found.flips


def test_ranks_among_other_numbers_of_answers_are_left_out_and_told(two: Two) -> None:
    a, b = rows(200), rows(200)
    for found in (a, b):
        half = found["task"] == "image_to_text"
        half[:100] = False
        found["task"][half] = "text_to_image"
    two.examined(a, b, facts={"candidates.image_to_text.test": "500", "candidates.text_to_image.test": "77"})
    found = two.compared()
    assert [line.task for line in found.lines if line.whole] == ["image_to_text"]
    assert any("one chose among 77 answers and the other among 500" in note for note in found.notes)
    assert found.exit_code == 3


def test_missing_stale_and_other_data_are_a_sentence_with_the_command(two: Two) -> None:
    with pytest.raises(Undecided) as missing:
        two.compared()
    assert (missing.value.message, missing.value.fix) == (
        f"{two.a[:12]} was never examined here",
        f"clerestory evaluate {two.a[:12]}",
    )
    put_examination(two.store, two.a, rows(50), code="0" * 64)
    with pytest.raises(Undecided) as stale:
        two.compared()
    assert "is stale, it was made with other code" in stale.value.message
    put_examination(two.store, two.a, rows(50))
    put_examination(two.store, two.b, rows(50), data="e" * 64)
    with pytest.raises(Undecided) as other:
        two.compared()
    assert "not examined on the data that" in other.value.message
    assert other.value.fix == f"clerestory evaluate {two.b[:12]}"
    with pytest.raises(Undecided, match="examined on other data only"):
        compare(two.a, two.b, two.store, data="e" * 64)


def test_a_model_is_not_compared_with_itself(two: Two) -> None:
    with pytest.raises(InputError, match="are the same model"):
        compare(two.a, two.a[:12], two.store)


@pytest.mark.parametrize("wrong", [{"margin": 0.0}, {"margin": 1.5}, {"alpha": 0.0}, {"alpha": 0.9}, {"flips": -1}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        CompareConfig(**wrong)  # type: ignore[arg-type]  # numbers only


def test_a_comparison_is_evidence_kept_once_and_verified_from_its_rows(two: Two) -> None:
    two.examined(rows(900, concepts=300, change={"": (0.02, 0.1)}), rows(900, concepts=300))
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
    assert any("numbers come out the same again from 900 rows" in f.message for f in findings)
