"""Every setting of a fine-tuning; a setting left at None depends on the kind of model."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Literal

from clerestory.core.errors import ConfigError

Lock = Literal["image", "text", "none"]
Kind = Literal["dual", "own", "chat"]

# A tuned tower starts from good weights: a hundredth of the rate it was trained with moves it far enough.
_RATES = {"full": 1e-5, "lora": 1e-4}
_BATCHES: dict[Kind, int] = {"dual": 64, "own": 64, "chat": 8}
# Locking the picture tower is LiT; our own model's text tower is locked in any case.
_LOCKS: dict[Kind, Lock] = {"dual": "image", "own": "text", "chat": "image"}


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """What ``tune`` may be told.

    Attributes:
        method: ``full`` trains the weights of what is not locked, ``lora`` small matrices beside them.
        lock: the tower that stays as it is: ``image``, ``text`` or ``none``; of a model that answers in words,
            ``image`` trains the language model and ``text`` what reads pictures. None: ``image``, for our own models
            ``text``.
        loss: of a dual encoder: ``sigmoid``, ``softmax``, or ``auto`` for the one it was made with.
        seed: of everything random.
        steps: optimizer steps.
        batch: pictures in a step; None: 64, for models that answer in words 8.
        learning_rate: the peak, after warm-up; falls to zero along a cosine. None: 1e-5, with LoRA 1e-4.
        warmup: share of the steps in which it rises.
        weight_decay: AdamW's, of matrices.
        clip: longest gradient.
        rank: of LoRA's matrices.
        lora_alpha: their product is multiplied by ``lora_alpha / rank``.
        merge: write the whole model; without it LoRA leaves nothing but its adapter.
        cache: compute the embeddings of a locked tower once and keep them, instead of in every step.
        question: what a model that answers in words is asked about every picture.
        pictures: most pictures to learn from, spread over the data; 0 for all.
        guard: what to do when what the model knew is being lost: ``warn``; ``stop`` and go back to the last look at
            which it was not; or ``blend`` with the original weights when training is over (WiSE-FT).
        keep: the share of what the model knew that is to be kept.
        held: pictures of the retention set that are looked at, 0 for all.
        watched: pictures of the new data's ``val`` split that are looked at, 0 for all.
        looks: evenly spaced looks at the retention set; there are some more in the first steps.
        alphas: shares of the tuned weights that are tried afterwards, the rest being the original ones.
        threads: threads of torch, 0 for all cores.
    """

    method: Literal["full", "lora"] = "full"
    lock: Lock | None = None
    loss: Literal["auto", "sigmoid", "softmax"] = "auto"
    seed: int = 0
    steps: int = 200
    batch: int | None = None
    learning_rate: float | None = None
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    rank: int = 8
    lora_alpha: float = 16.0
    merge: bool = True
    cache: bool = True
    question: str = "Describe the picture in a few words."
    pictures: int = 0
    guard: Literal["warn", "stop", "blend"] = "warn"
    keep: float = 0.95
    held: int = 256
    watched: int = 256
    looks: int = 10
    alphas: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    threads: int = 0

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch": 1, "rank": 1, "looks": 1, "pictures": 0, "held": 0, "watched": 0, "threads": 0}
        for name, number in least.items():
            value = getattr(self, name)
            if value is not None and value < number:
                raise ConfigError(f"{name} is {value}", f"it takes a number of at least {number}")
        for name in ("learning_rate", "clip", "lora_alpha"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {value}", "it takes a number above 0")
        if not 0 <= self.warmup <= 1 or not 0 < self.keep <= 1 or self.weight_decay < 0:
            raise ConfigError(
                f"warmup {self.warmup}, keep {self.keep} and weight_decay {self.weight_decay} are not all possible",
                "warmup lies in 0 to 1, keep above 0 and up to 1, weight_decay at 0 or above",
            )
        if any(not 0 <= alpha <= 1 for alpha in self.alphas) or not self.alphas:
            raise ConfigError(f"alphas is {list(self.alphas)}", "it takes shares between 0 and 1, such as [0, 0.5, 1]")
        if self.guard == "blend" and not self.merge:
            raise ConfigError("guard blend chooses weights to write, and merge is off", "leave merge on")

    def resolved(self, kind: Kind) -> TuneConfig:
        """The same with what depends on the kind of model filled in."""
        return replace(
            self,
            lock=self.lock or _LOCKS[kind],
            batch=self.batch or _BATCHES[kind],
            learning_rate=self.learning_rate or _RATES[self.method],
            threads=self.threads or os.cpu_count() or 1,
            alphas=tuple(sorted({*self.alphas, 0.0, 1.0})),
        )

    def rate(self, step: int) -> float:
        """The learning rate of a step counted from 0: linear warm-up, then a cosine to zero."""
        peak = self.learning_rate or _RATES[self.method]
        rise = max(1, round(self.warmup * self.steps))
        if step < rise:
            return peak * (step + 1) / rise
        return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, self.steps - rise)))

    def look_steps(self) -> tuple[int, ...]:
        """Steps after which the retention set is looked at; early ones too, as a rate that destroys does it at once."""
        even = {math.ceil(self.steps * i / self.looks) for i in range(1, self.looks + 1)}
        early = {step for step in (2, 4, 8, 16, 32, 64) if step < min(even)}
        return tuple(sorted(even | early))
