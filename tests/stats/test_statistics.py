"""Every statistic of the registry against its pure definition, and again from stored bytes."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats as scipy_stats
from tests.support import oracles

from clerestory.core.codec import Tags
from clerestory.core.errors import ConfigError, InputError, NotFound
from clerestory.core.evidence import Recipe
from clerestory.stats import calibration
from clerestory.stats.aggregate import aggregate, measure, recompute
from clerestory.stats.calibration import ReliabilityBin
from clerestory.stats.intervals import mean_interval
from clerestory.stats.ood import DetectionCurve
from clerestory.stats.rows import read_rows, write_rows
from clerestory.stats.statistics import STATISTICS

CONDITIONS = (("clean", ""), ("fog", "1"), ("fog", "5"), ("snow", "1"), ("snow", "5"), ("blind", ""), ("typos", ""))


def table(items: int = 200) -> dict[str, np.ndarray]:
    """Every item under every condition, with gaps."""
    rng = np.random.default_rng(0)
    n = items * len(CONDITIONS)
    item = np.repeat(np.arange(items), len(CONDITIONS))
    condition = np.array([c for c, _ in CONDITIONS] * items, dtype=object)
    severity = np.array([s for _, s in CONDITIONS] * items, dtype=object)
    hard = rng.random(items)[item]
    loss = np.select([severity == "1", severity == "5", condition == "blind"], [0.1, 0.3, 0.4], 0.0)
    score = (rng.random(n) > 0.2 + loss * (0.5 + hard)).astype(float)
    score[::31] = np.nan
    confidence = np.clip(rng.beta(4, 2, n), 0, 1)
    confidence[::37] = np.nan
    target = rng.choice(["yes", "no", "maybe"], n).astype(object)
    inside = (rng.random(n) < 0.6).astype(float)
    inside[::41] = np.nan
    return {
        "concept": np.array([f"concept-{i // 3}" for i in item], dtype=object),
        "condition": condition,
        "severity": severity,
        "group": np.array([("a", "b", "c", "", "mixed")[i % 5] for i in item], dtype=object),
        "tiny": np.array(["two" if i == 0 else ("x", "y")[i % 2] for i in item], dtype=object),
        "score": score,
        "reference": (rng.random(n) > 0.3 + loss).astype(float),
        "confidence": confidence,
        "chance": rng.choice([0.25, 0.5], n),
        "ood_msp": np.round(rng.normal(np.nan_to_num(inside), 1), 1),
        "in_distribution": inside,
        "cost": rng.random(n),
        "target": target,
        "answer": np.where(np.nan_to_num(score) == 1, target, rng.choice(["yes", "no", "maybe"], n)),
    }


CLEAN = Tags(condition="clean")
RECIPES = [
    Recipe("ratio", "cost", CLEAN, "concept", 1000, "score"),
    Recipe("chance_corrected", "score", Tags(condition="blind"), "concept", against="chance"),
    Recipe("contrast", "score", Tags(), "concept", against="condition:clean:blind"),
    Recipe("paired", "score", CLEAN, "concept", against="reference"),
    Recipe("mean_of_groups", "score", Tags(severity="*"), "concept", against="condition"),
    Recipe("mce", "score", Tags(), "concept", against="condition"),
    Recipe("relative_mce", "score", Tags(), "concept", against="condition"),
    Recipe("ece_width", "confidence", CLEAN, "concept", against="score"),
    Recipe("ece_mass", "confidence", CLEAN, "concept", 10, "score"),
    Recipe("auroc", "ood_msp", Tags(), "concept", against="in_distribution"),
    Recipe("aupr_in", "ood_msp", Tags(), "concept", against="in_distribution"),
    Recipe("aupr_out", "ood_msp", Tags(), "concept", against="in_distribution"),
    Recipe("fpr95", "ood_msp", Tags(), "concept", against="in_distribution"),
    Recipe("correlation", "confidence", Tags(), "concept", against="score"),
    Recipe("worst_group", "score", CLEAN, "concept", against="group"),
    Recipe("largest_gap", "score", CLEAN, "concept", 5, "group"),
    Recipe("equalised_odds", "score", CLEAN, "concept", against="group"),
]


def kept(rows: dict[str, np.ndarray], *numbers: str, **where: str) -> dict[str, np.ndarray]:
    keep = np.all([~np.isnan(rows[name]) for name in numbers], axis=0)
    for name, value in where.items():
        keep &= rows[name] == value
    return {name: column[keep] for name, column in rows.items()}


def test_every_statistic_is_tested() -> None:
    assert {r.statistic for r in RECIPES} | {"mean", "share_at_most", "quantile"} == set(STATISTICS)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.statistic)
def test_recomputed_from_stored_bytes_it_is_exactly_the_same(recipe: Recipe) -> None:
    rows = table()
    claimed = measure(rows, recipe, "it", {"task": "it"}, unit="share")
    assert claimed.interval is not None
    assert claimed.interval.low <= claimed.value <= claimed.interval.high
    assert claimed.interval.low < claimed.interval.high
    assert claimed.clusters == 67 or recipe.statistic in ("worst_group", "largest_gap", "equalised_odds", "ratio")
    assert recompute(read_rows(write_rows(rows)), claimed) == claimed


def error(bins: Sequence[ReliabilityBin]) -> float:
    """The calibration error that a reliability diagram adds up to."""
    total = sum(b.n for b in bins)
    return sum(b.n / total * abs(b.confidence - b.accuracy) for b in bins)


def test_values_equal_the_pure_measures() -> None:
    rows = table()
    found = {r.statistic: aggregate(rows, r) for r in RECIPES}

    def value(name: str) -> float:
        return found[name].value

    clean = kept(rows, "confidence", "score", condition="clean")
    assert found["ece_width"].n == len(clean["score"])
    assert value("ece_width") == pytest.approx(
        error(calibration.reliability(clean["confidence"], clean["score"])), abs=1e-12
    )
    assert value("ece_mass") == pytest.approx(
        error(calibration.reliability(clean["confidence"], clean["score"], 10, "mass")), abs=1e-12
    )
    some = kept(rows, "ood_msp", "in_distribution")
    curve = DetectionCurve(some["ood_msp"], some["in_distribution"])
    areas = {"auroc": curve.auroc, "aupr_in": curve.aupr, "aupr_out": curve.opposite().aupr, "fpr95": curve.fpr95}
    for name, area in areas.items():
        assert value(name) == pytest.approx(float(area()[0]), abs=1e-12)
        assert found[name].n == len(some["ood_msp"])
    scored = kept(rows, "score", condition="clean")
    assert value("ratio") == pytest.approx(1000 * scored["cost"].sum() / scored["score"].sum())
    assert value("worst_group") == pytest.approx(min(oracles.group_means(scored["score"], scored["group"]).values()))
    assert value("largest_gap") == pytest.approx(
        np.ptp(list(oracles.group_means(scored["score"], scored["group"], 5).values()))
    )
    gaps = oracles.odds_gaps(scored["answer"], scored["target"], scored["group"])
    assert value("equalised_odds") == pytest.approx(max(gaps))
    both = kept(rows, "confidence", "score")
    assert value("correlation") == pytest.approx(np.corrcoef(both["confidence"], both["score"])[0, 1])
    blind = kept(rows, "score", condition="blind")
    corrected = (blind["score"] - blind["chance"]) / (1 - blind["chance"])
    assert value("chance_corrected") == pytest.approx(corrected.mean())
    assert value("contrast") == pytest.approx(scored["score"].mean() - blind["score"].mean())
    assert value("paired") == pytest.approx((scored["score"] - scored["reference"]).mean())
    means = [kept(rows, "score", condition=name)["score"].mean() for name in ("fog", "snow")]
    assert value("mean_of_groups") == pytest.approx(np.mean(means))


def test_corruption_errors_equal_their_definition() -> None:
    rows = table()
    rows["score"] = np.nan_to_num(rows["score"])

    def errors(column: str) -> dict[str, list[float]]:
        return {
            name: [1 - kept(rows, column, condition=name, severity=s)[column].mean() for s in "15"]
            for name in ("fog", "snow")
        }

    def clean(column: str) -> float:
        return float(1 - kept(rows, column, condition="clean")[column].mean())

    plain, relative = (aggregate(rows, Recipe(name, "score", against="condition")) for name in ("mce", "relative_mce"))
    assert plain.n == 800
    assert relative.n == 1000
    assert plain.value == pytest.approx(oracles.mce(errors("score"), errors("reference")))
    expected = oracles.relative_mce(errors("score"), clean("score"), errors("reference"), clean("reference"))
    assert relative.value == pytest.approx(expected)


def test_a_contrast_of_pairs_is_the_interval_of_their_differences() -> None:
    rng = np.random.default_rng(1)
    ability = rng.normal(0, 5, 80)
    first, second = ability + rng.normal(1, 0.1, 80), ability + rng.normal(0, 0.1, 80)
    rows = {
        "x": np.concatenate([first, second]),
        "condition": np.repeat(np.array(["full", "blind"], dtype=object), 80),
        "item": np.array([f"{i}" for i in range(80)] * 2, dtype=object),
    }
    found = aggregate(rows, Recipe("contrast", "x", Tags(), "item", against="condition:full:blind"))
    paired = mean_interval(first - second, np.arange(80))
    assert not isinstance(paired, str)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((paired.low, paired.high))
    assert found.clusters == 80
    turned = aggregate(rows, Recipe("contrast", "x", Tags(), "item", against="condition:blind:full"))
    assert turned.value == pytest.approx(-found.value)


def test_linearised_intervals_cover() -> None:
    """A ratio of clustered sums, 400 times over: 95 % of the intervals hold the truth, within four standard errors."""
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(400):
        size = np.repeat(rng.gamma(4, 1, 60), 4)
        rows = {"above": size * 3 + rng.normal(0, 1, 240), "below": size, "c": np.repeat(np.arange(60), 4).astype(str)}
        interval = aggregate(rows, Recipe("ratio", "above", Tags(), "c", against="below")).interval
        assert interval is not None
        hits += interval.low <= 3 <= interval.high
    assert abs(hits / 400 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 400)


def test_the_auroc_interval_is_close_to_the_analytic_one() -> None:
    rng = np.random.default_rng(3)
    inside = np.repeat([1.0, 0.0], 300)
    rows = {"s": rng.normal(inside, 1), "i": inside}
    found = aggregate(rows, Recipe("auroc", "s", against="i"))
    assert found.interval is not None
    ins, outs = rows["s"][:300], rows["s"][300:]
    # DeLong's variance from the placements.
    above = (ins[:, None] > outs).mean(axis=1)
    below = (ins[:, None] > outs).mean(axis=0)
    half = scipy_stats.norm.ppf(0.975) * math.sqrt(above.var(ddof=1) / 300 + below.var(ddof=1) / 300)
    assert found.interval.high - found.interval.low == pytest.approx(2 * half, rel=0.15)


@pytest.mark.parametrize("name", ["worst_group", "largest_gap", "equalised_odds"])
def test_groups_that_are_alike_have_intervals_that_say_so(name: str) -> None:
    truth = {"worst_group": 0.7, "largest_gap": 0.0, "equalised_odds": 0.0}[name]
    hits = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        right = rng.random(400) < 0.7
        target = rng.choice(["yes", "no"], 400)
        rows = {
            "score": right.astype(float),
            "group": rng.choice(list("abcd"), 400).astype(object),
            "target": target.astype(object),
            "answer": np.where(right, target, np.where(target == "yes", "no", "yes")).astype(object),
        }
        interval = aggregate(rows, Recipe(name, "score", against="group")).interval
        assert interval is not None
        hits += interval.low <= truth <= interval.high
    assert hits >= 54


def test_any_stands_for_all_that_is_not_empty() -> None:
    rows = table()
    found = aggregate(rows, Recipe("mean", "score", Tags(severity="*")))
    assert found.n == int((~np.isnan(rows["score"]) & (rows["severity"] != "")).sum())


def test_a_group_of_two_is_left_out_of_the_numbers() -> None:
    rows = {
        "score": np.array([0.0] * 2 + [1.0, 0.0] * 20),
        "group": np.array(["two"] * 2 + ["x", "y"] * 20, dtype=object),
    }
    found = aggregate(rows, Recipe("largest_gap", "score", against="group"))
    assert (found.value, found.n) == (1.0, 40)
    rows["group"] = np.array(["two"] * 2 + ["x"] * 40, dtype=object)
    with pytest.raises(InputError, match=r"two \(2\) has fewer than 10 rows"):
        aggregate(rows, Recipe("worst_group", "score", against="group"))


def test_what_the_rows_do_not_allow_says_so() -> None:
    rows = table(20)
    with pytest.raises(InputError, match="all .* samples are in-distribution"):
        aggregate(rows | {"i": np.ones(140)}, Recipe("auroc", "ood_msp", against="i"))
    with pytest.raises(ConfigError, match="second column"):
        aggregate(rows, Recipe("auroc", "ood_msp"))
    with pytest.raises(NotFound, match="in_distribution"):
        aggregate(rows, Recipe("auroc", "ood_msp", against="in_distributon"))
    with pytest.raises(ConfigError, match="column:first:second"):
        aggregate(rows, Recipe("contrast", "score", against="condition"))
    with pytest.raises(InputError, match="no scored row is 'full'"):
        aggregate(rows, Recipe("contrast", "score", against="condition:full:blind"))
    with pytest.raises(InputError, match="denominator of the ratio is 0"):
        aggregate(rows | {"none": np.zeros(140)}, Recipe("ratio", "cost", against="none"))
    with pytest.raises(InputError, match="chance level"):
        aggregate(rows | {"c": np.ones(140)}, Recipe("chance_corrected", "score", against="c"))
    with pytest.raises(InputError, match=r"the baseline has an error rate of only 0.0% under fog"):
        aggregate(rows | {"reference": np.ones(140)}, Recipe("mce", "score", against="condition"))
    chosen = {name: column[rows["condition"] == "fog"] for name, column in rows.items()}
    with pytest.raises(InputError, match="no scored row is clean"):
        aggregate(chosen, Recipe("relative_mce", "score", against="condition"))
    with pytest.raises(InputError, match="a correlation is undefined"):
        aggregate(rows | {"c": np.ones(140)}, Recipe("correlation", "score", against="c"))
    with pytest.raises(InputError, match="no row has a score and group"):
        aggregate(rows | {"group": np.full(140, "", dtype=object)}, Recipe("mean_of_groups", "score", against="group"))


def test_rows_of_one_cluster_have_a_reason_instead_of_an_interval() -> None:
    rows = table(3)
    for recipe in RECIPES[:3]:
        found = aggregate(rows, recipe)
        assert found.interval is None
        assert "one cluster" in found.no_interval
