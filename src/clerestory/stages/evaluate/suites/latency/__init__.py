"""Latency of single requests, throughput of batches, latency under load, peak memory and energy."""

from __future__ import annotations

import numpy as np

from clerestory.core.codec import Fact, Tags
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.core.rows import Condition, Operation, TaskName
from clerestory.models.protocols import Captioner, Embedder
from clerestory.stages.evaluate import findings
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import join_rows
from clerestory.stages.evaluate.samples import concept_of
from clerestory.stages.evaluate.suite import MeasuredSlices, NotApplicable, Suite, SuiteResult
from clerestory.stages.evaluate.suites.latency.load import LoadConfig, LoadResult
from clerestory.stages.evaluate.suites.latency.load_generator import ThreadTarget, run_load
from clerestory.stages.evaluate.suites.latency.resources import EnergyMeter, PeakMemory, find_zones
from clerestory.stages.evaluate.suites.latency.timing import (
    BATCHES,
    Images,
    latency_measurements,
    num_requests,
    request_of,
    throughput_measurements,
    time_batches,
    time_requests,
    timed_images,
)
from clerestory.stats.aggregate import Rows, measure

# Without a configured rate: half of what the model could do one by one. The slice carries this label, not the number.
DEFAULT_RATE, CAPACITY_SHARE = "half of capacity", 0.5
MAX_RATE, MAX_REQUESTS, MIN_REQUESTS = 500.0, 1000.0, 5.0


def run(context: EvaluationContext) -> SuiteResult:
    """One row per timed request, per batch and per request of the load."""
    config, model = context.config, context.model
    if not config.latency_samples:
        raise NotApplicable("latency_samples is 0, so nothing is timed", "set latency_samples to 80 or more")
    operations = [Operation.EMBED_IMAGE, Operation.EMBED_TEXT] if isinstance(model, Embedder) else []
    operations += [Operation.DESCRIBE] if isinstance(model, Captioner) else []
    images = timed_images(context)
    if not operations or not images:
        raise NotApplicable(
            "the model neither embeds nor generates captions, or no image is readable",
            "evaluate such a model on images that it can read",
        )
    memory = PeakMemory()
    builder = context.row_builder()
    time_requests(context, operations, images, builder)
    singles = builder.columns()
    zones = find_zones()
    batches = time_batches(context, operations, images, None if isinstance(zones, str) else EnergyMeter(zones))
    measurements = latency_measurements(singles) + throughput_measurements(batches)
    notes: list[Finding] = []
    facts: dict[str, Fact] = {
        f"latency.requests.{operation}": num_requests(operation, config.latency_samples) for operation in operations
    }
    facts["latency.warm_up_requests"] = config.warm_up_requests
    facts["latency.images"] = len(images)
    facts |= {f"throughput.batches.{size}": count for size, count in BATCHES.items()}
    if isinstance(zones, str):
        message = f"energy is not measured: {zones}"
        notes.append(findings.NO_ENERGY_COUNTERS.finding(f"task {TaskName.THROUGHPUT}", message))
    else:
        facts["energy.zones"] = tuple(zone.name for zone in zones)
    tables: list[Rows] = [singles, batches]
    if config.load_seconds:
        load = _load(context, operations[0], images, singles)
        tables.append(_load_rows(context, load, operations[0], images))
        measurements += load.measurements(rate="" if config.arrival_rate_per_s else DEFAULT_RATE)
        # One request at a time is how the model is served, so a queue is normal here.
        notes += [note for note in load.findings() if note.code != findings.QUEUED_REQUESTS.code]
        facts |= load.facts() | {"load.operation": operations[0]}
    peak = memory.peak()
    used = context.row_builder()
    used.add(task=TaskName.MEMORY, amount=peak.mib)
    tables.append(used.columns())
    facts["memory.scope"] = peak.scope
    rows = join_rows(tables)
    measurements += _peak_memory(rows)
    return SuiteResult(rows, measurements, notes, facts)


def _peak_memory(rows: Rows) -> list[Measurement]:
    return [measure(rows, Recipe("mean", "amount", Tags(task=TaskName.MEMORY)), "peak_memory")]


def _load(context: EvaluationContext, operation: Operation, images: Images, singles: Rows) -> LoadResult:
    """Load of one operation, at the configured rate or at half of what single requests allow."""
    config = context.config
    rate, seconds = config.arrival_rate_per_s, config.load_seconds
    if not rate:
        median = float(np.median(singles["ms"][singles["operation"] == operation]))
        rate = min(CAPACITY_SHARE * 1e3 / max(median, 1e-3), MAX_RATE)
        # A thousand requests suffice for a fast model; a slow one gets at least a few.
        seconds = min(seconds, MAX_REQUESTS / rate)
        rate = max(rate, MIN_REQUESTS / seconds)
    load = LoadConfig(
        arrival_rate_per_s=float(f"{rate:.3g}"),
        seconds=seconds,
        warm_up_seconds=seconds / 10,
        seed=config.seed,
        max_in_flight=1,
    )

    def call(index: int) -> object:
        return request_of(context, operation, [images[index % len(images)]])()

    return run_load(ThreadTarget(call, load.max_in_flight), load, context.progress)


def _load_rows(context: EvaluationContext, load: LoadResult, operation: Operation, images: Images) -> Rows:
    rows = load.rows(rate="" if context.config.arrival_rate_per_s else DEFAULT_RATE)
    samples = [images[request.index % len(images)][0] for request in load.requests]
    texts = {
        "operation": [str(operation)] * len(samples),
        "condition": [str(Condition.CLEAN)] * len(samples),
        "sample": [sample.id for sample in samples],
        "concept": [concept_of(sample, context.config.language) for sample in samples],
    }
    return {**rows, **{name: np.array(values, dtype=object) for name, values in texts.items()}}


SUITE = Suite(
    name="latency",
    description="latency, throughput, latency under load, memory and energy",
    capabilities=(),
    settings=("latency_samples", "warm_up_requests", "captions_per_image", "arrival_rate_per_s", "load_seconds"),
    run=run,
    measures=(
        MeasuredSlices(
            (TaskName.LATENCY, TaskName.LOAD, TaskName.THROUGHPUT, TaskName.MEMORY, TaskName.ENERGY),
        ),
    ),
)
