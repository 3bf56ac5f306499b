"""What the monitor is told about one step: plain numbers, all of which also stand in the training log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Record:
    """One step. What was not looked at in this step is None; every number may be given on its own.

    Attributes:
        step: steps done, this one included.
        steps: steps of the whole run.
        loss: that is minimised; None when it was not finite.
        contrastive, caption: its parts.
        guess: the contrastive loss of a model that knows nothing: ln(B), or its like with more candidates.
        found: share of the batch's pictures that are nearer to their own text than to any other of the batch.
        batch: pictures in the batch.
        skipped: steps so far whose loss or gradient was not finite.
        gradient: length of the gradient before it was clipped; None when it was not finite.
        weights: length of all trained weights.
        update: length of the change of the weights in this step, divided by the length of the weights.
        lr, peak_lr: learning rate of this step, and the highest of the run.
        scale: what similarities are multiplied by before the softmax, 1 / temperature.
        spread: standard deviation of the picture embeddings per dimension, 1 when they point in all directions alike.
        cosine: mean cosine between different pictures of the batch.
        rank: effective number of directions the picture embeddings use.
        text_cosine, text_rank: the same of the texts they should match.
        experts: experts in a layer.
        expert_least, expert_most: load of the least and the most used expert of any layer; 1 is a fair share.
        experts_dead: experts that next to no token visits, in the layer that has most of them.
        recall, recall_n: share found on the validation pictures, and their number.
        kept, kept_n: the same on what the model knew before (zero-shot tasks, an earlier data set).
        blind, seeing: caption loss with the pictures exchanged, and with the right pictures, for the same captions.
        blind_error: standard error of the difference of the two.
        caption_n: captions these rest on.
        duplicates: share of the batch that is the same picture as an earlier one of the batch.
        leaked, leaked_n: share of the validation pictures that are also training pictures, and their number.
    """

    step: int
    steps: int | None = None
    loss: float | None = None
    contrastive: float | None = None
    caption: float | None = None
    guess: float | None = None
    found: float | None = None
    batch: int | None = None
    skipped: int | None = None
    gradient: float | None = None
    weights: float | None = None
    update: float | None = None
    lr: float | None = None
    peak_lr: float | None = None
    scale: float | None = None
    spread: float | None = None
    cosine: float | None = None
    rank: float | None = None
    text_cosine: float | None = None
    text_rank: float | None = None
    experts: int | None = None
    expert_least: float | None = None
    expert_most: float | None = None
    experts_dead: int | None = None
    recall: float | None = None
    recall_n: int | None = None
    kept: float | None = None
    kept_n: int | None = None
    blind: float | None = None
    seeing: float | None = None
    blind_error: float | None = None
    caption_n: int | None = None
    duplicates: float | None = None
    leaked: float | None = None
    leaked_n: int | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Record:
        """From a line of the training log; what is no field of a record is left out."""
        plain = {name: values[name] for name in NAMES if name in values}
        if "val_recall@10" in values:
            plain |= {"recall": values["val_recall@10"], "recall_n": values.get("n")}
        return cls(**plain)


NAMES = tuple(field.name for field in fields(Record))
