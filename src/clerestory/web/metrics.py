"""``GET /metrics``: what the server does, in the format of Prometheus.

Requests are counted in plain dictionaries by the event loop, so that counting takes a microsecond; they become metrics
when somebody reads them. The registry belongs to one server. The labels are bounded: routes are those of the
application, and versions beyond ``MAX_VERSIONS`` are counted as ``other``.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from clerestory.apps.drift_live import LiveDriftMonitor
from clerestory.stages.serve.inference_queue import InferenceQueue
from clerestory.web.model_follower import ModelFollower
from clerestory.web.request_trace import RequestTrace

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
MAX_VERSIONS = 64
DRIFT_LABELS = ("model", "monitor", "slice")
OTHER = "other"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class CountedValues:
    """A histogram: how many values fell below each bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Take in one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """The cumulative counts, as Prometheus has them."""
        names = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True))


class ServerMetrics(Collector):
    """The counts of one server, which are metrics when they are collected."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int, str, str]] = Counter()
        self.seconds: dict[str, CountedValues] = {}
        self.rejections: Counter[str] = Counter()
        self.batch_inputs = CountedValues(SIZES)
        self.batch_seconds = CountedValues(SECONDS)
        self.observer_errors = 0
        self._queue: InferenceQueue | None = None
        self._follower: ModelFollower | None = None
        self.registry = CollectorRegistry(auto_describe=False)
        self._versions: set[str] = set()
        for each in (ProcessCollector, PlatformCollector, GCCollector):
            each(registry=self.registry)
        self.registry.register(self)

    def watch(self, queue: InferenceQueue, follower: ModelFollower) -> None:
        """Report the state of these, too."""
        self._queue, self._follower = queue, follower

    def count(self, route: str, method: str, trace: RequestTrace, seconds: float) -> None:
        """Count one request that ended."""
        version = trace.loaded.ref if trace.loaded is not None else ""
        if version not in self._versions:
            if len(self._versions) < MAX_VERSIONS:
                self._versions.add(version)
            else:
                version = OTHER
        arm = trace.arm.value if trace.loaded is not None else ""
        self.requests[route, method if method in METHODS else OTHER, trace.status, version, arm] += 1
        if (values := self.seconds.get(route)) is None:
            values = self.seconds[route] = CountedValues(SECONDS)
        values.add(seconds)
        if trace.reason:
            self.rejections[trace.reason] += 1

    def refused(self) -> tuple[int, int]:
        """How many requests to the API ended, and how many were not admitted for lack of space."""
        total = sum(count for key, count in list(self.requests.items()) if key[0].startswith("/v1/"))
        return total, sum(list(self.rejections.values()))

    def count_batch(self, inputs: int, seconds: float) -> None:
        """Count one batch that went through the model."""
        self.batch_inputs.add(inputs)
        self.batch_seconds.add(seconds)

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        names = ("route", "method", "status", "version", "arm")
        requests = CounterMetricFamily("clerestory_requests", "Requests that ended.", labels=names)
        for (route, method, status, version, arm), number in list(self.requests.items()):
            requests.add_metric((route, method, str(status), version, arm), number)
        yield requests
        yield from self._histograms()
        rejections = CounterMetricFamily(
            "clerestory_rejections", "Requests that were not admitted, by the bound.", labels=("reason",)
        )
        for reason, number in list(self.rejections.items()):
            rejections.add_metric((reason,), number)
        yield rejections
        if self._queue is not None and self._follower is not None:
            yield from self._gauges(self._queue, self._follower)

    def _histograms(self) -> Iterator[Metric]:
        latency = HistogramMetricFamily(
            "clerestory_request_duration_seconds",
            "From the head of a request to its complete response.",
            labels=("route",),
        )
        for route, values in list(self.seconds.items()):
            latency.add_metric((route,), values.buckets, values.total)
        yield latency
        sizes, times = self.batch_inputs, self.batch_seconds
        inputs, seconds = "Inputs that went through the model together.", "How long the model took for a batch."
        yield HistogramMetricFamily("clerestory_batch_inputs", inputs, sizes.buckets, sizes.total)
        yield HistogramMetricFamily("clerestory_batch_duration_seconds", seconds, times.buckets, times.total)

    def _gauges(self, queue: InferenceQueue, follower: ModelFollower) -> Iterator[Metric]:
        loaded = follower.current
        for name, meaning, value in (
            ("queue_requests", "Requests that wait for the model or are computed.", queue.admitted),
            ("queue_bytes", "Bytes of the inputs of these requests.", queue.bytes),
            ("queue_pixels", "Pixels of the images of these requests.", queue.pixels),
            ("queue_wait_seconds", "How long the model will need for what waits.", queue.wait_seconds),
            ("model_load_seconds", "How long the served model took to load.", loaded.load_seconds if loaded else 0),
            ("ready", "Whether requests should be sent.", float(not follower.not_ready_reason)),
        ):
            yield GaugeMetricFamily(f"clerestory_{name}", meaning, value)
        info = InfoMetricFamily("clerestory_model", "The release that is live, the one that answers, and the next one.")
        names = {"live": follower.live, "served": follower.served, "loading": follower.loading}
        info.add_metric((), {**names, "digest": loaded.model.digest if loaded else ""})
        yield info


class DriftCollector(Collector):
    """The drift monitors of a server as metrics.

    Args:
        monitor: they.
    """

    def __init__(self, monitor: LiveDriftMonitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        families = {
            f"clerestory_drift_{name}": GaugeMetricFamily(f"clerestory_drift_{name}", meaning, labels=labels)
            for name, meaning, labels in (
                ("evidence", "The evidence of a drift monitor; 1 is an alarm.", DRIFT_LABELS),
                ("alarm", "Whether a drift monitor has an alarm.", DRIFT_LABELS),
                ("windows", "Windows that a drift monitor has compared.", DRIFT_LABELS),
                ("dropped", "Images that were not compared because the queue was full.", ()),
            )
        }
        for name, values, value in self._monitor.gauges():
            families[name].add_metric(tuple(values.values()), value)
        yield from families.values()


async def metrics(request: Request) -> Response:
    """``GET /metrics``."""
    server = request.app.state.server
    # In a thread, since incidents are read from the database.
    content = await asyncio.to_thread(generate_latest, server.metrics.registry)
    return Response(content, media_type=CONTENT_TYPE_PLAIN_0_0_4)
