"""How long one request takes: one picture or one text at a time, after a warm-up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from PIL import Image

from clerestory.core.sample import Sample
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.shared.retrieval_split import caption_in, concept_of
from clerestory.stages.evaluate.shared.row_builder import RowBuilder
from clerestory.stages.evaluate.shared.sampling import choose

LATENCY = "latency"
EMBED_IMAGE, EMBED_TEXT, DESCRIBE = "embed_image", "embed_text", "describe"
# Writing words takes tens of times as long as an embedding: enough for the 95th percentile, too few for the 99th.
MOST_DESCRIBED = 100


def times(operation: str, timed: int) -> int:
    """How many requests of an operation are timed."""
    return min(timed, MOST_DESCRIBED) if operation == DESCRIBE else timed


def timed_pictures(bench: EvaluationContext) -> list[tuple[Sample, Image.Image]]:
    """The readable pictures that requests are about, decoded; at most ``timed`` of them, from the first split."""
    config = bench.config
    data = next(iter(bench.splits.values()))
    samples = choose((s for s in data if caption_in(s, config.language)), config.latency_samples, config.seed)
    return [(sample, image) for sample in samples if (image := bench.picture(sample)) is not None]


def time_requests(
    bench: EvaluationContext,
    operations: Sequence[str],
    pictures: Sequence[tuple[Sample, Image.Image]],
    table: RowBuilder,
) -> None:
    """One row per timed request, wall-clock milliseconds; a picture is decoded before the clock starts.

    Every text is new to the model, so that no cache of earlier texts can answer in its place.
    """
    config = bench.config
    split = next(iter(bench.splits))
    fresh = time.time_ns()
    with bench.progress.task("Timing single requests", sum(times(o, config.latency_samples) for o in operations)) as bar:
        for operation in operations:
            for turn in range(-config.warm_up_requests, times(operation, config.latency_samples)):
                sample, image = pictures[turn % len(pictures)]
                text = f"picture {fresh + turn + config.warm_up_requests} of {sample.caption}"
                request = _request(bench.model, operation, image, text, config.captions_per_image)
                started = time.perf_counter()
                request()
                milliseconds = (time.perf_counter() - started) * 1e3
                if turn < 0:
                    continue
                table.add(
                    [sample],
                    task=LATENCY,
                    split=split,
                    operation=operation,
                    sample=sample.id,
                    concept=concept_of(sample, config.language),
                    ms=milliseconds,
                )
                bar.advance()


def _request(model: Any, operation: str, image: Image.Image, text: str, suggestions: int) -> Callable[[], object]:
    if operation == EMBED_TEXT:
        return partial(model.embed_texts, [text])
    if operation == DESCRIBE:
        return partial(model.describe, [image], suggestions)
    return partial(model.embed_images, [image])
