"""What load to offer, and when each request of it is due."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import ConfigError

Arrivals = Literal["poisson", "uniform"]
MOST_REQUESTS = 1_000_000


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """An open-loop load.

    Attributes:
        rate: requests per second that arrive on average, however fast they are answered.
        seconds: how long arrivals are measured for, after the warm-up.
        warm_up: for how many seconds requests arrive before that; they are sent like the others and then dropped.
        arrivals: ``poisson`` (independent users: exponential gaps) or ``uniform`` (equal gaps).
        slo_ms: the time within which an answer is good, in milliseconds from when the request was due.
        timeout: after how many seconds from when it was due a request is given up.
        seed: chooses the Poisson arrivals.
        most_in_flight: how many requests may be under way at once; a further one waits, and its clock runs.
    """

    rate: float = 5.0
    seconds: float = 10.0
    warm_up: float = 1.0
    arrivals: Arrivals = "poisson"
    slo_ms: float = 500.0
    timeout: float = 30.0
    seed: int = 0
    most_in_flight: int = 64

    def __post_init__(self) -> None:
        for name in ("rate", "seconds", "slo_ms", "timeout"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"LoadConfig.{name} is {value:g}", "it takes a number greater than 0")
        if not (math.isfinite(self.warm_up) and self.warm_up >= 0):
            raise ConfigError(f"LoadConfig.warm_up is {self.warm_up:g}", "it takes 0 or more seconds")
        if self.most_in_flight < 1:
            raise ConfigError(f"LoadConfig.most_in_flight is {self.most_in_flight}", "it takes 1 or more")
        if self.arrivals not in ("poisson", "uniform"):
            raise ConfigError(f"LoadConfig.arrivals is {self.arrivals!r}", "it takes poisson or uniform")
        if self.slo_ms >= self.timeout * 1e3:
            # A request that is given up counts as the timeout, which must not be good.
            raise ConfigError(
                f"LoadConfig.slo_ms is {self.slo_ms:g}, not below the timeout of {self.timeout * 1e3:g} ms",
                "raise timeout, or lower slo_ms",
            )
        if self.rate * (self.seconds + self.warm_up) > MOST_REQUESTS:
            raise ConfigError(f"this load has more than {MOST_REQUESTS:,} requests", "lower rate or seconds")


def arrivals(config: LoadConfig) -> NDArray[np.float64]:
    """When each request is due, in seconds from the beginning of the warm-up, ascending.

    Uniform arrivals come at 0, 1/rate, 2/rate …; Poisson ones after exponential gaps of mean 1/rate.

    Raises:
        ConfigError: no request falls into the time that is measured.
    """
    end = config.warm_up + config.seconds
    if config.arrivals == "uniform":
        due = np.arange(math.ceil(config.rate * end)) / config.rate
    else:
        random = np.random.default_rng(config.seed)
        expected = config.rate * end
        due = np.cumsum(random.exponential(1 / config.rate, math.ceil(expected + 10 * math.sqrt(expected) + 10)))
        while due[-1] < end:  # once in more than 10**20 seeds, and then all the same right
            due = np.concatenate([due, due[-1] + np.cumsum(random.exponential(1 / config.rate, 16))])
    due = due[due < end]
    if not (due >= config.warm_up).any():
        raise ConfigError(
            f"no request arrives within {config.seconds:g} s at a rate of {config.rate:g}", "raise rate or seconds"
        )
    return due
