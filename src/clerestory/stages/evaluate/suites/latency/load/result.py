"""What became of each request of a load, and the numbers that follow.

Requests that are due within the same twentieth of the time share its fate (one stall hits them all), so they are one
cluster: an interval that took them for independent would be far too short. Requests without an answer stay in every
number, as the timeout: the longest wait there is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.stages.evaluate.suites.latency.load.config import LoadConfig
from clerestory.stats.aggregate import measure

TASK = "load"
OK, TIMEOUT, ERROR, UNSENT = "ok", "timeout", "error", "unsent"
WINDOW, WINDOWS = "window", 20
QUANTILES = {"load_p50": 0.5, "load_p95": 0.95, "load_p99": 0.99}
MOST_LATE = 0.05
NAMED = 5


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """One request; times in seconds from the beginning of the warm-up.

    Attributes:
        index: its number, as given to the target.
        scheduled: when it was due.
        woken: when the generator turned to it; later than ``scheduled`` by what the generator itself was late.
        sent: when it was sent, NaN if it never was; later than ``woken`` by its wait for others in flight.
        finished: when it was answered or given up.
        ms: milliseconds from ``scheduled`` to the answer; the timeout where there was none.
        status: ``ok``, ``timeout``, ``error`` or ``unsent``.
        reason: why there was no answer, empty for ``ok``.
        queued: whether it had to wait because too many others were in flight.
    """

    index: int
    scheduled: float
    woken: float
    sent: float
    finished: float
    ms: float
    status: str
    reason: str
    queued: bool = False


@dataclass(frozen=True, slots=True)
class LoadResult:
    """A load that was offered.

    Attributes:
        config: what was asked for.
        requests: those that were due in the time that is measured, in order.
        warm_up: how many requests were sent before that and are dropped.
        timer_ms: by how many milliseconds short sleeps overshot on this machine, ascending.
    """

    config: LoadConfig
    requests: tuple[LoadRequest, ...]
    warm_up: int
    timer_ms: tuple[float, ...]

    @property
    def achieved(self) -> float:
        """Answers per second: those of measured requests, until the last of these ended or their time was over."""
        end = max(self.config.warm_up + self.config.seconds, max(one.finished for one in self.requests))
        return sum(one.status == OK for one in self.requests) / (end - self.config.warm_up)

    @property
    def late_ms(self) -> NDArray[np.float64]:
        """By how many milliseconds the generator itself turned late to each request."""
        return np.array([(one.woken - one.scheduled) * 1e3 for one in self.requests])

    def rows(self, rate: str = "") -> dict[str, NDArray[Any]]:
        """One row per measured request: text columns as objects, numbers as float64.

        ``rate`` is what the column of that name says; the number itself when empty.
        """
        made: dict[str, NDArray[Any]] = {}
        texts: Mapping[str, list[str]] = {
            "task": [TASK] * len(self.requests),
            "rate": [rate or f"{self.config.rate:g}"] * len(self.requests),
            "status": [one.status for one in self.requests],
            "reason": [one.reason for one in self.requests],
            WINDOW: [self.window(one) for one in self.requests],
        }
        for name, values in texts.items():
            made[name] = np.array(values, dtype=object)
        for name in ("index", "scheduled", "sent", "finished", "ms"):
            made[name] = np.array([getattr(one, name) for one in self.requests], dtype=np.float64)
        return made

    def window(self, one: LoadRequest) -> str:
        """The twentieth of the measured time that a request was due in: its cluster."""
        gone = (one.scheduled - self.config.warm_up) / self.config.seconds
        return f"{min(math.floor(gone * WINDOWS), WINDOWS - 1) + 1} of {WINDOWS}"

    def measurements(self, where: Mapping[str, str] | None = None, rate: str = "") -> list[Measurement]:
        """Quantiles of latency and goodput, from ``rows(rate)``; ``where`` is put into their slice as well."""
        rows = self.rows(rate)
        tags = Tags({"task": TASK, "rate": rate or f"{self.config.rate:g}"})
        named = Tags({**(where or {}), **tags})
        found = [measure(rows, Recipe("quantile", "ms", tags, WINDOW, q), name, named) for name, q in QUANTILES.items()]
        good = Recipe("share_at_most", "ms", tags, WINDOW, self.config.slo_ms)
        return [*found, measure(rows, good, "goodput", named)]

    def findings(self) -> list[Finding]:
        """What a reader must know before believing the numbers."""
        return [*self._unanswered(), *self._late(), *self._queued()]

    def facts(self) -> dict[str, str]:
        """What was offered and what came of it, as short texts."""
        config = self.config
        late = np.quantile(self.late_ms, [0.5, 0.99])
        return {
            "load": f"{config.arrivals} arrivals at {config.rate:g} per second for {config.seconds:g} s, seed "
            f"{config.seed}; {self.warm_up} requests of the {config.warm_up:g} s before are dropped",
            "load_clock": "from when a request was due; one without an answer counts as the timeout of "
            f"{config.timeout:g} s",
            "load_asked": f"{len(self.requests) / config.seconds:.4g} requests per second",
            "load_achieved": f"{self.achieved:.4g} answers per second",
            "load_slo": f"{config.slo_ms:g} ms",
            "load_generator": f"late by {late[0]:.2f} ms (median), {late[1]:.2f} ms (99 %); sleeps overshoot by "
            f"{np.median(self.timer_ms):.2f} ms (median), {max(self.timer_ms):.2f} ms (worst)",
        }

    @property
    def _place(self) -> str:
        return f"task={TASK}, rate={self.config.rate:g}"

    def _unanswered(self) -> list[Finding]:
        reasons = Counter(one.reason for one in self.requests if one.status != OK)
        if not reasons:
            return []
        count, total = sum(reasons.values()), len(self.requests)
        named = "; ".join(f"{times} × {reason}" for reason, times in reasons.most_common(NAMED))
        hidden = [name for name, q in QUANTILES.items() if 1 - count / total < q]
        above = f" {', '.join(hidden)} lie among them and are at least the timeout." if hidden else ""
        message = f"{count} of {total} requests had no answer and count as {self.config.timeout:g} s: {named}.{above}"
        fix = "lower the rate to what the server can do, or see its log for the reason"
        if count == total:
            return [Finding("CLR-E040", "error", "fail", self._place, message, fix)]
        return [Finding("CLR-E040", "warning", "warn", self._place, message, fix)]

    def _late(self) -> list[Finding]:
        late = float(np.quantile(self.late_ms, 0.99))
        median = float(np.median([one.ms for one in self.requests]))
        if late <= MOST_LATE * median:
            return []
        message = (
            f"the load generator itself was {late:.1f} ms late for 1 request in 100, more than 5 % of the median "
            f"latency of {median:.1f} ms; the latencies include that"
        )
        fix = "close other programs, lower the rate, or send the load from another computer"
        return [Finding("CLR-E041", "warning", "warn", self._place, message, fix)]

    def _queued(self) -> list[Finding]:
        count = sum(one.queued for one in self.requests)
        if not count:
            return []
        waits = [(one.sent - one.woken) * 1e3 for one in self.requests if one.queued and one.status != UNSENT]
        message = (
            f"{count} requests waited to be sent because {self.config.most_in_flight} were in flight (up to "
            f"{max(waits, default=self.config.timeout * 1e3):.0f} ms); their latencies include the wait"
        )
        return [Finding("CLR-E042", "info", "warn", self._place, message, "raise most_in_flight, or lower the rate")]
