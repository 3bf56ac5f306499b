"""The thresholds of the monitor, each with its reason.

They were chosen on short runs of tiny models with and without injected faults (``training_trust.py``), with a
margin on both sides: if a healthy run has 0.01 and a faulty one 0.4, the threshold is well between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from clerestory.core.settings import Range, check_settings

Positive = Annotated[float, Range(0, exclusive_minimum=True)]


@dataclass(frozen=True, slots=True)
class MonitorThresholds:
    """When a metric counts as a symptom.

    Attributes:
        grace_steps: full-rate steps (a warm-up step counts by its share of the peak learning rate) before metrics
            are checked that depend on training: every run starts collapsed and at chance.
        grace_share: the same as a share of the run, if that is more: long runs have longer warm-ups.
        shortcut_grace_share: the same for captions: the language is always learned before the images are used.
        shortcut_captions: captions trained on before the decoder can be expected to use the images.
        collapse_cosine: mean cosine of different images. Healthy runs fall below 0.2; captions have 0.4.
        collapse_margin: minimum distance above the captions' own mean cosine: captions may be similar.
        dead_checks: consecutive checks in which an expert has no tokens. A single batch may miss one.
        plateau_accuracy: in-batch accuracy, as a multiple of chance. A run that learns has 10 or more.
        plateau_loss_ratio: loss as a share of the chance loss. A run that learns is below 0.9 by then.
        max_logit_scale: CLIP never lets the scale exceed 100; above it one mismatched pair dominates the gradient.
        max_loss_floor: minimum possible loss at this scale, as a share of the chance loss. Above it most of the loss
            cannot be reduced, however good the embeddings.
        max_grad_growth: gradient norm as a multiple of its lowest running median. Healthy runs stay within 5.
        max_weight_growth: weight norm as a multiple of that twenty steps ago. Healthy runs add a tenth.
        max_recall_drop: drop of recall, as a share of the best recall.
        standard_errors: distance of a difference from zero: 4 is one false alarm in 30,000 checks.
        min_caption_progress: share by which the caption loss must have fallen before the check applies.
        min_image_gain: by how much its own image lowers the caption loss, as a share of that loss.
        max_leaked_share: share of the validation images in the training data. Flags alone give 1 % near-duplicates.
        min_leaked_images: and at least this number, so that one near-duplicate in a tiny set is not an alarm.
        max_duplicate_share: share of a batch that repeats another image of it. A shuffle without repeats has none.
        max_update_ratio: weight update as a share of the weight norm. 1 % is usual; 10 % overwrites everything in
            ten steps.
        min_update_ratio: the same; below it a thousand steps move the weights by less than a tenth.
        skipped_steps: non-finite steps among the last 20.
        max_loss_growth: loss above its initial value, as a share of it.
    """

    grace_steps: Positive = 20.0
    grace_share: Positive = 0.05
    shortcut_grace_share: Positive = 0.2
    shortcut_captions: Positive = 1200
    collapse_cosine: Positive = 0.95
    collapse_margin: Positive = 0.1
    dead_checks: Annotated[int, Range(1)] = 5
    plateau_accuracy: Positive = 2.5
    plateau_loss_ratio: Positive = 0.97
    max_logit_scale: Positive = 100.0
    max_loss_floor: Positive = 0.4
    max_grad_growth: Positive = 10.0
    max_weight_growth: Positive = 2.0
    max_recall_drop: Positive = 0.3
    standard_errors: Positive = 4.0
    min_caption_progress: Positive = 0.15
    min_image_gain: Positive = 0.005
    max_leaked_share: Positive = 0.05
    min_leaked_images: Annotated[int, Range(1)] = 3
    max_duplicate_share: Positive = 0.25
    max_update_ratio: Positive = 0.1
    min_update_ratio: Positive = 1e-4
    skipped_steps: Annotated[int, Range(1)] = 3
    max_loss_growth: Positive = 0.3

    def __post_init__(self) -> None:
        check_settings(self)


DEFAULT = MonitorThresholds()
