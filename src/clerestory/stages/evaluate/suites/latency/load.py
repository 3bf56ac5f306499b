"""An open-loop load: its settings, when each request is due, what became of each, and the metrics that follow.

Requests arrive when the schedule says, whether or not earlier ones have been answered. Requests that are due within the
same twentieth of the time share its fate (one stall affects them all), so they are one cluster: an interval that took
them for independent would be far too short. Requests without an answer stay in every metric, as the timeout: the
longest wait there is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Fact, Tags
from clerestory.core.errors import ConfigError
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.core.rows import TaskName
from clerestory.core.settings import Range, Seed, check_settings
from clerestory.stages.evaluate import findings
from clerestory.stats.aggregate import measure

Arrivals = Literal["poisson", "uniform"]
MAX_REQUESTS = 1_000_000
WINDOW_COLUMN, WINDOWS = "window", 20
QUANTILES = {"load_p50": 0.5, "load_p95": 0.95, "load_p99": 0.99}
LATE_QUANTILE = 0.99
MAX_LATE_SHARE = 0.05
MAX_NAMED = 5

Above0 = Range(0, exclusive_minimum=True)
Floats = NDArray[np.float64]


class Status(StrEnum):
    """What became of a request."""

    OK = "ok"
    TIMEOUT = "timeout"
    ERROR = "error"
    UNSENT = "unsent"  # too many others were in flight until its timeout


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """The settings of an open-loop load.

    Attributes:
        arrival_rate_per_s: requests per second that arrive on average, however fast they are answered.
        seconds: how long arrivals are measured, after the warm-up.
        warm_up_seconds: how long requests arrive before that; they are sent like the others and then dropped.
        arrivals: ``poisson`` (independent users: exponential gaps) or ``uniform`` (equal gaps).
        slo_ms: the time within which an answer is good, in milliseconds from when the request was due.
        timeout_seconds: after how many seconds from when it was due a request is given up.
        seed: of the Poisson arrivals.
        max_in_flight: how many requests may be in flight at once; a further one waits, and its clock runs.
    """

    arrival_rate_per_s: Annotated[float, Above0] = 5.0
    seconds: Annotated[float, Above0] = 10.0
    warm_up_seconds: Annotated[float, Range(0)] = 1.0
    arrivals: Arrivals = "poisson"
    slo_ms: Annotated[float, Above0] = 500.0
    timeout_seconds: Annotated[float, Above0] = 30.0
    seed: Seed = 0
    max_in_flight: Annotated[int, Range(1)] = 64

    def __post_init__(self) -> None:
        check_settings(self)
        if self.slo_ms >= self.timeout_seconds * 1e3:
            # A request that is given up counts as the timeout, which must not be good.
            raise ConfigError(
                f"LoadConfig.slo_ms is {self.slo_ms:g}, not below the timeout of {self.timeout_seconds * 1e3:g} ms",
                "raise timeout_seconds, or lower slo_ms",
            )
        if self.arrival_rate_per_s * (self.seconds + self.warm_up_seconds) > MAX_REQUESTS:
            raise ConfigError(
                f"the load has more than {MAX_REQUESTS:,} requests", "lower arrival_rate_per_s or seconds"
            )


def arrivals(config: LoadConfig) -> Floats:
    """When each request is due, in seconds from the start of the warm-up, ascending.

    Uniform arrivals come at 0, 1/rate, 2/rate …; Poisson ones after exponential gaps of mean 1/rate.

    Raises:
        ConfigError: no request arrives in the measured time.
    """
    end = config.warm_up_seconds + config.seconds
    if config.arrivals == "uniform":
        due = np.arange(math.ceil(config.arrival_rate_per_s * end)) / config.arrival_rate_per_s
    else:
        random = np.random.default_rng(config.seed)
        expected = config.arrival_rate_per_s * end
        due = np.cumsum(
            random.exponential(1 / config.arrival_rate_per_s, math.ceil(expected + 10 * math.sqrt(expected) + 10))
        )
        while due[-1] < end:  # once in more than 10**20 seeds
            due = np.concatenate([due, due[-1] + np.cumsum(random.exponential(1 / config.arrival_rate_per_s, 16))])
    due = due[due < end]
    if not (due >= config.warm_up_seconds).any():
        raise ConfigError(
            f"no request arrives within {config.seconds:g} s at a rate of {config.arrival_rate_per_s:g}",
            "raise arrival_rate_per_s or seconds",
        )
    return due


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """One request; times in seconds from the start of the warm-up.

    Attributes:
        index: its number, as passed to the target.
        scheduled: when it was due.
        woken: when the generator reached it; later than ``scheduled`` by the lateness of the generator itself.
        sent: when it was sent, NaN if it never was; later than ``woken`` by its wait for others in flight.
        finished: when it was answered or given up.
        ms: milliseconds from ``scheduled`` to the answer; the timeout where there was none.
        status: what became of it.
        reason: why there was no answer, empty for ``ok``.
        queued: whether it waited because too many others were in flight.
    """

    index: int
    scheduled: float
    woken: float
    sent: float
    finished: float
    ms: float
    status: Status
    reason: str
    queued: bool = False


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The result of a load.

    Attributes:
        config: its settings.
        requests: those that were due in the measured time, in order.
        warm_up_requests: how many requests were sent before that and are dropped.
        timer_ms: how many milliseconds longer than requested short sleeps took on this machine, ascending.
    """

    config: LoadConfig
    requests: tuple[LoadRequest, ...]
    warm_up_requests: int
    timer_ms: tuple[float, ...]

    @property
    def achieved(self) -> float:
        """Answers to measured requests per second, until the last of these ended or the measured time was over."""
        end = max(self.config.warm_up_seconds + self.config.seconds, max(one.finished for one in self.requests))
        return sum(one.status == Status.OK for one in self.requests) / (end - self.config.warm_up_seconds)

    @property
    def late_ms(self) -> Floats:
        """By how many milliseconds the generator itself was late for each request."""
        return np.array([(one.woken - one.scheduled) * 1e3 for one in self.requests])

    def rows(self, rate: str = "") -> dict[str, NDArray[Any]]:
        """One row per measured request: text columns as objects, numbers as float64.

        ``rate`` is the value of the column of that name; the number itself when empty.
        """
        columns: dict[str, NDArray[Any]] = {}
        texts: Mapping[str, list[str]] = {
            "task": [str(TaskName.LOAD)] * len(self.requests),
            "rate": [rate or f"{self.config.arrival_rate_per_s:g}"] * len(self.requests),
            "status": [str(one.status) for one in self.requests],
            "reason": [one.reason for one in self.requests],
            WINDOW_COLUMN: [self.window(one) for one in self.requests],
        }
        for name, values in texts.items():
            columns[name] = np.array(values, dtype=object)
        for name in ("index", "scheduled", "sent", "finished", "ms"):
            columns[name] = np.array([getattr(one, name) for one in self.requests], dtype=np.float64)
        return columns

    def window(self, request: LoadRequest) -> str:
        """The twentieth of the measured time in which a request was due: its cluster."""
        elapsed = (request.scheduled - self.config.warm_up_seconds) / self.config.seconds
        return f"{min(math.floor(elapsed * WINDOWS), WINDOWS - 1) + 1} of {WINDOWS}"

    def measurements(self, where: Mapping[str, str] | None = None, rate: str = "") -> list[Measurement]:
        """Quantiles of latency and goodput, from ``rows(rate)``; ``where`` is added to their slice."""
        rows = self.rows(rate)
        tags = Tags({"task": TaskName.LOAD, "rate": rate or f"{self.config.arrival_rate_per_s:g}"})
        named = Tags({**(where or {}), **tags})
        found = [
            measure(rows, Recipe("quantile", "ms", tags, WINDOW_COLUMN, q), name, named)
            for name, q in QUANTILES.items()
        ]
        good = Recipe("share_at_most", "ms", tags, WINDOW_COLUMN, self.config.slo_ms)
        return [*found, measure(rows, good, "goodput", named)]

    def findings(self) -> list[Finding]:
        """What limits the meaning of the numbers."""
        return [*self._unanswered(), *self._late(), *self._queued()]

    def facts(self) -> dict[str, Fact]:
        """The settings of the load and what came of it."""
        config = self.config
        late_ms = np.quantile(self.late_ms, [0.5, LATE_QUANTILE])
        return {
            "load.arrivals": config.arrivals,
            "load.rate_per_s": config.arrival_rate_per_s,
            "load.seconds": config.seconds,
            "load.seed": config.seed,
            "load.max_in_flight": config.max_in_flight,
            "load.warm_up_seconds": config.warm_up_seconds,
            "load.warm_up_requests": self.warm_up_requests,
            "load.timeout_seconds": config.timeout_seconds,
            "load.slo_ms": config.slo_ms,
            "load.offered_per_s": len(self.requests) / config.seconds,
            "load.achieved_per_s": self.achieved,
            "load.generator_late_p50_ms": float(late_ms[0]),
            "load.generator_late_p99_ms": float(late_ms[1]),
            "load.timer_overshoot_p50_ms": float(np.median(self.timer_ms)),
            "load.timer_overshoot_max_ms": max(self.timer_ms),
        }

    @property
    def _where(self) -> str:
        return f"task={TaskName.LOAD}, rate={self.config.arrival_rate_per_s:g}"

    def _unanswered(self) -> list[Finding]:
        reasons = Counter(one.reason for one in self.requests if one.status != Status.OK)
        if not reasons:
            return []
        count, total = sum(reasons.values()), len(self.requests)
        named = "; ".join(f"{times} × {reason}" for reason, times in reasons.most_common(MAX_NAMED))
        affected = [name for name, q in QUANTILES.items() if 1 - count / total < q]
        above = f" {', '.join(affected)} fall among them and are at least the timeout." if affected else ""
        timeout = f"{self.config.timeout_seconds:g} s"
        message = f"{count} of {total} requests were not answered and count as {timeout}: {named}.{above}"
        code = findings.UNANSWERED_REQUESTS
        if count == total:
            return [code.finding(self._where, message, severity="error", state="fail", count=count, requests=total)]
        return [code.finding(self._where, message, count=count, requests=total)]

    def _late(self) -> list[Finding]:
        late_ms = float(np.quantile(self.late_ms, LATE_QUANTILE))
        median_ms = float(np.median([one.ms for one in self.requests]))
        if late_ms <= MAX_LATE_SHARE * median_ms:
            return []
        message = (
            f"the load generator itself was at least {late_ms:.1f} ms late for 1 % of the requests, more than 5 % of "
            f"the median latency of {median_ms:.1f} ms; the latencies include that"
        )
        return [findings.LATE_LOAD_GENERATOR.finding(self._where, message, late_ms=late_ms, median_ms=median_ms)]

    def _queued(self) -> list[Finding]:
        count = sum(one.queued for one in self.requests)
        if not count:
            return []
        waits_ms = [(one.sent - one.woken) * 1e3 for one in self.requests if one.queued and one.status != Status.UNSENT]
        longest = max(waits_ms, default=self.config.timeout_seconds * 1e3)
        message = (
            f"{count} requests waited up to {longest:.0f} ms to be sent because {self.config.max_in_flight} were in "
            "flight; their latencies include the wait"
        )
        return [findings.QUEUED_REQUESTS.finding(self._where, message, count=count, longest_ms=longest)]
