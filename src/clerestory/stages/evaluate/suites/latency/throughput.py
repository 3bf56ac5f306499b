"""How much a model gets done when it is kept busy: one, eight or 64 requests at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from clerestory.core.codec import Tags
from clerestory.core.evidence import Measurement, Recipe
from clerestory.core.sample import Sample
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.shared.row_builder import RowBuilder
from clerestory.stages.evaluate.suites.latency.energy import EnergyMeter
from clerestory.stages.evaluate.suites.latency.single_requests import DESCRIBE, EMBED_TEXT
from clerestory.stats.aggregate import Rows, measure

THROUGHPUT = "throughput"
BATCH, JOULES = "batch", "joules"
# How many batches of each size are timed; one more goes before them untimed.
REPEATS = {1: 16, 8: 6, 64: 3}

Pictures = list[tuple[Sample, Image.Image]]


def time_batches(
    bench: EvaluationContext, operations: list[str], pictures: Pictures, meter: EnergyMeter | None
) -> Rows:
    """One row per batch: its ``amount`` of requests, its ``ms`` and, where the machine tells, its ``joules``.

    Pictures are decoded before the clock starts, and repeated where there are too few; every text is new.
    """
    table: RowBuilder = bench.table()
    batches: list[str] = []
    joules: list[float] = []
    with bench.progress.task("Timing batches", len(operations) * sum(REPEATS.values())) as bar:
        for operation in operations:
            for size, repeats in REPEATS.items():
                for turn in range(-1, repeats):
                    some = [pictures[(max(turn, 0) * size + i) % len(pictures)] for i in range(size)]
                    request = batch_request(bench, operation, some)
                    before = meter.joules() if meter else np.nan
                    started = time.perf_counter()
                    request()
                    milliseconds = (time.perf_counter() - started) * 1e3
                    if turn < 0:
                        continue
                    joules.append(meter.joules() - before if meter else np.nan)
                    batches.append(str(size))
                    about = [sample for sample, _ in some]
                    table.add(about, task=THROUGHPUT, operation=operation, ms=milliseconds, amount=float(size))
                    bar.advance()
    rows = {**table.columns(), BATCH: np.array(batches, dtype=object)}
    return {**rows, JOULES: np.array(joules)} if meter else rows


def batch_request(bench: EvaluationContext, operation: str, some: Pictures) -> Callable[[], object]:
    """A request for several things at once, ready to be timed."""
    model, images = bench.model, [image for _, image in some]
    if operation == EMBED_TEXT:
        fresh = time.time_ns()
        texts = [f"picture {fresh + i} of {sample.caption}" for i, (sample, _) in enumerate(some)]
        return lambda: model.embed_texts(texts)
    if operation == DESCRIBE:
        return lambda: model.describe(images, bench.config.captions_per_image)
    return lambda: model.embed_images(images)


def throughput_measures(rows: Rows) -> list[Measurement]:
    """Requests per second (and joules per request, where they are told) of each operation and batch size."""
    found = []
    pairs = zip(rows["operation"].tolist(), rows[BATCH].tolist(), strict=True)
    for operation, batch in dict.fromkeys(pairs):
        where = Tags(task=THROUGHPUT, operation=operation, batch=batch)
        recipe = Recipe("ratio", "amount", where, parameter=1000.0, against="ms")
        found.append(measure(rows, recipe, "throughput", where))
        if JOULES in rows:
            used = Recipe("ratio", JOULES, where, against="amount")
            found.append(measure(rows, used, "energy", where))
    return found
