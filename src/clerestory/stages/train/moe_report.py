"""The experts' report card of a finished training: who does how much, and for which pictures.

It is made of the kept weights, on validation pictures, which the experts have not been trained on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from clerestory.core.sample import TRAIN, VAL, Dataset, Sample
from clerestory.data.images import decode_image
from clerestory.models.model import ClerestoryModel
from clerestory.models.moe import mixtures
from clerestory.models.moe.expert_report import MODALITY, Batch, ExpertCard, report_card
from clerestory.models.moe.heat_map import heat_maps
from clerestory.models.processor import ClerestoryProcessor, normalise, to_pixels

MOST = 1024  # pictures; more make shares of experts no clearer
BATCH = 64
FEWEST, MANY = 2, 64  # values of a group worth a table


def expert_files(model: ClerestoryModel, processor: ClerestoryProcessor, data: Dataset) -> dict[str, bytes]:
    """The card as JSON (``experts``) and as a picture (``experts_map``); nothing for a model without experts.

    Args:
        model: in evaluation mode.
        processor: of the model.
        data: whose validation pictures are looked at; the training pictures where it has none.
    """
    if not mixtures(model):
        return {}
    samples = _chosen(data)
    card = report_card(model, _batches(model, processor, data, samples))
    told = {**card.to_dict(), "pictures": len(samples), "split": samples[0].split}
    text = json.dumps(told, ensure_ascii=False, sort_keys=True)
    return {"experts": text.encode(), "experts_map": heat_maps(card, most_telling(card)).encode()}


def most_telling(card: ExpertCard) -> list[tuple[str, str]]:
    """For each group the layer in which it and the expert tell most about one another, as ``(group, layer)``.

    Modalities are told apart by layers where each has towers of its own; the last layer then stands for all.
    """
    both = any((card.table(MODALITY, layer).sum(axis=1) > 0).sum() > 1 for layer in card.layers)
    groups = [group for group in card.tables if group != MODALITY or both]
    found = [(group, max(card.layers, key=lambda layer: card.specialisation(group, layer))) for group in groups]
    return found or [(MODALITY, card.layers[-1])]


def _chosen(data: Dataset) -> list[Sample]:
    """Pictures with captions, evenly spread over their split."""
    splits = {sample.split for sample in data if sample.caption}
    wanted = VAL if VAL in splits else TRAIN if TRAIN in splits else ""
    found = [sample for sample in data if sample.caption and sample.split == wanted]
    step = max(1, -(-len(found) // MOST))
    return found[::step]


def _batches(
    model: ClerestoryModel, processor: ClerestoryProcessor, data: Dataset, samples: Sequence[Sample]
) -> Iterator[Batch]:
    names = {name for sample in samples for name in sample.groups}
    values = {name: [sample.groups.get(name, "none") or "none" for sample in samples] for name in sorted(names)}
    groups = {name: each for name, each in values.items() if FEWEST <= len(set(each)) <= MANY}
    side, longest = model.config.image_size, model.config.max_caption_tokens
    for start in range(0, len(samples), BATCH):
        here = samples[start : start + BATCH]
        pixels = normalise(to_pixels([decode_image(data.read(sample)) for sample in here], side))
        words = processor.tokenizer([sample.caption for sample in here], padding=True, return_tensors="pt")
        inputs = {"pixel_values": pixels, "caption_ids": words["input_ids"][:, :longest]}
        yield inputs, {name: each[start : start + BATCH] for name, each in groups.items()}
