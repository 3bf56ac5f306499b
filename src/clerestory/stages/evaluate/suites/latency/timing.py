"""Timed requests: one image or text at a time, and batches of one, eight and 64."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from clerestory.core.codec import Tags
from clerestory.core.evidence import Measurement, Recipe
from clerestory.core.rows import Operation, TaskName
from clerestory.core.sample import Sample
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.held_images import MAX_PIXELS
from clerestory.stages.evaluate.row_builder import BATCH_COLUMN, RowBuilder, distinct_slices
from clerestory.stages.evaluate.samples import caption_in, concept_of, select_samples
from clerestory.stages.evaluate.suites.latency.resources import EnergyMeter
from clerestory.stats.aggregate import Rows, measure

# Generating captions takes tens of times as long as embedding: enough for the 95th percentile, too few for the 99th.
MAX_DESCRIBE_REQUESTS = 100
# How many batches of each size are timed, after one untimed batch.
BATCHES = {1: 16, 8: 6, 64: 3}
PERCENTILES = (50, 95, 99)
JOULES_COLUMN = "joules"

Images = list[tuple[Sample, Image.Image]]


def num_requests(operation: Operation, latency_samples: int) -> int:
    """How many single requests of an operation are timed."""
    return min(latency_samples, MAX_DESCRIBE_REQUESTS) if operation == Operation.DESCRIBE else latency_samples


def timed_images(context: EvaluationContext) -> Images:
    """At most ``latency_samples`` decoded images of the first split, without unreadable ones.

    All of them are in memory, since no clock may include the decoding, so there are fewer of large photographs.
    """
    config = context.config
    captioned = (s for s in context.splits[context.first_split] if caption_in(s, config.language))
    images, pixels = Images(), 0
    for sample in select_samples(captioned, config.latency_samples, config.seed):
        if (image := context.read_image(sample)) is None:
            continue
        pixels += image.width * image.height
        if images and pixels > MAX_PIXELS:
            break
        images.append((sample, image))
    return images


def request_of(context: EvaluationContext, operation: Operation, batch: Images) -> Callable[[], object]:
    """A request for one or more decoded images or texts, ready to be timed.

    Every text is new to the model, so that no cache of earlier texts can answer in its place.
    """
    model, images = context.model, [image for _, image in batch]
    if operation == Operation.EMBED_TEXT:
        fresh = time.time_ns()
        texts = [f"image {fresh + i} of {sample.caption}" for i, (sample, _) in enumerate(batch)]
        return lambda: model.embed_texts(texts)
    if operation == Operation.DESCRIBE:
        return lambda: model.caption_images(images, context.config.captions_per_image)
    return lambda: model.embed_images(images)


def time_requests(
    context: EvaluationContext, operations: Sequence[Operation], images: Images, builder: RowBuilder
) -> None:
    """Add one row per single request with its wall-clock milliseconds, after untimed requests to warm up."""
    config, split = context.config, context.first_split
    total = sum(num_requests(operation, config.latency_samples) for operation in operations)
    with context.progress.task("Timing single requests", total) as bar:
        for operation in operations:
            for turn in range(-config.warm_up_requests, num_requests(operation, config.latency_samples)):
                sample, image = images[turn % len(images)]
                request = request_of(context, operation, [(sample, image)])
                milliseconds = _milliseconds(request)
                if turn < 0:
                    continue
                builder.add(
                    [sample],
                    task=TaskName.LATENCY,
                    split=split,
                    operation=operation,
                    sample=sample.id,
                    concept=concept_of(sample, config.language),
                    ms=milliseconds,
                )
                bar.advance()


def time_batches(
    context: EvaluationContext, operations: Sequence[Operation], images: Images, meter: EnergyMeter | None
) -> Rows:
    """One row per batch: its ``amount`` of requests, its ``ms`` and, with an energy meter, its ``joules``.

    Images are decoded before the clock starts, and repeated where there are too few.
    """
    builder = context.row_builder()
    sizes: list[str] = []
    joules: list[float] = []
    with context.progress.task("Timing batches", len(operations) * sum(BATCHES.values())) as bar:
        for operation in operations:
            for size, repeats in BATCHES.items():
                for turn in range(-1, repeats):
                    batch = [images[(max(turn, 0) * size + i) % len(images)] for i in range(size)]
                    request = request_of(context, operation, batch)
                    before = meter.joules() if meter else np.nan
                    milliseconds = _milliseconds(request)
                    if turn < 0:
                        continue
                    joules.append(meter.joules() - before if meter else np.nan)
                    sizes.append(str(size))
                    samples = [sample for sample, _ in batch]
                    builder.add(
                        samples, task=TaskName.THROUGHPUT, operation=operation, ms=milliseconds, amount=float(size)
                    )
                    bar.advance()
    rows = {**builder.columns(), BATCH_COLUMN: np.array(sizes, dtype=object)}
    return {**rows, JOULES_COLUMN: np.array(joules)} if meter else rows


def latency_measurements(rows: Rows) -> list[Measurement]:
    """Percentiles of the latency of each operation."""
    return [
        measure(rows, Recipe("quantile", "ms", Tags(where), parameter=percentile / 100), f"latency_p{percentile}")
        for where in distinct_slices(rows, ("task", "operation"), TaskName.LATENCY)
        for percentile in PERCENTILES
    ]


def throughput_measurements(rows: Rows) -> list[Measurement]:
    """Requests per second, and joules per request where they are known, of each operation and batch size."""
    found = []
    pairs = zip(rows["operation"].tolist(), rows[BATCH_COLUMN].tolist(), strict=True)
    for operation, size in dict.fromkeys(pairs):
        where = Tags({"task": TaskName.THROUGHPUT, "operation": operation, BATCH_COLUMN: size})
        recipe = Recipe("ratio", "amount", where, parameter=1000.0, against="ms")
        found.append(measure(rows, recipe, "throughput", where))
        if JOULES_COLUMN in rows:
            found.append(measure(rows, Recipe("ratio", JOULES_COLUMN, where, against="amount"), "energy", where))
    return found


def _milliseconds(request: Callable[[], object]) -> float:
    started = time.perf_counter()
    request()
    return (time.perf_counter() - started) * 1e3
