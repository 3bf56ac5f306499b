"""The generic cell rate algorithm (GCRA, ITU-T I.371): a leaky bucket that remembers one number for each key.

That number is the *theoretical arrival time*, at which everything spent so far will be paid off at the allowed rate.
In any interval of ``t`` seconds a key spends at most ``burst + rate × t``.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

MAX_KEYS = 100_000  # remembered; what is forgotten is the key whose last request is the oldest


@dataclass(frozen=True, slots=True)
class SpendingLimit:
    """How much may be spent: ``rate`` units per second, and ``burst`` units at once; no limit if the rate is 0."""

    rate: float
    burst: float


@dataclass(frozen=True, slots=True)
class SpendingDecision:
    """Whether a request is within the limit of its key.

    Attributes:
        allowed: whether it is; then its price has been charged.
        limit: the units that can be spent at once.
        remaining: those that can be spent now.
        reset: the seconds until all of them can be spent again.
        retry_after: the seconds until this request would be allowed; infinite if never, since its price is above the
            burst; 0 if it is allowed.
    """

    allowed: bool
    limit: float
    remaining: float
    reset: float
    retry_after: float = 0.0


class RateLimiter:
    """Spending by key, in memory: each process counts for itself.

    Args:
        max_keys: how many keys are remembered.
    """

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._paid_at: OrderedDict[str, float] = OrderedDict()  # the theoretical arrival time of each key
        self._lock = threading.Lock()

    def spend(self, key: str, price: float, limit: SpendingLimit, now: float) -> SpendingDecision:
        """Charge a price if that is within the limit; a price of 0 only tells how much is left.

        Args:
            key: whose spending it is.
            price: in units, 0 or more.
            limit: of this key.
            now: seconds of a clock that never goes back.
        """
        if not limit.rate:
            return SpendingDecision(True, math.inf, math.inf, 0.0)
        with self._lock:
            paid_at = max(self._paid_at.get(key, now), now)
            owed = (paid_at - now) * limit.rate
            allowed = owed + price <= limit.burst  # in units: of a price that is the burst, no rounding decides
            if allowed and price:
                self._paid_at[key] = paid_at = paid_at + price / limit.rate
                self._paid_at.move_to_end(key)
                while len(self._paid_at) > self._max_keys:
                    self._paid_at.popitem(last=False)
        reset = paid_at - now
        remaining = max(0.0, limit.burst - reset * limit.rate)
        if allowed:
            return SpendingDecision(True, limit.burst, remaining, reset)
        retry_after = (owed + price - limit.burst) / limit.rate if price <= limit.burst else math.inf
        return SpendingDecision(False, limit.burst, remaining, reset, retry_after)
