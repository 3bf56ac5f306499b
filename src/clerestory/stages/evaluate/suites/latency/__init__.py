"""How fast the model is: single requests, batches, requests that come when they come; its memory and its energy."""

from __future__ import annotations

import numpy as np

from clerestory.core.codec import Tags
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.models.protocols import Describer, Embedder
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.shared.measures import kinds
from clerestory.stages.evaluate.shared.retrieval_split import concept_of
from clerestory.stages.evaluate.shared.row_builder import CLEAN, join
from clerestory.stages.evaluate.suite import NotApplicable, Suite, SuiteResult
from clerestory.stages.evaluate.suites.latency.energy import EnergyMeter, find_zones
from clerestory.stages.evaluate.suites.latency.load import LoadConfig, LoadResult, ThreadTarget, run_load
from clerestory.stages.evaluate.suites.latency.memory import PeakMemory
from clerestory.stages.evaluate.suites.latency.single_requests import (
    DESCRIBE,
    EMBED_IMAGE,
    EMBED_TEXT,
    LATENCY,
    time_requests,
    timed_pictures,
    times,
)
from clerestory.stages.evaluate.suites.latency.throughput import (
    REPEATS,
    THROUGHPUT,
    Pictures,
    batch_request,
    throughput_measures,
    time_batches,
)
from clerestory.stats.aggregate import Rows, measure

MEMORY = "memory"
# Where no rate is asked for: half of what the model could do one by one, in the share's own words for the slice.
OWN_RATE, OWN_SHARE = "half its own", 0.5
MOST_RATE, MOST_REQUESTS, LEAST_REQUESTS = 500.0, 1000.0, 5.0


def run(bench: EvaluationContext) -> SuiteResult:
    """One row per timed request, per batch and per request of the load."""
    config, model = bench.config, bench.model
    if not config.latency_samples:
        raise NotApplicable("nothing is to be timed", "set timed to 80 or more")
    operations = [EMBED_IMAGE, EMBED_TEXT] if isinstance(model, Embedder) else []
    operations += [DESCRIBE] if isinstance(model, Describer) else []
    pictures = timed_pictures(bench)
    if not operations or not pictures:
        raise NotApplicable("there is nothing of this model to time on this data", "evaluate on pictures it can read")
    memory = PeakMemory()
    table = bench.table()
    time_requests(bench, operations, pictures, table)
    singles = table.columns()
    zones = find_zones()
    batches = time_batches(bench, operations, pictures, None if isinstance(zones, str) else EnergyMeter(zones))
    measured = _latencies(singles) + throughput_measures(batches)
    findings = [_no_energy(zones)] if isinstance(zones, str) else []
    facts = {
        "latency": f"{', '.join(f'{times(o, config.latency_samples)} of {o}' for o in operations)}, one at a time, after "
        f"{config.warm_up_requests} each to warm up; texts are new",
        "throughput": f"{', '.join(f'{n} batches of {size}' for size, n in REPEATS.items())}, after one to warm up",
    }
    if not isinstance(zones, str):
        facts["energy"] = f"the whole machine's, idle share included: {', '.join(zone.name for zone in zones)}"
    tables: list[Rows] = [singles, batches]
    if config.load_seconds:
        offered = _load(bench, operations[0], pictures, singles)
        tables.append(_load_rows(bench, offered, operations[0], pictures))
        label = "" if config.arrival_rate_per_s else OWN_RATE
        measured += offered.measurements(rate=label)
        # One request at a time is how the model is served, not a limit that somebody forgot to raise.
        findings += [finding for finding in offered.findings() if finding.code != "CLR-E042"]
        facts |= offered.facts() | {"load_target": f"{operations[0]} in this process, one request at a time"}
    held = memory.peak()
    used = bench.table()
    used.add(task=MEMORY, amount=held.mib)
    tables.append(used.columns())
    rows = join(tables)
    recipe = Recipe("mean", "amount", Tags(task=MEMORY))
    measured.append(measure(rows, recipe, "peak_memory"))
    return SuiteResult(rows, measured, findings, facts | {"peak_memory": held.about})


def _latencies(rows: Rows) -> list[Measurement]:
    measured = []
    for where in kinds(rows, ("task", "operation"), LATENCY):
        for q in (0.5, 0.95, 0.99):
            recipe = Recipe("quantile", "ms", Tags(where), parameter=q)
            measured.append(measure(rows, recipe, f"latency_p{q * 100:.0f}"))
    return measured


def _load(bench: EvaluationContext, operation: str, pictures: Pictures, singles: Rows) -> LoadResult:
    """Requests of one operation, at the asked rate or at half of what single requests allow."""
    config = bench.config
    rate, seconds = config.arrival_rate_per_s, config.load_seconds
    if not rate:
        median = float(np.median(singles["ms"][singles["operation"] == operation]))
        rate = min(OWN_SHARE * 1e3 / max(median, 1e-3), MOST_RATE)
        # A fast model has shown enough after a thousand; a slow one must be asked at least a few times.
        seconds = min(seconds, MOST_REQUESTS / rate)
        rate = max(rate, LEAST_REQUESTS / seconds)
    load = LoadConfig(
        rate=float(f"{rate:.3g}"), seconds=seconds, warm_up=seconds / 10, seed=config.seed, most_in_flight=1
    )

    def call(index: int) -> object:
        return batch_request(bench, operation, [pictures[index % len(pictures)]])()

    return run_load(ThreadTarget(call, load.most_in_flight), load, bench.progress)


def _load_rows(bench: EvaluationContext, offered: LoadResult, operation: str, pictures: Pictures) -> Rows:
    rows = offered.rows(rate="" if bench.config.arrival_rate_per_s else OWN_RATE)
    about = [pictures[one.index % len(pictures)][0] for one in offered.requests]
    texts = {
        "operation": [operation] * len(about),
        "condition": [CLEAN] * len(about),
        "sample": [sample.id for sample in about],
        "concept": [concept_of(sample, bench.config.language) for sample in about],
    }
    return {**rows, **{name: np.array(values, dtype=object) for name, values in texts.items()}}


def _no_energy(why: str) -> Finding:
    fix = "measure on a Linux machine with an Intel or AMD processor whose counters you may read"
    return Finding("CLR-E043", "info", "not_applicable", f"task {THROUGHPUT}", f"energy is not measured: {why}", fix)


SUITE = Suite(
    name="speed",
    about="how long requests take, how many at once, with how much memory and energy",
    needs=(),
    settings=("timed", "warm_up", "suggestions", "rate", "load_seconds"),
    run=run,
)
