"""Corruption errors and effective robustness."""

import numpy as np
import pytest
from bench.fit_effective_robustness import fit_line
from scipy import stats as scipy_stats
from scipy.special import expit, logit

from clerestory.core.errors import InputError, NotFound
from clerestory.core.evidence import Recipe
from clerestory.stats.aggregate import aggregate
from clerestory.stats.robustness import effective_robustness, published_lines, source

Errors = dict[str, list[float]]


def corruption_error(name: str, errors: Errors, reference: Errors, clean: float = 0.0, base: float = 0.0) -> float:
    """mCE or relative mCE as an evaluation computes it: one row per corruption and severity, and a clean one."""
    cells = [("clean", "", clean, base)]
    for corruption, rates in errors.items():
        pairs = enumerate(zip(rates, reference[corruption], strict=True), start=1)
        cells += [(corruption, str(severity), mine, theirs) for severity, (mine, theirs) in pairs]
    condition, severity, mine, theirs = (list(column) for column in zip(*cells, strict=True))
    rows = {
        "condition": np.array(condition, dtype=object),
        "severity": np.array(severity, dtype=object),
        "score": 1 - np.array(mine),
        "reference": 1 - np.array(theirs),
    }
    return aggregate(rows, Recipe(name, "score", against="condition")).value


REFERENCE = {"fog": [0.4, 0.6], "snow": [0.3, 0.5]}


def test_a_model_equal_to_the_reference_scores_one() -> None:
    assert corruption_error("mce", REFERENCE, REFERENCE) == pytest.approx(1.0)
    assert corruption_error("relative_mce", REFERENCE, REFERENCE, 0.2, 0.2) == pytest.approx(1.0)


def test_corruption_errors_by_hand() -> None:
    mine = {"fog": [0.2, 0.3], "snow": [0.3, 0.5]}
    assert corruption_error("mce", mine, REFERENCE) == pytest.approx((0.5 + 1.0) / 2)
    relative = corruption_error("relative_mce", mine, REFERENCE, 0.1, 0.2)
    assert relative == pytest.approx(((0.5 - 0.2) / (1.0 - 0.4) + 0.6 / 0.4) / 2)


def test_a_reference_that_hardly_errs_is_refused() -> None:
    with pytest.raises(InputError, match=r"error rate of only 0\.5% under fog, too little"):
        corruption_error("mce", {"fog": [0.2]}, {"fog": [0.005]})
    with pytest.raises(InputError, match=r"adds only 0\.0% under fog"):
        corruption_error("relative_mce", {"fog": [0.2]}, {"fog": [0.3]}, 0.1, 0.3)
    with pytest.raises(InputError, match="no row has a score"):
        corruption_error("mce", {}, REFERENCE)


def test_the_line_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 0.8, 50)
    y = expit(0.9 * logit(x) - 0.4 + rng.normal(0, 0.2, 50))
    line, theirs = fit_line(x.tolist(), y.tolist()), scipy_stats.linregress(logit(x), logit(y))
    assert (line.slope, line.intercept, line.r2) == pytest.approx((theirs.slope, theirs.intercept, theirs.rvalue**2))
    # The standard error of the slope is residual_sd / sqrt(x_spread).
    assert line.residual_sd / line.x_spread**0.5 == pytest.approx(theirs.stderr)
    with pytest.raises(InputError, match="three models"):
        fit_line([0.1, 0.2], [0.1, 0.2])
    with pytest.raises(InputError, match="no line fits"):
        fit_line([0.2] * 3, [0.1, 0.2, 0.3])


def test_the_published_lines_are_the_known_ones() -> None:
    lines = published_lines()
    known = {"imagenet_v2": 0.999, "imagenet_sketch": 0.969, "imagenet_r": 0.945, "imagenet_a": 0.853}
    assert {name: round(lines[name].r2, 3) for name in known} == known
    assert all(line.n == 121 for line in lines.values())
    assert source()["licence"] == "MIT"
    assert len(source()["sha256"]) == 64


def test_a_model_on_the_line_has_none_and_one_above_has_some() -> None:
    line = published_lines()["imagenet_v2"]
    expected = float(expit(line.slope * logit(0.7) + line.intercept))
    found = effective_robustness(0.7, expected, "imagenet_v2", 50_000, 10_000)
    assert found.value == pytest.approx(0, abs=1e-12)
    assert found.interval.low < 0 < found.interval.high
    above = effective_robustness(0.7, expected + 0.05, "imagenet_v2", 50_000, 10_000)
    assert above.value == pytest.approx(0.05)
    assert above.interval.low > 0
    assert 0 < above.scatter < 0.02


def test_its_interval_covers_the_sampling_of_both_accuracies() -> None:
    rng = np.random.default_rng(1)
    line = published_lines()["imagenet_v2"]
    truth = 0.65 - float(expit(line.slope * logit(0.7) + line.intercept))
    hits = 0
    for _ in range(1000):
        x, y = rng.binomial(2000, 0.7) / 2000, rng.binomial(1000, 0.65) / 1000
        interval = effective_robustness(x, y, "imagenet_v2", 2000, 1000).interval
        hits += interval.low <= truth <= interval.high
    assert 0.93 < hits / 1000 < 0.98


def test_what_no_line_can_tell_is_refused() -> None:
    with pytest.raises(InputError, match=r"follow no line on imagenet_o \(R² = 0.43\).*imagenet_v2, imagenet_sketch"):
        effective_robustness(0.5, 0.4, "imagenet_o", 1000, 1000)
    with pytest.raises(InputError, match=r"99\.0% lies outside 0\.8%…84\.4%"):
        effective_robustness(0.99, 0.4, "imagenet_v2", 1000, 1000)
    with pytest.raises(NotFound, match="imagenet_v2"):
        effective_robustness(0.5, 0.4, "imagenet_v3", 1000, 1000)
    with pytest.raises(InputError, match="no interval for accuracy"):
        effective_robustness(0.5, 1.4, "imagenet_v2", 1000, 1000)
