"""Every setting of a training run. Equal settings, data, code and machine give equal weights."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Any, Literal

from clerestory.core.errors import ConfigError
from clerestory.stages.train.model_overrides import Architecture
from clerestory.stages.train.selfsup_config import SelfSupervision

_PRESETS: dict[str, dict[str, Any]] = {
    "nano": {"steps": 1100, "batch": 128},
    "small": {"steps": 4000, "batch": 256},
    "base": {"steps": 3000, "batch": 256},
    "tiny": {"steps": 20, "batch": 32},
}


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """What ``train`` may be told; a setting left at None is the preset's.

    Attributes:
        preset: sizes and length: ``nano`` (at most 5 minutes on 2 cores), ``small`` (an hour and more), ``base``
            (with experts, for a bigger machine), ``tiny`` (seconds; for trying things out, learns little).
        seed: of everything random.
        steps: optimizer steps.
        batch: concepts in a step, one picture of each.
        learning_rate: the peak, after warm-up; falls to zero along a cosine.
        warmup: share of the steps in which it rises.
        weight_decay: AdamW's, of matrices and embeddings.
        muon_ratio: learning rate of Muon (hidden matrices, convolutions) divided by AdamW's (all else).
        clip: longest gradient.
        ema: decay of the running average of the weights, which is what is kept.
        temperature: of the contrastive softmax.
        nested_weight: weight of the mean loss over the shorter prefixes of the embeddings.
        keywords: share of draws whose text is mixed with some of the picture's keywords.
        variants: share of draws in which a skin-tone variant may stand for its concept.
        supplement: share of a batch that is drawn from supplementary pictures, where the data has any.
        bank: how many of the training captions, besides the batch's own, a picture is told apart from; 0 for all.
        style: strength of the style augmentation, 0..1.
        caption_share: share of the batch the caption decoder learns from.
        caption_weight: weight of the captioning loss.
        balance_weight: weight of the experts' load-balance loss.
        expert_rate: how far one step moves the bias that balances the load of experts without a loss.
        model: changes to the preset's architecture.
        start_from: digest of a model in the store whose weights are the first ones, and whose architecture takes the
            place of the preset's; a dense one may be given experts. Empty for fresh weights.
        self_supervision: learning from pictures alone, those without captions included.
        early: share of the steps after which an early model is kept, so that a gate has something to refuse.
        late: share of the steps after which a nearly finished model is kept, to go back to should the last one fail.
        checkpoint_every: steps between two checkpoints.
        validate_every: steps between two looks at the validation split, 0 for the end only.
        threads: threads of torch, 0 for all cores.
        parallel: how the processes that torchrun or Ray starts share the model: ``ddp`` (each holds all of it) or
            ``fsdp`` (each holds a part of every tensor, for models too large for one device).
        workers: processes that prepare pictures ahead; the result is bit for bit the same with any number.
        accumulate: pieces in which a batch goes through the model, to save memory: the contrastive loss still sees
            the whole batch, batch norm a piece.
        precision: ``fp32``, or ``bf16`` for matrix products (fast on GPUs, slow on most processors).
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.
        compile: compile the image tower; costs about a minute at the start.
        loss: ``softmax_bank`` (among all training captions), ``softmax`` (CLIP) or ``sigmoid`` (SigLIP); the last two
            learn their temperature.
        parallel_captions: share of the decoder's captions to be said all at once from the picture alone (CapPa).
    """

    preset: Literal["nano", "small", "base", "tiny"] = "nano"
    seed: int = 0
    steps: int | None = None
    batch: int | None = None
    learning_rate: float = 2e-3
    warmup: float = 0.07
    weight_decay: float = 0.05
    muon_ratio: float = 10.0
    clip: float = 1.0
    ema: float = 0.99
    temperature: float = 0.05
    nested_weight: float = 0.5
    keywords: float = 0.3
    variants: float = 0.15
    supplement: float = 0.5
    bank: int = 4096
    style: float = 0.5
    caption_share: float = 0.25
    caption_weight: float = 0.3
    balance_weight: float = 0.01
    expert_rate: float = 1e-3
    model: Architecture = Architecture()
    start_from: str = ""
    self_supervision: SelfSupervision = SelfSupervision()
    early: float = 0.1
    late: float = 0.85
    checkpoint_every: int = 100
    validate_every: int = 150
    threads: int = 0
    parallel: Literal["ddp", "fsdp"] = "ddp"
    workers: int = 0
    accumulate: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False
    loss: Literal["softmax_bank", "softmax", "sigmoid"] = "softmax_bank"
    parallel_captions: float = 0.0

    def __post_init__(self) -> None:
        if self.preset not in _PRESETS:
            raise ConfigError(f"the preset is {self.preset!r}", f"it takes one of {', '.join(_PRESETS)}")
        for name in ("steps", "batch", "accumulate"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}", "it takes a number of at least 1")
        for name in (
            "warmup",
            "keywords",
            "variants",
            "supplement",
            "style",
            "caption_share",
            "early",
            "late",
            "parallel_captions",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", "it takes a share between 0 and 1")
        if self.workers < 0:
            raise ConfigError(f"workers is {self.workers}", "it takes 0 or more")
        if not 0 <= self.ema < 1 or self.temperature <= 0 or self.learning_rate <= 0 or self.checkpoint_every < 1:
            raise ConfigError(
                f"ema {self.ema}, temperature {self.temperature}, learning_rate {self.learning_rate} "
                f"and checkpoint_every {self.checkpoint_every} do not go together",
                "ema lies in [0, 1), the others are above 0",
            )

    def resolved(self) -> Settings:
        """The same with the preset's numbers filled in."""
        preset = _PRESETS[self.preset]
        steps = self.steps if self.steps is not None else int(preset["steps"])
        batch = self.batch if self.batch is not None else int(preset["batch"])
        return Settings(
            config=replace(self, steps=steps, batch=batch),
            steps=steps,
            batch=batch,
            early_step=max(1, round(self.early * steps)),
            late_step=max(1, round(self.late * steps)),
            threads=self.threads or os.cpu_count() or 1,
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """A configuration whose open numbers are filled in."""

    config: TrainConfig
    steps: int
    batch: int
    early_step: int
    late_step: int
    threads: int

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to zero; ``step`` counts from 0."""
        rise = max(1, round(self.config.warmup * self.steps))
        if step < rise:
            return self.config.learning_rate * (step + 1) / rise
        return self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, self.steps - rise)))
