"""Settings with ranges: what is accepted from Python and from files alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerestory.core.codec import decode
from clerestory.core.errors import ConfigError
from clerestory.core.settings import Range, check_number, check_settings, setting_range


@dataclass(frozen=True, slots=True)
class Example:
    count: Annotated[int, Range(1)] = 1
    share: Annotated[float, Range(0, 1)] = 0.5
    rate: Annotated[float, Range(0, exclusive_minimum=True)] | None = None
    mode: Literal["fp32", "bf16"] = "fp32"
    pair: tuple[Annotated[float, Range(-1, 1)], ...] = ()
    free: float = 0.0
    name: str = ""

    def __post_init__(self) -> None:
        check_settings(self)


@pytest.mark.parametrize(
    ("settings", "accepts"),
    [
        ({"count": 0}, "at least 1"),
        ({"count": 1.5}, "an integer"),
        ({"count": 10**23}, "an integer up to 9,007,199,254,740,991"),
        ({"share": 1.01}, "at least 0 and at most 1"),
        ({"share": math.nan}, "finite and at least 0 and at most 1"),
        ({"rate": 0.0}, "above 0"),
        ({"rate": math.inf}, "finite and above 0"),
        ({"mode": "fp16"}, "fp32 or bf16"),
        ({"pair": (0.0, 2.0)}, "at least -1 and at most 1"),
        ({"free": -math.inf}, "a finite number"),
    ],
)
def test_an_impossible_value_is_refused_from_python_and_from_a_file(settings: dict[str, object], accepts: str) -> None:
    with pytest.raises(ConfigError) as direct:
        Example(**settings)  # type: ignore[arg-type]
    ((name, value),) = settings.items()
    assert f"Example.{name}" in direct.value.message
    assert f" must be {accepts}, not {value[-1] if isinstance(value, tuple) else repr(value)}" in direct.value.message
    with pytest.raises(ConfigError):
        decode(Example, settings)


def test_possible_values_are_accepted() -> None:
    assert Example(3, 1, 2, "bf16", (1.0, -1.0), -5.0, "x").rate == 2
    assert decode(Example, {"rate": None, "share": 1}) == Example(share=1.0)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_range_contains_exactly_the_numbers_between_its_bounds(value: float) -> None:
    assert (value in Range(0, 1)) == (0 <= value <= 1)
    assert (value in Range(0, 1, exclusive_minimum=True, exclusive_maximum=True)) == (0 < value < 1)
    assert (value in Range()) == (not math.isnan(value))


def test_a_range_is_found_through_a_union() -> None:
    assert str(setting_range(Example, "rate")) == "above 0"
    assert setting_range(Example, "free") is None
    assert str(Range()) == "any number"


@pytest.mark.parametrize("value", [-5.0, math.nan, math.inf])
def test_a_single_number_is_checked_in_the_same_way(value: float) -> None:
    check_number("--price", 0.0, Range(0))
    with pytest.raises(ConfigError, match=f"--price must be .*, not {value}"):
        check_number("--price", value, Range(0))
