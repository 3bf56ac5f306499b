"""chrF by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerestory.stats.text import chrf


def f2(precision: float, recall: float) -> float:
    return 5 * precision * recall / (4 * precision + recall)


@pytest.mark.parametrize(
    ("hypothesis", "reference", "expected"),
    [
        ("cat", "cat", 1.0),
        ("cat", "dog", 0.0),
        ("", "cat", 0.0),
        ("cat", "", 0.0),
        ("red cat", "redcat", 1.0),  # spaces do not count
        ("Cat", "cat", f2((2 / 3 + 1 / 2 + 0) / 3, (2 / 3 + 1 / 2 + 0) / 3)),  # case does
        # "cat" against "cats": lengths 1, 2, 3; precision 3/3, 2/2, 1/1; recall 3/4, 2/3, 1/2.
        ("cat", "cats", f2(1.0, (3 / 4 + 2 / 3 + 1 / 2) / 3)),
        # A repeated letter matches as often as it occurs in the reference: 1-grams 1/4 and 1/2, 2-grams none.
        ("aaaa", "ab", f2((1 / 4 + 0) / 2, (1 / 2 + 0) / 2)),
        # "rose" in "red rose" (7 letters): 4/4, 3/3, 2/2, 1/1 against 4/7, 3/6, 2/5, 1/4.
        ("rose", "red rose", f2(1.0, (4 / 7 + 3 / 6 + 2 / 5 + 1 / 4) / 4)),
    ],
)
def test_by_hand(hypothesis: str, reference: str, expected: float) -> None:
    assert chrf(hypothesis, reference) == pytest.approx(expected, abs=1e-12)


def test_no_more_than_six_letters_at_a_time() -> None:
    long = "abcdefghij"
    precision = sum((8 - n) / (10 - n + 1) for n in range(1, 7)) / 6
    assert chrf(long, "abcdefg" + "xyz") == pytest.approx(f2(precision, precision), abs=1e-12)


@given(st.text(alphabet="ab c", max_size=20), st.text(alphabet="ab c", max_size=20))
def test_between_0_and_1_and_1_only_for_the_same_letters(left: str, right: str) -> None:
    score = chrf(left, right)
    assert 0 <= score <= 1
    if "".join(left.split()) == "".join(right.split()) != "":
        assert score == pytest.approx(1.0)
