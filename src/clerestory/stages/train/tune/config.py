"""The settings of a fine-tuning; a setting left at None depends on the kind of model."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from clerestory.core.errors import ConfigError
from clerestory.core.settings import Range, Seed, Threads, check_settings

Lock = Literal["image", "text", "none"]
ModelKind = Literal["dual", "clerestory", "chat"]

# Fine-tuning starts from good weights: a hundredth of the original learning rate is enough.
_LEARNING_RATES = {"full": 1e-5, "lora": 1e-4}
_BATCH_SIZES: dict[ModelKind, int] = {"dual": 64, "clerestory": 64, "chat": 8}
# Locking the image tower is LiT; the text tower of a Clerestory model is always locked.
_LOCKS: dict[ModelKind, Lock] = {"dual": "image", "clerestory": "text", "chat": "image"}


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """The settings of ``tune``.

    Attributes:
        method: ``full`` trains all weights that are not locked, ``lora`` trains low-rank matrices beside them.
        lock: the tower that is not trained: ``image``, ``text`` or ``none``; of a generative model, ``image`` trains
            the language model and ``text`` the vision encoder. None: ``image``, for Clerestory models ``text``.
        loss: of a dual encoder: ``sigmoid``, ``softmax``, or ``auto`` for the one it was trained with.
        seed: of all random numbers.
        steps: optimizer steps.
        batch_size: images in a step; None: 64, for generative models 8.
        learning_rate: the peak, after warm-up; decays to zero along a cosine. None: 1e-5, with LoRA 1e-4.
        warmup_ratio: share of the steps in which the learning rate rises.
        weight_decay: AdamW's, of matrices.
        max_grad_norm: larger gradients are clipped to this norm.
        lora_rank: of LoRA's matrices.
        lora_alpha: their product is multiplied by ``lora_alpha / lora_rank``.
        merge: write the whole model; without it LoRA writes only its adapter.
        cache_embeddings: compute the embeddings of a locked tower once and store them, instead of in every step.
        question: the prompt of a generative model for every image.
        max_samples: maximum number of training images, sampled evenly; 0 for all.
        on_forgetting: what to do when the model forgets: ``warn``; ``stop`` and restore the weights of the last
            validation with enough retention; or ``interpolate`` with the original weights after training (WiSE-FT).
        min_retention: required share of the score on the retention set before training.
        retention_samples: images of the retention set, 0 for all.
        val_samples: images of the new data's ``val`` split, 0 for all.
        num_validations: evenly spaced validations on the retention set; there are more in the first steps.
        alphas: shares of the tuned weights at which the interpolation is evaluated after training.
        threads: threads of torch, 0 for all cores.
    """

    method: Literal["full", "lora"] = "full"
    lock: Lock | None = None
    loss: Literal["auto", "sigmoid", "softmax"] = "auto"
    seed: Seed = 0
    steps: Annotated[int, Range(1)] = 200
    batch_size: Annotated[int, Range(1)] | None = None
    learning_rate: Annotated[float, Range(0, exclusive_minimum=True)] | None = None
    warmup_ratio: Annotated[float, Range(0, 1)] = 0.1
    weight_decay: Annotated[float, Range(0)] = 0.01
    max_grad_norm: Annotated[float, Range(0, exclusive_minimum=True)] = 1.0
    lora_rank: Annotated[int, Range(1, 4096)] = 8
    lora_alpha: Annotated[float, Range(0, exclusive_minimum=True)] = 16.0
    merge: bool = True
    cache_embeddings: bool = True
    question: str = "Describe the picture in a few words."
    max_samples: Annotated[int, Range(0)] = 0
    on_forgetting: Literal["warn", "stop", "interpolate"] = "warn"
    min_retention: Annotated[float, Range(0, 1, exclusive_minimum=True)] = 0.95
    retention_samples: Annotated[int, Range(0)] = 256
    val_samples: Annotated[int, Range(0)] = 256
    num_validations: Annotated[int, Range(1)] = 10
    alphas: tuple[Annotated[float, Range(0, 1)], ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    threads: Threads = 0

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.alphas:
            raise ConfigError("alphas is empty", "it accepts numbers between 0 and 1, such as [0, 0.5, 1]")
        if self.on_forgetting == "interpolate" and not self.merge:
            raise ConfigError("on_forgetting is interpolate and merge is false", "set merge to true")

    def resolved(self, kind: ModelKind) -> TuneConfig:
        """The same with the defaults for a kind of model filled in."""
        return replace(
            self,
            lock=self.lock or _LOCKS[kind],
            batch_size=self.batch_size or _BATCH_SIZES[kind],
            learning_rate=self.learning_rate or _LEARNING_RATES[self.method],
            threads=self.threads or os.cpu_count() or 1,
            alphas=tuple(sorted({*self.alphas, 0.0, 1.0})),
        )

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step counted from 0: linear warm-up, then a cosine to zero."""
        peak = self.learning_rate or _LEARNING_RATES[self.method]
        warmup_steps = max(1, round(self.warmup_ratio * self.steps))
        if step < warmup_steps:
            return peak * (step + 1) / warmup_steps
        return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, self.steps - warmup_steps)))

    def validation_steps(self) -> tuple[int, ...]:
        """Steps after which the retention set is evaluated; more in the first steps, for a far too high rate."""
        even = {math.ceil(self.steps * i / self.num_validations) for i in range(1, self.num_validations + 1)}
        early = {step for step in (2, 4, 8, 16, 32, 64) if step < min(even)}
        return tuple(sorted(even | early))
