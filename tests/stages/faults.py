"""Short real trainings with a fault planted in each, for the tests and the bench of the monitor.

Shape suffixes: B pictures, E shared space, M and L texts and their words.
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
from clerestory.stages.train.objectives import Captions, Part, StepContext, contrastive
from clerestory.stages.train.train_data import Material, Pictures, caption_tokenizer, prepare
from clerestory.stages.train.validate import recall_at

STEPS = 60
WITHIN = 50


@lru_cache(maxsize=4)
def material(leak: bool = False) -> Material:
    """The same made ready for training."""
    side = preset_config("tiny").image_size
    return prepare(more_shapes(leak), side * 4 // 3, side, load_text_tower(), QUIET)


def begin(folder: Path, seed: int = 0, leak: bool = False, sizes: dict[str, Any] | None = None, **changes: Any) -> Run:
    """A training of a tiny model at step 0; ``sizes`` change the model, the other names the settings."""
    settings: dict[str, Any] = {
        "preset": "tiny",
        "steps": STEPS,
        "batch": 48,
        "threads": 1,
        "seed": seed,
        "caption_share": 1.0,
    }
    found = material(leak)
    tokenizer = caption_tokenizer(found)
    architecture = preset_config("tiny", vocab_size=len(tokenizer), **(sizes or {}))
    torch.manual_seed(seed)
    model = ClerestoryModel(architecture)
    model.projection.lock(found.rotation_EE)
    side = architecture.image_size
    processor = ClerestoryProcessor(ClerestoryImageProcessor(size={"height": side, "width": side}), tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    return Run(TrainConfig(**(settings | changes)).resolved(), found, model, processor, folder)


def watched(run: Run, steps: int = WITHIN) -> dict[str, int]:
    """Train for some steps; the codes that were named, and the step each was named at."""
    named: dict[str, int] = {}
    while run.position.step < steps:
        run.step()
        if run.position.step % 5 == 0:
            run.validate()
            _remember(run)
        named |= {finding.code: run.position.step for finding in run.found if finding.code not in named}
        run.found.clear()
    return named


@lru_cache(maxsize=1)
def earlier() -> Pictures:
    """The training pictures at the model's size, to ask what is still known of them."""
    side = preset_config("tiny").image_size
    return prepare(more_shapes(), side, side, load_text_tower(), QUIET).train


def _remember(run: Run) -> None:
    """Ask for the very caption of every picture of the first data: what the model knew before."""
    with run.averaged():
        share, n = recall_at(run.model, earlier(), 1)
    run.found += run.instrumentation.step(step=run.position.step, retained_recall=share, retained_images=n)


@dataclass(frozen=True)
class Fault:
    """One way to ruin a training.

    Attributes:
        name: in words.
        code: what it has to be called.
        begin: a run with the fault, in a folder and with a seed.
        patches: functions of the loop or of the contrastive loss that are replaced, by what makes the other ones.
    """

    name: str
    code: str
    begin: Callable[[Path, int], Run]
    patches: dict[str, Callable[[], Callable[..., Any]]] = field(default_factory=dict)


def trial(fault: Fault, folder: Path, steps: int = WITHIN, seed: int = 0) -> dict[str, int]:
    """The codes named in a run with the fault, by the step."""
    with ExitStack() as stack:
        for name, other in fault.patches.items():
            stack.enter_context(patch.object(loop if hasattr(loop, name) else contrastive, name, other()))
        return watched(fault.begin(folder, seed), steps)


def healthy(folder: Path, number: int) -> dict[str, int]:
    """The codes named in a run without a fault (false alarms, all of them); every third one has experts."""
    sizes = {"experts": 4, "experts_per_token": 2} if number % 3 == 2 else {}
    batch, rate = (48, 32, 64)[number % 3], (2e-3, 1e-3, 4e-3)[number % 4 % 3]
    return watched(begin(folder, 100 + number, sizes=sizes, batch=batch, learning_rate=rate), STEPS)


def attract(images_BE: Tensor, texts_BE: Tensor, *others: object) -> Tensor:
    """A loss that only pulls pictures towards one place and pushes nothing apart."""
    return 1 - F.cosine_similarity(images_BE, texts_BE.mean(dim=0, keepdim=True)).mean()


class Noise:
    """Gradients that are never clipped and get noise that grows by a quarter in each step."""

    def __init__(self) -> None:
        self.strength, self.random = 1e-3, torch.Generator().manual_seed(0)

    def __call__(self, parameters: Iterable[torch.nn.Parameter], clip: float) -> float:
        """In place of the loop's ``gradient_norm``."""
        self.strength *= 1.25
        found = [p for p in parameters if p.grad is not None]
        for p in found:
            assert p.grad is not None
            p.grad = p.grad + torch.randn(p.shape, generator=self.random) * self.strength
        return float(torch.nn.utils.clip_grad_norm_(found, math.inf))


def _shuffled_captions(folder: Path, seed: int) -> Run:
    """The decoder gets the captions of other pictures, others in each step."""
    run = begin(folder, seed)
    whole, random = run.losses, torch.Generator().manual_seed(0)
    rows = run.material.train.captions
    learnt = next(o for o in run.objectives if isinstance(o, Captions))
    right = learnt.ids_ML.clone()

    def losses(self: Run, step: StepContext) -> dict[str, Part]:
        learnt.ids_ML[rows] = right[rows[torch.randperm(len(rows), generator=random)]]
        return whole(step)

    run.losses = MethodType(losses, run)  # type: ignore[method-assign]  # the fault
    return run


def _other_data(folder: Path, seed: int, at: int = 25) -> Run:
    """From some step on every picture has another name."""
    run = begin(folder, seed)
    whole, train = run.losses, run.material.train
    place = torch.full((len(train.words),), -1).scatter_(
        0, train.captions, train.captions.roll(len(train.captions) // 2)
    )
    later = replace(run.material, train=replace(train, caption_N=place[train.caption_N]))

    def losses(self: Run, step: StepContext) -> dict[str, Part]:
        return whole(replace(step, material=later if step.number >= at else step.material))

    run.losses = MethodType(losses, run)  # type: ignore[method-assign]  # the fault
    return run


def _same_pictures(folder: Path, seed: int, different: int = 4) -> Run:
    """Every batch is made of four pictures."""
    run = begin(folder, seed)
    draw, batch = run.sampler.draw, run.sampler.batch
    run.sampler.draw = lambda step: np.resize(draw(step)[:different], batch)  # type: ignore[method-assign]  # the fault
    return run


def _stuck_router(folder: Path, seed: int) -> Run:
    """Every token visits the same expert, and the router cannot learn otherwise."""
    run = begin(folder, seed, sizes={"experts": 4, "experts_per_token": 1})
    for layer in mixtures(run.model).values():
        layer.gate.weight.requires_grad_(False).zero_()
    return run


FAULTS = (
    Fault("learning rate × 100", "CLR-T019", lambda folder, seed: begin(folder, seed, learning_rate=2e-1)),
    Fault("learning rate ÷ 1000", "CLR-T020", lambda folder, seed: begin(folder, seed, learning_rate=2e-6)),
    Fault("logit scale held at 1", "CLR-T013", lambda folder, seed: begin(folder, seed, temperature=1.0)),
    Fault("batches of four pictures", "CLR-T018", _same_pictures),
    Fault("validation pictures in training", "CLR-T017", lambda folder, seed: begin(folder, seed, leak=True)),
    Fault("captions of other pictures", "CLR-T016", _shuffled_captions),
    Fault("router frozen on one expert", "CLR-T011", _stuck_router),
    Fault("a loss that only attracts", "CLR-T010", begin, {"contrastive": lambda: attract}),
    Fault(
        "no clipping, growing noise",
        "CLR-T014",
        lambda folder, seed: begin(folder, seed, clip=1e9),
        {"gradient_norm": Noise},
    ),
    Fault("other data from step 25 on", "CLR-T015", _other_data),
)
