"""Rows are paired by what was asked, whatever order they are in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerestory.core.codec import Facts, Tags
from clerestory.core.errors import InputError
from clerestory.core.evidence import Recipe
from clerestory.stats.pairing import clusters, different_candidates, group_values, groups_of, join, scores

Columns = dict[str, np.ndarray[Any, Any]]


def table(*rows: tuple[str, ...], **more: list[Any]) -> Columns:
    """Rows of (task, sample, query, condition)."""
    columns: Columns = {
        name: np.array([row[i] for row in rows], dtype=object)
        for i, name in enumerate(("task", "sample", "query", "condition"))
    }
    for name, cells in more.items():
        number = bool(cells) and isinstance(cells[0], float)
        columns[name] = np.array(cells, dtype=np.float64 if number else object)
    return columns


@given(st.lists(st.integers(0, 30), max_size=40), st.lists(st.integers(0, 30), max_size=40), st.randoms())
def test_every_shared_question_is_paired_once_and_the_rest_is_counted(
    mine: list[int], theirs: list[int], dice: Any
) -> None:
    shared = {(q, k) for q in set(mine) for k in range(min(mine.count(q), theirs.count(q)))}
    dice.shuffle(mine)
    a, b = ([("zero_shot", f"s{q}", "", "clean") for q in found] for found in (mine, theirs))
    if not shared:
        with pytest.raises(InputError, match="no sample in common"):
            join(table(*a), table(*b))
        return
    joined = join(table(*a), table(*b))
    assert len(joined.a) == len(joined.b) == len(shared)
    assert [a[i][1] for i in joined.a] == [b[i][1] for i in joined.b]
    assert (joined.only_a, joined.only_b) == (len(mine) - len(shared), len(theirs) - len(shared))


def test_the_sample_is_the_question_except_where_it_is_the_answer() -> None:
    asked = [("image_to_text", "x", "a cat", "clean"), ("text_to_image", "x", "a cat", "clean")]
    other = [("image_to_text", "y", "a cat", "clean"), ("text_to_image", "y", "a cat", "clean")]
    joined = join(table(*asked), table(*other))
    assert joined.a.tolist() == [1]


def test_conditions_and_columns_that_only_one_has_keep_questions_apart() -> None:
    a = table(("t", "x", "", "clean"), ("t", "x", "", "fog"), severity=["", "3"])
    b = table(("t", "x", "", "fog"), ("t", "x", "", "fog"), severity=["2", "3"])
    joined = join(a, b)
    assert (joined.a.tolist(), joined.b.tolist()) == ([1], [1])


def test_where_takes_values_anything_and_columns_that_are_not_there() -> None:
    a = table(("t", "x", "", "clean"), ("t", "y", "", "fog"), severity=["", "3"])
    assert join(a, a, {"condition": "fog"}).a.tolist() == [1]
    assert join(a, a, {"severity": "*"}).a.tolist() == [1]
    with pytest.raises(InputError):
        join(a, a, {"split": "test"})


def test_scores_follow_the_recipe_row_by_row() -> None:
    rows = table(*[("t", str(i), "", "clean") for i in range(4)], rank=[1.0, 10.0, 11.0, np.nan])
    everything = np.arange(4)
    hits = scores(rows, Recipe("share_at_most", "rank", Tags(), "", 10.0), everything)
    np.testing.assert_array_equal(hits, [1.0, 1.0, 0.0, np.nan])
    np.testing.assert_array_equal(scores(rows, Recipe("mean", "rank"), everything[:2]), [1.0, 10.0])
    with pytest.raises(InputError, match="a quantile of rank cannot be compared sample by sample"):
        scores(rows, Recipe("quantile", "rank", parameter=0.5), everything)
    with pytest.raises(InputError):
        scores(rows, Recipe("mean", "chrf"), everything)


def test_groups_and_clusters() -> None:
    rows = table(*[("t", str(i), "", "clean") for i in range(4)], style=["noto", "", "mixed", "noto"],
                 concept=["c", "d", "c", "e"], rank=[1.0, 2.0, 3.0, 4.0])  # fmt: skip
    assert groups_of(rows) == ["style"]
    assert group_values(rows, "style", np.arange(4)) == ["noto"]
    assert clusters(rows, "concept", np.array([1, 0, 2])).tolist() == [0, 1, 1]
    assert clusters(rows, "", np.arange(3)).tolist() == [0, 1, 2]


def test_different_numbers_of_candidates_are_named() -> None:
    facts = Facts({"candidates.image_to_text.test": 500})
    assert different_candidates(facts, facts, "image_to_text", "test") == ""
    assert different_candidates(Facts(), Facts(), "zero_shot", "test") == ""
    message = different_candidates(facts, Facts(), "image_to_text", "test")
    assert message == "the numbers of candidates differ: 500 for one model, unknown for the other"
