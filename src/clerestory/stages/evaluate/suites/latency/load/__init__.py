"""Open-loop load: requests arrive when the schedule says, whether or not earlier ones have been answered."""

from clerestory.stages.evaluate.suites.latency.load.config import Arrivals, LoadConfig, arrivals
from clerestory.stages.evaluate.suites.latency.load.generator import offer_load, run_load
from clerestory.stages.evaluate.suites.latency.load.http import HttpPayload, HttpTarget, json_field
from clerestory.stages.evaluate.suites.latency.load.result import LoadRequest, LoadResult
from clerestory.stages.evaluate.suites.latency.load.targets import RequestFailed, Target, ThreadTarget

__all__ = [
    "Arrivals",
    "Http",
    "LoadConfig",
    "LoadResult",
    "Payload",
    "Sent",
    "Target",
    "Threads",
    "Unanswered",
    "arrivals",
    "json_field",
    "offer_load",
    "run_load",
]
