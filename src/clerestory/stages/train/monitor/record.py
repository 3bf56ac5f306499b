"""The metrics of one training step, as the monitor reads them; the training log holds the same under the same names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class StepRecord:
    """The metrics of one step. A metric that was not measured in this step is None; each is independent of the others.

    Attributes:
        step: steps done, this one included.
        steps: steps of the whole run.
        loss: the training loss; None when it was not finite.
        contrastive, caption: its terms.
        chance_loss: the contrastive loss at chance level: ln(B), or its equivalent with more negatives.
        batch_accuracy: share of the batch's images whose most similar text in the batch is their own.
        batch: images in the batch.
        negatives: other captions that the contrastive loss compares an image with.
        skipped: steps so far whose loss or gradient was not finite.
        grad_norm: gradient norm before clipping; None when it was not finite.
        weight_norm: norm of all trained weights.
        update_ratio: norm of this step's weight update, divided by the weight norm.
        lr, peak_lr: learning rate of this step, and the highest of the run.
        logit_scale: factor of the similarities before the softmax, 1 / temperature.
        embedding_std: standard deviation of the image embeddings per dimension; 1 when they are spread evenly.
        embedding_cosine: mean cosine similarity between different images of the batch.
        embedding_rank: effective rank of the image embeddings.
        text_cosine, text_rank: the same of their target text embeddings.
        experts: experts in a layer.
        min_expert_load, max_expert_load: load of the least and the most used expert of any layer; 1 is an equal share.
        dead_experts: experts with almost no tokens, in the layer that has most of them.
        val_recall, val_images: recall on the validation images, and their number.
        retained_recall, retained_images: the same on earlier data or tasks (zero-shot tasks, earlier training data).
        caption_loss, caption_loss_shuffled: caption loss with their own images and with the images of other captions.
        caption_gain_error: standard error of the difference of the two.
        captions: captions that these were measured on.
        duplicate_share: share of the batch that repeats an earlier image of the batch.
        leaked_share, leakage_images: share of the validation images that are also training images, of how many.
    """

    step: int
    steps: int | None = None
    loss: float | None = None
    contrastive: float | None = None
    caption: float | None = None
    chance_loss: float | None = None
    batch_accuracy: float | None = None
    batch: int | None = None
    negatives: int | None = None
    skipped: int | None = None
    grad_norm: float | None = None
    weight_norm: float | None = None
    update_ratio: float | None = None
    lr: float | None = None
    peak_lr: float | None = None
    logit_scale: float | None = None
    embedding_std: float | None = None
    embedding_cosine: float | None = None
    embedding_rank: float | None = None
    text_cosine: float | None = None
    text_rank: float | None = None
    experts: int | None = None
    min_expert_load: float | None = None
    max_expert_load: float | None = None
    dead_experts: int | None = None
    val_recall: float | None = None
    val_images: int | None = None
    retained_recall: float | None = None
    retained_images: int | None = None
    caption_loss: float | None = None
    caption_loss_shuffled: float | None = None
    caption_gain_error: float | None = None
    captions: int | None = None
    duplicate_share: float | None = None
    leaked_share: float | None = None
    leakage_images: int | None = None

    @classmethod
    def from_log(cls, values: Mapping[str, Any]) -> StepRecord:
        """From a line of the training log; keys that are not fields of a record are ignored."""
        known = {name: values[name] for name in NAMES if name in values}
        if "val_recall@10" in values:
            known |= {"val_recall": values["val_recall@10"], "val_images": values.get("n")}
        return cls(**known)


NAMES = tuple(field.name for field in fields(StepRecord))
