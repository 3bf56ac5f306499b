"""The expert report of a finished training: the load of each expert, and its images.

It is measured with the exported weights on validation images, which the experts were not trained on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np

from clerestory.core.sample import TRAIN, VAL, Dataset, Sample
from clerestory.data.images import decode_sample
from clerestory.models.model import ClerestoryModel
from clerestory.models.moe import mixtures
from clerestory.models.moe.expert_report import Batch, report_experts
from clerestory.models.pixels import to_pixels
from clerestory.models.processor import ClerestoryProcessor, normalise

MAX_IMAGES = 1024  # more do not make the shares much more precise
BATCH_SIZE = 64
MIN_VALUES, MAX_VALUES = 2, 64  # of a group that gets a table


def expert_report_files(model: ClerestoryModel, processor: ClerestoryProcessor, data: Dataset) -> dict[str, bytes]:
    """The report as JSON (``experts``), from which reports draw its heat maps; empty for a model without experts.

    Args:
        model: in evaluation mode.
        processor: of the model.
        data: its validation images are used, or its training images if it has none.
    """
    if not mixtures(model):
        return {}
    samples = _samples(data)
    card = report_experts(model, _batches(model, processor, data, samples))
    report = {**card.to_dict(), "images": len(samples), "split": samples[0].split}
    text = json.dumps(report, ensure_ascii=False, sort_keys=True)
    return {"experts": text.encode()}


def _samples(data: Dataset) -> list[Sample]:
    """Samples with captions, evenly spread over their split."""
    splits = {sample.split for sample in data if sample.caption}
    split = VAL if VAL in splits else TRAIN if TRAIN in splits else ""
    samples = [sample for sample in data if sample.caption and sample.split == split]
    step = max(1, -(-len(samples) // MAX_IMAGES))
    return samples[::step]


def _batches(
    model: ClerestoryModel, processor: ClerestoryProcessor, data: Dataset, samples: Sequence[Sample]
) -> Iterator[Batch]:
    names = {name for sample in samples for name in sample.groups}
    values = {name: [sample.groups.get(name, "none") or "none" for sample in samples] for name in sorted(names)}
    groups = {name: each for name, each in values.items() if MIN_VALUES <= len(set(each)) <= MAX_VALUES}
    side, max_tokens = model.config.image_size, model.config.max_caption_tokens
    for start in range(0, len(samples), BATCH_SIZE):
        batch = samples[start : start + BATCH_SIZE]
        # One decoded image at a time: a large one takes 100 MB.
        pixels = normalise(np.concatenate([to_pixels([decode_sample(data, sample)], side) for sample in batch]))
        tokens = processor.tokenizer([sample.caption for sample in batch], padding=True, return_tensors="pt")
        inputs = {"pixel_values": pixels, "caption_ids": tokens["input_ids"][:, :max_tokens]}
        yield inputs, {name: each[start : start + BATCH_SIZE] for name, each in groups.items()}
