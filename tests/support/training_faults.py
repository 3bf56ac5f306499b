"""Short real trainings with an injected fault each, for the tests and the bench of the monitor.

Shape suffixes: B images, E shared space, M texts, L tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import MethodType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from tests.support.shapes import more_shapes
from torch import Tensor
from torch.nn import functional as F

from clerestory.core.progress import QUIET
from clerestory.models import ClerestoryImageProcessor, ClerestoryModel, ClerestoryProcessor, load_text_tower
from clerestory.models.moe import mixtures
from clerestory.models.presets import preset_config
from clerestory.stages.train import TrainConfig, loop
from clerestory.stages.train.loop import Run
from clerestory.stages.train.objectives import Captions, LossTerm, StepContext, contrastive
from clerestory.stages.train.train_data import TrainData, TrainImages, caption_tokenizer, prepare
from clerestory.stages.train.validate import recall_at_k

STEPS = 60
MAX_DETECTION_STEP = 50


@lru_cache(maxsize=4)
def train_data(leak: bool = False) -> TrainData:
    """``more_shapes`` prepared for training."""
    side = preset_config("tiny").image_size
    return prepare(more_shapes(leak), side * 4 // 3, side, load_text_tower(), QUIET)


def start_run(
    folder: Path, seed: int = 0, leak: bool = False, sizes: dict[str, Any] | None = None, **changes: Any
) -> Run:
    """A training of a tiny model at step 0; ``sizes`` change the model, the other arguments the settings."""
    settings: dict[str, Any] = {
        "preset": "tiny",
        "steps": STEPS,
        "batch_size": 48,
        "threads": 1,
        "seed": seed,
        "caption_share": 1.0,
    }
    data = train_data(leak)
    tokenizer = caption_tokenizer(data)
    architecture = preset_config("tiny", vocab_size=len(tokenizer), **(sizes or {}))
    torch.manual_seed(seed)
    model = ClerestoryModel(architecture)
    model.projection.set_rotation(data.rotation_EE)
    side = architecture.image_size
    processor = ClerestoryProcessor(ClerestoryImageProcessor(size={"height": side, "width": side}), tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    return Run(TrainConfig(**(settings | changes)).resolved(), data, model, processor, folder)


def monitored(run: Run, steps: int = MAX_DETECTION_STEP) -> dict[str, int]:
    """Train for some steps; the reported codes, with the step of each."""
    reported: dict[str, int] = {}
    while run.position.step < steps:
        run.step()
        if run.position.step % 5 == 0:
            run.validate()
            _evaluate_retention(run)
        reported |= {finding.code: run.position.step for finding in run.new_findings if finding.code not in reported}
        run.new_findings.clear()
    return reported


@lru_cache(maxsize=1)
def earlier_images() -> TrainImages:
    """The training images at the model's size, to measure what is retained."""
    side = preset_config("tiny").image_size
    return prepare(more_shapes(), side, side, load_text_tower(), QUIET).train


def _evaluate_retention(run: Run) -> None:
    """Recall@1 on the training images of the first data."""
    with run.ema_model():
        share, n = recall_at_k(run.model, earlier_images(), 1)
    run.new_findings += run.instrumentation.step(step=run.position.step, retained_recall=share, retained_images=n)


@dataclass(frozen=True)
class TrainingFault:
    """One fault of a training.

    Attributes:
        name: for people.
        code: of the expected finding.
        start: makes a run with the fault, in a folder and with a seed.
        patches: functions of the loop or of the contrastive loss to replace, with the makers of their replacements.
    """

    name: str
    code: str
    start: Callable[[Path, int], Run]
    patches: dict[str, Callable[[], Callable[..., Any]]] = field(default_factory=dict)


def trial(fault: TrainingFault, folder: Path, steps: int = MAX_DETECTION_STEP, seed: int = 0) -> dict[str, int]:
    """The codes reported in a run with the fault, with the step of each."""
    with ExitStack() as stack:
        for name, make in fault.patches.items():
            stack.enter_context(patch.object(loop if hasattr(loop, name) else contrastive, name, make()))
        return monitored(fault.start(folder, seed), steps)


def healthy(folder: Path, number: int) -> dict[str, int]:
    """The codes reported in a run without a fault, which are false alarms; every third run has experts."""
    sizes = {"experts": 4, "experts_per_token": 2} if number % 3 == 2 else {}
    batch, rate = (48, 32, 64)[number % 3], (2e-3, 1e-3, 4e-3)[number % 4 % 3]
    return monitored(start_run(folder, 100 + number, sizes=sizes, batch_size=batch, learning_rate=rate), STEPS)


def attract(images_BE: Tensor, texts_BE: Tensor, *others: object) -> Tensor:
    """A loss that pulls all images together and has no negatives."""
    return 1 - F.cosine_similarity(images_BE, texts_BE.mean(dim=0, keepdim=True)).mean()


class Noise:
    """Unclipped gradients with noise that grows by a quarter in each step."""

    def __init__(self) -> None:
        self.strength, self.random = 1e-3, torch.Generator().manual_seed(0)

    def __call__(self, parameters: Iterable[torch.nn.Parameter], max_norm: float) -> float:
        """In place of the loop's ``clip_gradients``."""
        self.strength *= 1.25
        trained = [p for p in parameters if p.grad is not None]
        for p in trained:
            assert p.grad is not None
            p.grad = p.grad + torch.randn(p.shape, generator=self.random) * self.strength
        return float(torch.nn.utils.clip_grad_norm_(trained, math.inf))


def _shuffled_captions(folder: Path, seed: int) -> Run:
    """The decoder is trained on the captions of other images, shuffled anew in each step."""
    run = start_run(folder, seed)
    original, random = run.losses, torch.Generator().manual_seed(0)
    rows = run.train_data.train.captions
    captions = next(o for o in run.objectives if isinstance(o, Captions))
    correct_ML = captions.ids_ML.clone()

    def losses(self: Run, step: StepContext) -> dict[str, LossTerm]:
        captions.ids_ML[rows] = correct_ML[rows[torch.randperm(len(rows), generator=random)]]
        return original(step)

    run.losses = MethodType(losses, run)  # type: ignore[method-assign]  # the fault
    return run


def _other_data(folder: Path, seed: int, at: int = 25) -> Run:
    """From some step on every image has another caption."""
    run = start_run(folder, seed)
    original, train = run.losses, run.train_data.train
    other_M = torch.full((len(train.texts),), -1).scatter_(
        0, train.captions, train.captions.roll(len(train.captions) // 2)
    )
    later = replace(run.train_data, train=replace(train, caption_N=other_M[train.caption_N]))

    def losses(self: Run, step: StepContext) -> dict[str, LossTerm]:
        return original(replace(step, train_data=later if step.number >= at else step.train_data))

    run.losses = MethodType(losses, run)  # type: ignore[method-assign]  # the fault
    return run


def _repeated_images(folder: Path, seed: int, different: int = 4) -> Run:
    """Every batch consists of copies of four images."""
    run = start_run(folder, seed)
    draw, batch = run.sampler.draw, run.sampler.batch_size
    run.sampler.draw = lambda step: np.resize(draw(step)[:different], batch)  # type: ignore[method-assign]  # the fault
    return run


def _frozen_router(folder: Path, seed: int) -> Run:
    """Every token goes to the same expert, and the router is not trained."""
    run = start_run(folder, seed, sizes={"experts": 4, "experts_per_token": 1})
    for layer in mixtures(run.model).values():
        layer.gate.weight.requires_grad_(False).zero_()
    return run


FAULTS = (
    TrainingFault("learning rate × 100", "CLR-T019", lambda folder, seed: start_run(folder, seed, learning_rate=2e-1)),
    TrainingFault("learning rate ÷ 1000", "CLR-T020", lambda folder, seed: start_run(folder, seed, learning_rate=2e-6)),
    TrainingFault("logit scale fixed at 1", "CLR-T013", lambda folder, seed: start_run(folder, seed, temperature=1.0)),
    TrainingFault("batches of four images", "CLR-T018", _repeated_images),
    TrainingFault("validation images in training", "CLR-T017", lambda folder, seed: start_run(folder, seed, leak=True)),
    TrainingFault("captions of other images", "CLR-T016", _shuffled_captions),
    TrainingFault("router frozen on one expert", "CLR-T011", _frozen_router),
    TrainingFault("a loss that only attracts", "CLR-T010", start_run, {"bank_softmax_loss": lambda: attract}),
    TrainingFault(
        "no clipping, growing noise",
        "CLR-T014",
        lambda folder, seed: start_run(folder, seed, max_grad_norm=1e9),
        {"clip_gradients": Noise},
    ),
    TrainingFault("other data from step 25 on", "CLR-T015", _other_data),
)
