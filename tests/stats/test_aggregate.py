"""Aggregates follow from the rows, and from nothing else."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerestory.core.codec import Tags
from clerestory.core.errors import ConfigError, DataError, InputError, NotFound
from clerestory.core.evidence import Measurement, Recipe
from clerestory.stats.aggregate import aggregate, measure, recompute
from clerestory.stats.rows import read_rows, write_rows


def table(n: int = 400) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    rank = rng.geometric(0.1, n).astype(float)
    rank[::17] = np.nan
    return {
        "task": np.array(["image_to_text", "text_to_image"] * (n // 2), dtype=object),
        "style": np.array([f"style-{i}" for i in rng.integers(0, 3, n)], dtype=object),
        "concept": np.array([f"concept-{i}" for i in rng.integers(0, 60, n)], dtype=object),
        "rank": rank,
        "chrf": rng.random(n),
    }


RECIPES = [
    Recipe("share_at_most", "rank", Tags(task="image_to_text"), "concept", 10),
    Recipe("share_at_most", "rank", Tags(task="image_to_text", style="style-1"), "concept", 1),
    Recipe("mean", "chrf", Tags(), "concept"),
    Recipe("quantile", "rank", Tags(task="text_to_image"), "concept", 0.5),
    Recipe("quantile", "rank", Tags(), "", 0.95),
]


def test_values_equal_naive_loops() -> None:
    rows = table()
    kept = [
        (r, c)
        for t, r, c in zip(rows["task"], rows["rank"], rows["concept"], strict=True)
        if t == "image_to_text" and not math.isnan(r)
    ]
    share = aggregate(rows, RECIPES[0])
    assert share.value == sum(r <= 10 for r, _ in kept) / len(kept)
    assert share.n == len(kept)
    assert share.clusters == len({c for _, c in kept})
    assert aggregate(rows, RECIPES[2]).value == math.fsum(rows["chrf"].tolist()) / 400
    median = aggregate(rows, RECIPES[3]).value
    other = [r for t, r in zip(rows["task"], rows["rank"], strict=True) if t == "text_to_image" and not math.isnan(r)]
    assert median == np.median(other)
    assert aggregate(rows, RECIPES[4]).clusters is None


@pytest.mark.parametrize("recipe", RECIPES)
def test_recomputed_from_stored_bytes_it_is_exactly_the_same(recipe: Recipe) -> None:
    rows = table()
    claimed = measure(rows, recipe, "it", unit="share")
    again = recompute(read_rows(write_rows(rows)), claimed)
    assert again == claimed
    assert again.interval is not None


def test_the_level_of_the_claim_is_kept() -> None:
    rows = table()
    claimed = measure(rows, RECIPES[0], "recall@10", level=0.8)
    assert recompute(rows, claimed) == claimed
    assert recompute(rows, measure(rows, RECIPES[0], "recall@10")) != claimed


def test_one_changed_row_shows() -> None:
    rows = table()
    claimed = measure(rows, RECIPES[0], "recall@10")
    rows["rank"][2] = 1.0 if rows["rank"][2] > 10 else 99.0
    assert recompute(rows, claimed) != claimed


def test_unscored_rows_do_not_count_as_nought() -> None:
    rows = {"chrf": np.array([0.5, np.nan, 0.7, np.nan])}
    result = aggregate(rows, Recipe("mean", "chrf"))
    assert (result.value, result.n) == (0.6, 2)
    nones = {"chrf": np.array([0.5, None, 0.7, None], dtype=object)}
    assert aggregate(nones, Recipe("mean", "chrf")) == result


def test_a_mean_of_noughts_and_ones_has_the_interval_of_a_share() -> None:
    rows = {"hit": np.ones(30)}
    mean = aggregate(rows, Recipe("mean", "hit"), bounds=(0.0, 1.0))
    assert mean.interval is not None
    assert mean.interval.method == "cluster-wilson"
    assert mean.interval.low < 1


@given(st.permutations(range(40)))
def test_the_order_of_rows_does_not_matter_to_the_value(order: list[int]) -> None:
    rows = table(40)
    turned = {name: column[order] for name, column in rows.items()}
    for recipe in RECIPES[:3]:
        before, after = aggregate(rows, recipe), aggregate(turned, recipe)
        assert (before.value, before.n, before.clusters) == (after.value, after.n, after.clusters)


def test_what_cannot_be_followed_says_so() -> None:
    rows = table()
    with pytest.raises(NotFound, match="rank"):
        aggregate(rows, Recipe("mean", "rnk"))
    with pytest.raises(NotFound, match="styl"):
        aggregate(rows, Recipe("mean", "rank", Tags(styl="x")))
    with pytest.raises(NotFound, match="quantile"):
        aggregate(rows, Recipe("quantil", "rank"))
    with pytest.raises(InputError, match="no row has a rank where style=nowhere"):
        aggregate(rows, Recipe("mean", "rank", Tags(style="nowhere")))
    with pytest.raises(ConfigError, match="outside"):
        aggregate(rows, Recipe("quantile", "rank", parameter=1.5))
    with pytest.raises(InputError, match="has no recipe"):
        recompute(rows, Measurement("x", 1.0, "share", 1, None, "a single run"))


def test_rows_come_back_as_they_were() -> None:
    rows = table() | {"text": np.array(["", "ß", "a\nb", "=1"] * 100, dtype=object)}
    back = read_rows(write_rows(rows))
    assert list(back) == list(rows)
    for name, column in rows.items():
        np.testing.assert_array_equal(back[name], column)
    assert write_rows(back) == write_rows(rows)
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(b"not parquet")
