"""The steps of one training run, from its last checkpoint to its end.

Shape suffixes: B and N pictures, C channels, H and W pixels, S side.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch import Tensor, nn

from clerestory.core.errors import ClerestoryError
from clerestory.core.measure import Finding
from clerestory.core.progress import Progress
from clerestory.models.model import ClerestoryModel
from clerestory.models.processor import ClerestoryProcessor
from clerestory.models.runtime import save_model
from clerestory.stages.train import checkpoint
from clerestory.stages.train.augment import CHANCES, augment
from clerestory.stages.train.blending import sampler_of
from clerestory.stages.train.checkpoint import Position
from clerestory.stages.train.config import Settings
from clerestory.stages.train.log import Log
from clerestory.stages.train.material import Material
from clerestory.stages.train.monitor.watch import Watch, say
from clerestory.stages.train.objectives import Part, StepContext, build
from clerestory.stages.train.optimizer import Optimizer, gradient_norm
from clerestory.stages.train.order import Keyed
from clerestory.stages.train.validate import recall_at

MOST_SKIPPED_IN_A_ROW = 25
EARLY, LATE, FINAL = "early", "late", "final"


class Run:
    """Everything that changes while training, and the step that changes it.

    Args:
        settings: the configuration with all numbers filled in.
        material: what is learnt from.
        model: freshly initialised; the rotation of its projection is fitted.
        processor: saved beside the weights.
        folder: where checkpoints, log and finished models go.
    """

    def __init__(
        self,
        settings: Settings,
        material: Material,
        model: ClerestoryModel,
        processor: ClerestoryProcessor,
        folder: Path,
    ) -> None:
        config = settings.config
        self.settings, self.material, self.folder = settings, material, folder
        self.model, self.processor = model.train(), processor
        self.objectives = build(settings, material, model, processor)
        self.optimizer = Optimizer(self.parameters(), config.weight_decay, config.muon_ratio)
        self.sampler = sampler_of(material, settings.batch, config)
        self.average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self.position = Position()
        self.log = Log(folder / "log.jsonl")
        self.watch = Watch(settings.steps, config.learning_rate)
        self.found: list[Finding] = []
        self._in_a_row = 0

    def restore(self) -> None:
        """Go back to the last checkpoint, or to step 0 when there is none."""
        found = checkpoint.read(self.folder)
        if found is not None:
            self.position, tensors = found
            with torch.no_grad():
                for name, mine in self.state().items():
                    mine.copy_(tensors[name])
        self.log.cut(self.position.step)
        self.watch.replay(self.log.path)

    def save(self) -> None:
        """Write a checkpoint."""
        checkpoint.write(self.folder, self.position, self.state())

    def parameters(self) -> dict[str, nn.Parameter]:
        """All that is trained, by name: the model's, and what the objectives have of their own."""
        named = dict(self.model.named_parameters())
        for objective in self.objectives:
            named |= {f"{objective.name}.{name}": p for name, p in objective.named_parameters()}
        return {name: p for name, p in named.items() if p.requires_grad}

    def state(self) -> dict[str, Tensor]:
        """Every tensor that a resumed run needs, by name; changing one in place changes the run."""
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        tensors |= {f"average.{name}": t for name, t in self.average.items()}
        tensors |= {f"optimizer.{name}": t for name, t in self.optimizer.state().items()}
        for objective in self.objectives:
            tensors |= {f"{objective.name}.{name}": t for name, t in objective.state_dict().items()}
        return tensors

    def finish(self, progress: Progress) -> None:
        """Train to the last step; an interrupt stops after the running step with a checkpoint.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed; the run can be resumed.
            ClerestoryError: the loss stayed infinite or NaN.
        """
        config, steps = self.settings.config, self.settings.steps
        with progress.task("Training", steps) as task, _interrupts() as interrupted:
            task.advance(self.position.step)
            while self.position.step < steps:
                loss = self.step()
                done = self.position.step
                task.advance(1, f"loss {loss:.2f}")
                if done == self.settings.early_step:
                    self.keep(EARLY)
                if done == self.settings.late_step:
                    self.keep(LATE)
                if done == steps or (config.validate_every and done % config.validate_every == 0):
                    self.validate()
                while self.found:
                    progress.say(say(self.found.pop(0)))
                if done == steps or done % config.checkpoint_every == 0 or interrupted.is_set():
                    self.save()
                if interrupted.is_set():
                    raise KeyboardInterrupt
            self.keep(FINAL)

    def step(self) -> float:
        """One optimizer step; returns the loss. What is not finite is counted and changes nothing."""
        begun, number, config = time.perf_counter(), self.position.step, self.settings.config
        learning_rate = self.settings.learning_rate(number)
        buffers = {name: t.clone() for name, t in self.model.named_buffers() if t.is_floating_point()}
        parts = self.losses(self.context(number))
        loss = torch.stack([part.weight * part.value for part in parts.values()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
        norm = gradient_norm(self.parameters().values(), config.clip)
        fine = math.isfinite(loss.item()) and math.isfinite(norm)
        watching = fine and self.watch.thorough(number)
        if watching:
            self.watch.before(self.model)
        if fine:
            self.optimizer.step(learning_rate)
            self._average(number)
            for objective in self.objectives:
                objective.after_step(self)
            self._in_a_row = 0
        else:
            self.optimizer.zero()
            with torch.no_grad():
                for name, t in self.model.named_buffers():
                    if name in buffers:
                        t.copy_(buffers[name])
            self._in_a_row += 1
        if watching:
            self.watch.after(self.model)
        if number == 0:
            self.watch.overlap(self.material.train, self.material.val)
        seconds = self.position.seconds + time.perf_counter() - begun
        self.position = Position(number + 1, self.position.skipped + (not fine), seconds)
        values = {
            "step": number + 1,
            "loss": loss.item(),
            **{name: part.value.item() for name, part in parts.items()},
            "lr": learning_rate,
            "gradient": norm,
            "skipped": self.position.skipped,
            **self.watch.take(),
        }
        self.log.add(**values, seconds=round(seconds, 3))
        self.found += self.watch.step(**values)
        if self._in_a_row >= MOST_SKIPPED_IN_A_ROW:
            raise ClerestoryError(
                f"the loss was infinite or not a number in {self._in_a_row} steps in a row",
                "lower learning_rate, or look for damaged pictures with: clerestory data show",
            )
        return loss.item()

    def context(self, number: int) -> StepContext:
        """The pictures of step ``number`` and all that goes with them."""
        config = self.settings.config
        rows, epoch = self.sampler.draw(number), self.sampler.epoch(number)
        uniform_BK = Keyed(config.seed).uniforms(np.full(len(rows), epoch), rows, CHANCES)
        pixels_NHWC, side = self.material.train.pixels_NHWC, self.model.config.image_size
        pixels_BCSS = augment(pixels_NHWC[rows], side, config.style, uniform_BK)
        return StepContext(number, epoch, rows, pixels_BCSS, self.model, self.material, self.settings, self.watch)

    def losses(self, step: StepContext) -> dict[str, Part]:
        """The parts of all objectives."""
        return {name: part for objective in self.objectives for name, part in objective.losses(step).items()}

    def keep(self, name: str) -> None:
        """Save the averaged weights as a model folder."""
        with self.averaged():
            save_model(self.model, self.processor, self.folder / name)

    def validate(self) -> None:
        """Log image→caption recall@10 of the averaged weights on the validation split."""
        if self.material.val is None:
            return
        with self.averaged():
            value, n = recall_at(self.model, self.material.val, 10)
        values = {"step": self.position.step, "val_recall@10": value, "n": n}
        self.log.add(**values)
        self.found += self.watch.step(**values)

    def _average(self, number: int) -> None:
        """Follow the weights; quickly at first, so that the random start is soon forgotten."""
        decay = min(self.settings.config.ema, (1 + number) / (10 + number))
        with torch.no_grad():
            for name, tensor in self.model.state_dict().items():
                if tensor.is_floating_point():
                    self.average[name].lerp_(tensor, 1 - decay)
                else:
                    self.average[name].copy_(tensor)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model in evaluation mode with the averaged weights; its own come back afterwards."""
        own = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        self.model.eval()
        try:
            yield
        finally:
            self.model.load_state_dict(own)
            self.model.train()


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Turn Ctrl-C into a flag for the length of the block, so that no step is left half done."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def note(number: int, frame: FrameType | None) -> None:
        if flag.is_set():  # the second Ctrl-C means now
            raise KeyboardInterrupt
        flag.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)
