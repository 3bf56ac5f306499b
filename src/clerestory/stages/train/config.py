"""The settings of a training run. Equal settings, data, code and machine give equal weights."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from clerestory.core.settings import Range, Seed, Threads, check_settings
from clerestory.stages.train.model_overrides import ModelOverrides
from clerestory.stages.train.selfsup_config import SelfSupervision

_PRESETS: dict[str, dict[str, Any]] = {
    "nano": {"steps": 600, "batch_size": 128},
    "small": {"steps": 4000, "batch_size": 256},
    "base": {"steps": 3000, "batch_size": 256},
    "tiny": {"steps": 20, "batch_size": 32},
}
Share = Range(0, 1)
Positive = Range(0, exclusive_minimum=True)
NonNegative = Range(0)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """The settings of ``train``; None takes the preset's value.

    Attributes:
        preset: model size and run length: ``nano`` (about 2.5 minutes on 2 cores), ``small`` (more than an hour),
            ``base`` (with experts, for a larger machine), ``tiny`` (seconds; for trying things out, learns little).
        seed: of all random numbers.
        steps: optimizer steps.
        batch_size: images in a step, each of another concept.
        learning_rate: the peak, after warm-up; decays to zero along a cosine.
        warmup_ratio: share of the steps in which the learning rate rises.
        weight_decay: of AdamW, for matrices and embeddings.
        muon_ratio: learning rate of Muon (hidden matrices, convolutions) divided by AdamW's (everything else).
        max_grad_norm: gradients with a larger norm are scaled down to it.
        ema_decay: decay of the exponential moving average of the weights, which is the exported model.
        temperature: of the contrastive softmax.
        matryoshka_weight: weight of the mean contrastive loss over the shorter prefixes of the embeddings.
        keyword_prob: probability that an image's text is mixed with some of its keywords.
        variant_prob: probability that a skin-tone variant is drawn for a concept that has one.
        supplement_share: share of a batch drawn from supplementary images, if the data has any.
        negatives_bank: training captions used as additional negatives; 0 for all of them.
        style_strength: strength of the style augmentation, 0..1.
        caption_share: share of the batch that the caption decoder is trained on.
        caption_weight: weight of the captioning loss.
        balance_weight: weight of the experts' load-balancing loss.
        bias_update_speed: change per step of the routing bias that balances the experts' load without a loss.
        model: changes to the preset's architecture.
        start_from: digest of a model in the store to continue from: its weights are the initial ones, and its
            architecture replaces the preset's; a dense model can be given experts. Empty for fresh weights.
        self_supervision: learning from images without captions.
        early_export_share: share of the steps after which an early model is exported, for a gate to refuse.
        late_export_share: share of the steps after which a nearly finished model is exported, to roll back to.
        checkpoint_every: steps between two checkpoints.
        validate_every: steps between two validations, 0 for the end only.
        threads: threads of torch, 0 for all cores.
        parallelism: how the processes that torchrun or Ray starts hold the model: ``ddp`` (each has a replica) or
            ``fsdp`` (each has a shard of every tensor, for models too large for one device).
        num_workers: processes that prepare images ahead; the result is bit for bit the same with any number.
        grad_accum_steps: micro-batches per step, to save memory: the contrastive loss still sees the whole batch,
            batch normalisation a micro-batch.
        precision: ``fp32``, or ``bf16`` for matrix products (fast on GPUs, slow on most CPUs).
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU if there is one.
        compile: compile the image tower; takes about a minute at the start.
        loss: ``bank_softmax`` (negatives from the batch and from all training captions), ``softmax`` (CLIP) or
            ``sigmoid`` (SigLIP); the last two learn their temperature.
        parallel_caption_share: share of the decoder's captions predicted in parallel from the image alone (CapPa).
    """

    preset: Literal["nano", "small", "base", "tiny"] = "nano"
    seed: Seed = 0
    steps: Annotated[int, Range(1)] | None = None
    batch_size: Annotated[int, Range(1)] | None = None
    learning_rate: Annotated[float, Positive] = 2e-3
    warmup_ratio: Annotated[float, Share] = 0.07
    weight_decay: Annotated[float, NonNegative] = 0.05
    muon_ratio: Annotated[float, Positive] = 10.0
    max_grad_norm: Annotated[float, Positive] = 1.0
    ema_decay: Annotated[float, Range(0, 1, exclusive_maximum=True)] = 0.99
    temperature: Annotated[float, Positive] = 0.05
    matryoshka_weight: Annotated[float, NonNegative] = 0.5
    keyword_prob: Annotated[float, Share] = 0.3
    variant_prob: Annotated[float, Share] = 0.15
    supplement_share: Annotated[float, Share] = 0.5
    negatives_bank: Annotated[int, Range(0)] = 4096
    style_strength: Annotated[float, Share] = 0.5
    caption_share: Annotated[float, Share] = 0.25
    caption_weight: Annotated[float, NonNegative] = 0.3
    balance_weight: Annotated[float, NonNegative] = 0.01
    bias_update_speed: Annotated[float, NonNegative] = 1e-3
    model: ModelOverrides = ModelOverrides()
    start_from: str = ""
    self_supervision: SelfSupervision = SelfSupervision()
    early_export_share: Annotated[float, Share] = 0.1
    late_export_share: Annotated[float, Share] = 0.85
    checkpoint_every: Annotated[int, Range(1)] = 100
    validate_every: Annotated[int, Range(0)] = 150
    threads: Threads = 0
    parallelism: Literal["ddp", "fsdp"] = "ddp"
    num_workers: Annotated[int, Range(0, 256)] = 0
    grad_accum_steps: Annotated[int, Range(1)] = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False
    loss: Literal["bank_softmax", "softmax", "sigmoid"] = "bank_softmax"
    parallel_caption_share: Annotated[float, Share] = 0.0

    def __post_init__(self) -> None:
        check_settings(self)

    def resolved(self) -> ResolvedConfig:
        """The same with the preset's values filled in."""
        preset = _PRESETS[self.preset]
        steps = self.steps if self.steps is not None else int(preset["steps"])
        batch_size = self.batch_size if self.batch_size is not None else int(preset["batch_size"])
        return ResolvedConfig(
            config=replace(self, steps=steps, batch_size=batch_size),
            steps=steps,
            batch_size=batch_size,
            early_step=max(1, round(self.early_export_share * steps)),
            late_step=max(1, round(self.late_export_share * steps)),
            threads=self.threads or os.cpu_count() or 1,
        )


@dataclass(frozen=True, slots=True)
class ResolvedConfig:
    """A configuration with all values filled in."""

    config: TrainConfig
    steps: int
    batch_size: int
    early_step: int
    late_step: int
    threads: int

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to zero; ``step`` counts from 0."""
        warmup = max(1, round(self.config.warmup_ratio * self.steps))
        if step < warmup:
            return self.config.learning_rate * (step + 1) / warmup
        return self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.steps - warmup)))
