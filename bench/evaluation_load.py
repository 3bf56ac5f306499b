"""Open-loop load against a real server whose delays are known: p99 against that of an ideal observer.

The server of ``tests/support/delay_server.py`` runs in a process of its own on the loopback address. It takes
50 to 200 ms, and stalls for 2 s. The same is measured by a closed loop, which must get it wrong.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np

from clerestory.stages.evaluate.suites.latency.load import LoadConfig, arrivals
from clerestory.stages.evaluate.suites.latency.load_generator import run_load
from clerestory.stages.evaluate.suites.latency.load_http import HttpPayload, HttpTarget, json_field
from table import Row, publish

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.stages.evaluate.closed_loop import closed_loop
from tests.support.delay_server import Law, running

CONFIG = LoadConfig(
    arrival_rate_per_s=75, seconds=20, warm_up_seconds=3, slo_ms=250, timeout_seconds=10, max_in_flight=400
)
LAW = Law(stall_at=10, stall=2)
# As many as keep up with the rate on average: 75 per second at 125 ms each.
WORKERS = 9


def target(base: str) -> HttpTarget:
    """Request k goes to the address of k, so that the server knows its delay."""
    return HttpTarget(base, lambda index: HttpPayload({"input": index}, path=f"/{index}"), json_field("data"))


def rows() -> list[Row]:
    """The bar and its control; takes about a minute."""
    due = arrivals(CONFIG)
    ideal = LAW.ideal_ms(due)[due >= CONFIG.warm_up_seconds]
    truth = float(np.quantile(ideal, 0.99))
    with running(LAW) as base:
        result = run_load(target(base), CONFIG)
    found = {m.name: m for m in result.measurements()}
    with running(LAW) as base:
        closed = asyncio.run(closed_loop(target(base), WORKERS, CONFIG.warm_up_seconds, CONFIG.seconds))
    p99, good = found["load_p99"].value, found["goodput"].value
    hidden = float(np.quantile(closed, 0.99))
    late = np.quantile(result.late_ms, 0.99)
    return [
        Row(
            "load: p99 against an ideal observer, 2 s stall",
            100 * (p99 / truth - 1),
            "%",
            "within ±5 %",
            abs(p99 / truth - 1) <= 0.05,
            len(result.requests),
            "ideal observer of the same schedule",
            f"{p99:.0f} ms, truth {truth:.0f} ms; generator late by {late:.2f} ms (99 %), "
            f"{sum(one.status != 'ok' for one in result.requests)} unanswered",
        ),
        Row(
            "load: goodput within 250 ms against an ideal observer",
            100 * (good - float((ideal <= CONFIG.slo_ms).mean())),
            "points",
            "reported",
            True,
            len(result.requests),
            "ideal observer of the same schedule",
            f"{good:.3f}; {result.achieved:.1f} of {len(ideal) / CONFIG.seconds:.1f} requests per second answered",
        ),
        Row(
            "load: p99 of a closed loop, same server (control)",
            100 * (hidden / truth - 1),
            "%",
            "off by more than 5 %",
            abs(hidden / truth - 1) > 0.05,
            len(closed),
            "ideal observer of the open schedule",
            f"{hidden:.0f} ms; {WORKERS} workers that wait for their answers do not measure the stall",
        ),
    ]


if __name__ == "__main__":
    sys.exit(0 if publish("evaluation_load", rows()) else 1)
