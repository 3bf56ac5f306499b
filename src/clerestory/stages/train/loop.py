"""The steps of one training run, from its last checkpoint to its end.

Shape suffixes: B and N pictures, C channels, H and W pixels, S side.
"""

from __future__ import annotations

import hashlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn

from clerestory.core.errors import ClerestoryError, ConfigError
from clerestory.core.evidence import Finding
from clerestory.core.progress import Progress
from clerestory.models.model import ClerestoryModel
from clerestory.models.processor import ClerestoryProcessor
from clerestory.models.runtime import save_model
from clerestory.stages.train.checkpoint import Position
from clerestory.stages.train.config import Settings, TrainConfig
from clerestory.stages.train.distributed import ALONE, Engine
from clerestory.stages.train.ema import early_decay, follow
from clerestory.stages.train.loader import Feed, Recipe
from clerestory.stages.train.log import Log
from clerestory.stages.train.mixture import sampler_of
from clerestory.stages.train.monitor.instrumentation import Instrumentation, format_finding
from clerestory.stages.train.objectives import Part, StepContext, build
from clerestory.stages.train.objectives.objective import total
from clerestory.stages.train.optimizer import Optimizer, gradient_norm
from clerestory.stages.train.shuffle import Rows
from clerestory.stages.train.train_data import Material
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
        engine: this process alone, or one of several that share each batch.
    """

    def __init__(
        self,
        settings: Settings,
        material: Material,
        model: ClerestoryModel,
        processor: ClerestoryProcessor,
        folder: Path,
        engine: Engine = ALONE,
    ) -> None:
        config = settings.config
        self.settings, self.material, self.folder = settings, material, folder
        self.device = device_of(config)
        self.objectives = [o.to(self.device) for o in build(settings, material, model, processor)]
        self.model, self.processor = model.train().to(self.device), processor
        if config.compile:
            model.image_tower.compile()
        self.engine, self._compute = engine, engine.prepare(model, self.objectives, lambda step: self.losses(step))
        self.optimizer = Optimizer(self.parameters(), config.weight_decay, config.muon_ratio)
        self.sampler = sampler_of(material, settings.batch, config)
        engine.ranks.check(self.sampler.batch)
        recipe = Recipe(model.config.image_size, config.style, config.seed)
        self.feed = Feed(
            self.sampler, engine.ranks, material.train.pixels_NHWC, recipe, settings.steps, config.workers, folder
        )
        self.average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self.position = Position()
        self.log = Log(folder / "log.jsonl")
        self.instrumentation = Instrumentation(settings.steps, config.learning_rate)
        self.found: list[Finding] = []
        self._in_a_row = 0

    def restore(self) -> None:
        """Go back to the last checkpoint, or to step 0 when there is none."""
        self.position = self.engine.load(self.folder, self.state()) or self.position
        if self.engine.first:
            self.log.cut(self.position.step)
        self.instrumentation.replay(self.log.path)

    def save(self) -> None:
        """Write a checkpoint."""
        self.engine.save(self.folder, self.position, self.state())

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
            ClerestoryError: the loss stayed infinite or NaN; the run can be resumed.
        """
        config, steps = self.settings.config, self.settings.steps
        with (
            progress.task("Training", steps) as task,
            _interrupts(self.engine) as interrupted,
            closing(self.feed),
        ):
            task.advance(self.position.step)
            while self.position.step < steps:
                loss = self.step()
                done, stop = self.position.step, self.engine.ranks.any(interrupted.is_set())
                task.advance(1, f"loss {loss:.2f}")
                if done == self.settings.early_step:
                    self.keep(EARLY)
                if done == self.settings.late_step:
                    self.keep(LATE)
                if done == steps or (config.validate_every and done % config.validate_every == 0):
                    self.validate()
                while self.found:
                    progress.say(format_finding(self.found.pop(0)))
                if done == steps or done % config.checkpoint_every == 0 or stop:
                    self.save()
                if stop:
                    raise KeyboardInterrupt
            self.keep(FINAL)

    def step(self) -> float:
        """One optimizer step; returns the loss. What is not finite is counted and changes nothing."""
        begun, number, config = time.perf_counter(), self.position.step, self.settings.config
        learning_rate = self.settings.learning_rate(number)
        buffers = {name: t.clone() for name, t in self.model.named_buffers() if t.is_floating_point()}
        step = self.context(number)
        parts = self._learn(step)
        loss = torch.stack([part.weight * part.value.detach() for part in parts.values()]).sum()
        norm = gradient_norm(self.parameters().values(), config.clip)
        told = {"loss": loss.item(), **{name: part.value.item() for name, part in parts.items()}}
        told = self.engine.ranks.means(told)
        fine = math.isfinite(told["loss"]) and math.isfinite(norm)
        watching = fine and self.instrumentation.is_full_check(number)
        if watching:
            self.instrumentation.before_update(self.model)
        if fine:
            self.optimizer.step(learning_rate)
            decay = early_decay(config.ema, number)
            follow(self.average.values(), self.model.state_dict().values(), decay)
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
            self.instrumentation.after_update(self.model)
        if number == 0:
            self.instrumentation.measure_leakage(self.material.train, self.material.val)
        seconds = self.position.seconds + time.perf_counter() - begun
        self.position = Position(number + 1, self.position.skipped + (not fine), seconds)
        values = {
            "step": number + 1,
            **told,
            "lr": learning_rate,
            "grad_norm": norm,
            "skipped": self.position.skipped,
            **self.instrumentation.pop_metrics(),
        }
        if self.engine.first:
            self.log.add(**values, samples=fingerprint(step.rows), seconds=round(seconds, 3))
        self.found += self.instrumentation.step(**values)
        if self._in_a_row >= MOST_SKIPPED_IN_A_ROW:
            raise ClerestoryError(
                f"the loss was infinite or not a number in {self._in_a_row} steps in a row",
                "lower learning_rate, or look for damaged pictures with: clerestory data show",
            )
        return told["loss"]

    def context(self, number: int) -> StepContext:
        """The pictures of step ``number`` and all that goes with them."""
        epoch, rows, pixels_BCSS = self.feed.batch(number)
        pixels_BCSS = pixels_BCSS.to(self.device, non_blocking=True)
        ranks = self.engine.ranks
        model, material, settings = self.model, self.material, self.settings
        return StepContext(number, epoch, rows, pixels_BCSS, model, material, settings, self.instrumentation, ranks)

    def _learn(self, step: StepContext) -> dict[str, Part]:
        """Give every parameter its gradient of the sum of all parts, and return these."""
        pieces = self.settings.config.accumulate
        if pieces > 1:
            learnt = [objective.learn(step, pieces, self._precision) for objective in self.objectives]
            return {name: part for parts in learnt for name, part in parts.items()}
        with self._precision():
            parts: dict[str, Part] = self._compute(step)
        total(parts).backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
        return parts

    def _precision(self) -> AbstractContextManager[object]:
        enabled = self.settings.config.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def losses(self, step: StepContext) -> dict[str, Part]:
        """The parts of all objectives."""
        return {name: part for objective in self.objectives for name, part in objective.losses(step).items()}

    def keep(self, name: str) -> None:
        """Save the averaged weights as a model folder."""
        with self.averaged() as model:
            if self.engine.first:
                for objective in self.objectives:
                    objective.before_keep(model)
                save_model(model, self.processor, self.folder / name)

    def validate(self) -> None:
        """Log image→caption recall@10 of the averaged weights on the validation split."""
        if self.material.val is None:
            return
        with self.averaged() as model:
            if self.engine.first:
                value, n = recall_at(model, self.material.val, 10)
                values = {"step": self.position.step, "val_recall@10": value, "n": n}
                self.log.add(**values)
                self.found += self.instrumentation.step(**values)

    def averaged(self) -> AbstractContextManager[ClerestoryModel]:
        """A model in evaluation mode with the averaged weights; of several processes only the first may use it."""
        return self.engine.averaged(self.model, self.average)


def device_of(config: TrainConfig) -> torch.device:
    """Where a run computes.

    Raises:
        ConfigError: a GPU was asked for and there is none.
    """
    there = torch.cuda.is_available()
    if config.device == "cuda" and not there:
        raise ConfigError("device is cuda, and torch sees no GPU on this machine", "set device to auto or cpu")
    return torch.device("cuda" if there and config.device != "cpu" else "cpu")


def fingerprint(rows: Rows) -> str:
    """Which samples a step learnt from, in order, in 16 characters of the log."""
    return hashlib.blake2b(rows.astype("<i8").tobytes(), digest_size=8).hexdigest()


@contextmanager
def _interrupts(engine: Engine) -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into a flag for the length of the block, so that no step is left half done."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def note(number: int, frame: FrameType | None) -> None:
        # The second Ctrl-C means now; but torchrun passes on what the terminal has told every process already.
        if flag.is_set() and number == signal.SIGINT and engine.ranks.world == 1:
            raise KeyboardInterrupt
        flag.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
