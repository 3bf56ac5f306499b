"""The spending limit: never more than burst + rate × time, whatever the requests; and never less than promised."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerestory.core.errors import SettingError
from clerestory.stages.serve.access_config import AccessConfig
from clerestory.stages.serve.rate_limit import RateLimiter, SpendingLimit

PRICES = st.floats(0, 2_000)
PAUSES = st.floats(0, 100)
LIMITS = st.builds(SpendingLimit, st.floats(0.01, 1_000), st.floats(1, 1_000))
TOLERANCE = 1e-6


@given(LIMITS, st.lists(st.tuples(PAUSES, PRICES), max_size=60))
def test_never_more_than_burst_and_rate_in_any_interval(
    limit: SpendingLimit, requests: list[tuple[float, float]]
) -> None:
    limiter, now, spent = RateLimiter(), 0.0, []
    for pause, price in requests:
        now += pause
        if limiter.spend("key", price, limit, now).allowed:
            spent.append((now, price))
    for i, (start, _) in enumerate(spent):
        total = 0.0
        for end, price in spent[i:]:
            total += price
            bound = limit.burst + limit.rate * (end - start)
            assert total <= bound * (1 + TOLERANCE) + TOLERANCE


@given(LIMITS, st.lists(st.tuples(PAUSES, PRICES), max_size=40))
def test_after_the_stated_wait_the_same_request_is_allowed(
    limit: SpendingLimit, requests: list[tuple[float, float]]
) -> None:
    limiter, now = RateLimiter(), 0.0
    for pause, price in requests:
        now += pause
        decision = limiter.spend("key", price, limit, now)
        if decision.allowed:
            assert 0 <= decision.remaining <= limit.burst
            assert decision.retry_after == 0
        elif price > limit.burst:
            assert math.isinf(decision.retry_after)
        else:
            now += decision.retry_after + TOLERANCE
            assert limiter.spend("key", price, limit, now).allowed


@given(LIMITS, PRICES)
def test_a_refused_request_costs_nothing(limit: SpendingLimit, price: float) -> None:
    limiter = RateLimiter()
    before = limiter.spend("key", 0, limit, 0.0).remaining
    if not limiter.spend("key", limit.burst + price + 1, limit, 0.0).allowed:
        assert limiter.spend("key", 0, limit, 0.0).remaining == before


def test_keys_are_counted_apart_and_the_oldest_is_forgotten() -> None:
    limiter, limit = RateLimiter(max_keys=2), SpendingLimit(1, 10)
    for key in ("a", "b"):
        assert limiter.spend(key, 10, limit, 0.0).allowed
        assert not limiter.spend(key, 1, limit, 0.0).allowed
    assert limiter.spend("c", 10, limit, 0.0).allowed
    assert not limiter.spend("b", 1, limit, 0.0).allowed
    assert limiter.spend("a", 1, limit, 0.0).allowed


def test_a_rate_of_zero_is_no_limit() -> None:
    assert RateLimiter().spend("key", 1e12, SpendingLimit(0, 1), 0.0).allowed


def test_pixels_and_characters_have_a_price() -> None:
    config = AccessConfig()
    assert config.price() == 1
    assert config.price(characters=2_000, pixels=500_000) == 1 + 2 + 2


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"hosts": ("example.org:80",)}, "not a host name"),
        ({"hosts": ("http://example.org",)}, "not a host name"),
        ({"hosts": ("",)}, "not a host name"),
        ({"origins": ("example.org",)}, "not an origin"),
        ({"origins": ("https://example.org/",)}, "not an origin"),
        ({"origins": ("null",)}, "not an origin"),
        ({"proxies": ("proxy.local",)}, "not an address"),
        ({"proxies": ("10.0.0.1/8",)}, "not an address"),
        ({"keys": "maybe"}, "auto, required or off"),
        ({"burst": 0}, "at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_named(values: dict[str, object], problem: str) -> None:
    with pytest.raises(SettingError, match=problem):
        AccessConfig(**values)  # type: ignore[arg-type]
