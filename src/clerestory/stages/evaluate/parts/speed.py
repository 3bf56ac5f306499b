"""How long one request takes."""

from __future__ import annotations

from clerestory.core.codec import Tags
from clerestory.core.measure import Recipe
from clerestory.stages.evaluate.bench import Bench
from clerestory.stages.evaluate.latency import LATENCY, time_requests
from clerestory.stages.evaluate.measures import kinds
from clerestory.stages.evaluate.part import Found, NotApplicable, Part
from clerestory.stats.aggregate import measure


def run(bench: Bench) -> Found:
    """One row per timed request."""
    config = bench.config
    if not config.timed:
        raise NotApplicable("nothing is to be timed", "set timed to 80 or more")
    table = bench.table()
    time_requests(bench, table)
    rows = table.columns()
    measured = []
    for where in kinds(rows, ("task", "operation"), LATENCY):
        for q in (0.5, 0.95, 0.99):
            recipe = Recipe("quantile", "ms", Tags(where), parameter=q)
            measured.append(measure(rows, recipe, f"latency_p{q * 100:.0f}", "ms", direction="lower"))
    facts = {
        "latency": f"{config.timed} single requests per operation after {config.warm_up} to warm up; texts are new"
    }
    return Found(rows, measured, [], facts)


PART = Part(
    name="speed",
    about="how long one request takes",
    needs=(),
    code=("stages/evaluate/parts/speed", "stages/evaluate/latency", "stages/evaluate/measures"),
    settings=("timed", "warm_up", "suggestions"),
    run=run,
)
