"""How many more samples a claim needs: right for shares of any size, in both directions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from clerestory.core.codec import Tags
from clerestory.core.evidence import Measurement, Recipe
from clerestory.core.release import Rule
from clerestory.stages.release.rules import additional_rows, check_bound
from clerestory.stats.aggregate import measure

WHERE = Tags(task="quiz")


def measured_share(hits: int, n: int) -> Measurement:
    """A share of ``n`` samples, each of its own concept."""
    rows = {
        "task": np.full(n, "quiz", dtype=object),
        "correct": np.arange(n) < hits,
        "concept": np.array([f"c{i}" for i in range(n)], dtype=object),
    }
    return measure(rows, Recipe("mean", "correct", WHERE, "concept"), "accuracy")


def minimum(bound: float) -> Rule:
    return Rule("enough", "accuracy", WHERE, at_least=bound)


def test_nine_of_a_hundred_and_one_need_some_more_samples_not_another_model() -> None:
    found = measured_share(9, 101)
    reason = check_bound(minimum(0.05), found, "e")
    assert reason.outcome == "fail"
    assert reason.additional_rows is not None
    # With ten hits or more the interval is no longer Wilson's but the wider one of Student's t.
    assert 90 <= reason.additional_rows <= 115
    assert f"about {reason.additional_rows} more samples like these" in reason.message


@pytest.mark.parametrize("bound", [0.0892, 0.2, 0.9])
def test_no_number_of_samples_helps_a_value_below_the_bound(bound: float) -> None:
    reason = check_bound(minimum(bound), measured_share(9, 101), "e")
    assert reason.additional_rows is None
    assert "more samples" not in reason.message


@given(n=st.integers(20, 400), hits=st.floats(0.05, 0.95), part=st.floats(0.15, 0.9), upwards=st.booleans())
@example(n=20, hits=0.9375, part=0.5, upwards=False)  # the interval changes from Wilson to t on the way
def test_with_that_many_more_samples_of_the_same_share_the_claim_holds(
    n: int, hits: float, part: float, upwards: bool
) -> None:
    count = max(1, min(n - 1, round(hits * n)))
    found = measured_share(count, n)
    assert found.interval is not None
    end = found.interval.low if upwards else found.interval.high
    bound = found.value + part * (end - found.value)
    rule = minimum(bound) if upwards else Rule("enough", "accuracy", WHERE, at_most=bound)
    more = additional_rows(rule, found)
    assert more is not None
    larger = n + more
    assume(larger < 20_000)

    def outcome(size: float) -> str:
        whole = round(size)
        return check_bound(rule, measured_share(round(count / n * whole), whole), "e").outcome

    assert outcome(1.15 * larger + 2 / (1 - part) / abs(end - found.value)) == "pass"
    assert outcome(max(n, 0.5 * larger)) == "fail"
