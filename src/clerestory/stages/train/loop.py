"""The training loop, from the last checkpoint to the last step.

Shape suffixes: B images, C channels, S side.
"""

from __future__ import annotations

import hashlib
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn

from clerestory.core.errors import ClerestoryError, ConfigError
from clerestory.core.evidence import Finding
from clerestory.core.progress import QUIET, Progress
from clerestory.models.model import ClerestoryModel
from clerestory.models.processor import ClerestoryProcessor
from clerestory.models.runtime import save_model
from clerestory.stages.train.checkpoint import Position
from clerestory.stages.train.config import ResolvedConfig, TrainConfig
from clerestory.stages.train.distributed import SINGLE_PROCESS, Engine
from clerestory.stages.train.ema import ema_update, ema_warmup
from clerestory.stages.train.loader import AugmentConfig, BatchLoader
from clerestory.stages.train.log import JsonlLog
from clerestory.stages.train.mixture import make_sampler
from clerestory.stages.train.monitor.findings import format_finding
from clerestory.stages.train.monitor.instrumentation import Instrumentation
from clerestory.stages.train.objectives import LossTerm, StepContext, make_objectives, total_loss
from clerestory.stages.train.optimizer import Optimizer, clip_gradients
from clerestory.stages.train.shuffle import Rows
from clerestory.stages.train.train_data import TrainData
from clerestory.stages.train.validate import recall_at_k

MAX_CONSECUTIVE_SKIPS = 25
EARLY, LATE, FINAL = "early", "late", "final"


class Run:
    """The state of a training run, and its step.

    Args:
        settings: the resolved configuration.
        train_data: the data of the run.
        model: freshly initialised, with the rotation of its projection fitted.
        processor: saved beside the weights.
        folder: where checkpoints, log and exported models are written.
        engine: this process alone, or one of several that share each batch.
    """

    def __init__(
        self,
        settings: ResolvedConfig,
        train_data: TrainData,
        model: ClerestoryModel,
        processor: ClerestoryProcessor,
        folder: Path,
        engine: Engine = SINGLE_PROCESS,
    ) -> None:
        config = settings.config
        self.settings, self.train_data, self.folder = settings, train_data, folder
        self.device = device_of(config)
        self.objectives = [o.to(self.device) for o in make_objectives(settings, train_data, model, processor)]
        self.model, self.processor = model.train().to(self.device), processor
        if config.compile:
            model.image_tower.compile()
        self.engine, self._forward = engine, engine.prepare(model, self.objectives, lambda step: self.losses(step))
        self.optimizer = Optimizer(self.parameters(), config.weight_decay, config.muon_ratio)
        self.sampler = make_sampler(train_data, settings.batch_size, config)
        engine.ranks.check_batch_size(self.sampler.batch_size)
        augment = AugmentConfig(model.config.image_size, config.style_strength, config.seed)
        self.loader = BatchLoader(
            self.sampler,
            engine.ranks,
            train_data.train.pixels_NHWC,
            augment,
            settings.steps,
            config.num_workers,
            folder,
        )
        self.ema_state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self.position = Position()
        self.log = JsonlLog(folder / "log.jsonl")
        self.instrumentation = Instrumentation(settings.steps, config.learning_rate)
        self.new_findings: list[Finding] = []
        self._consecutive_skips = 0

    def restore(self, progress: Progress = QUIET) -> None:
        """Load the last intact checkpoint; without one the run starts at step 0."""
        self.position = self.engine.load(self.folder, self.state(), progress.write_line) or self.position
        if self.engine.is_main:
            self.log.truncate(self.position.step)
        self.instrumentation.replay(self.log.path)

    def save(self) -> None:
        """Write a checkpoint."""
        self.engine.save(self.folder, self.position, self.state())

    def parameters(self) -> dict[str, nn.Parameter]:
        """The trained parameters by name: the model's and the objectives'."""
        named = dict(self.model.named_parameters())
        for objective in self.objectives:
            named |= {f"{objective.name}.{name}": p for name, p in objective.named_parameters()}
        return {name: p for name, p in named.items() if p.requires_grad}

    def state(self) -> dict[str, Tensor]:
        """Every tensor that a resumed run needs, by name; changing one in place changes the run."""
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        tensors |= {f"ema.{name}": t for name, t in self.ema_state.items()}
        tensors |= {f"optimizer.{name}": t for name, t in self.optimizer.state().items()}
        for objective in self.objectives:
            tensors |= {f"{objective.name}.{name}": t for name, t in objective.state_dict().items()}
        return tensors

    def fit(self, progress: Progress) -> None:
        """Train to the last step; an interrupt writes a checkpoint after the running step and stops.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed; the run can be resumed.
            ClerestoryError: too many consecutive steps were skipped; the run can be resumed.
        """
        config, steps = self.settings.config, self.settings.steps
        with (
            progress.task("Training", steps) as task,
            _interrupts(self.engine) as interrupted,
            closing(self.loader),
        ):
            task.advance(self.position.step)
            while self.position.step < steps:
                loss = self.step()
                done, stop = self.position.step, self.engine.ranks.any(interrupted.is_set())
                task.advance(1, f"loss {loss:.2f}")
                if done == self.settings.early_step:
                    self.export(EARLY)
                if done == self.settings.late_step:
                    self.export(LATE)
                if done == steps or (config.validate_every and done % config.validate_every == 0):
                    self.validate()
                while self.new_findings:
                    progress.write_line(format_finding(self.new_findings.pop(0)))
                if done == steps or done % config.checkpoint_every == 0 or stop:
                    self.save()
                if stop:
                    raise KeyboardInterrupt
            self.export(FINAL)

    def step(self) -> float:
        """One training step; returns the loss. A step whose loss or gradient is not finite is skipped and counted."""
        start = time.perf_counter()
        number = self.position.step
        buffers = {name: t.clone() for name, t in self.model.named_buffers() if t.is_floating_point()}
        step = self.context(number)
        terms = self.forward_backward(step)
        loss = torch.stack([term.weight * term.value.detach() for term in terms.values()]).sum()
        grad_norm = clip_gradients(self.parameters().values(), self.settings.config.max_grad_norm)
        losses = {"loss": loss.item(), **{name: term.value.item() for name, term in terms.items()}}
        losses = self.engine.ranks.means(losses)
        applied = self.apply_or_skip(step, math.isfinite(losses["loss"]) and math.isfinite(grad_norm), buffers)
        if number == 0:
            self.instrumentation.measure_leakage(self.train_data.train, self.train_data.val)
        seconds = self.position.seconds + time.perf_counter() - start
        self.position = Position(number + 1, self.position.skipped + (not applied), seconds)
        self.record(step, losses, grad_norm)
        if self._consecutive_skips >= MAX_CONSECUTIVE_SKIPS:
            raise ClerestoryError(
                f"the loss was infinite or NaN in {self._consecutive_skips} consecutive steps",
                "lower learning_rate, or look for corrupt images with: clerestory data show",
            )
        return losses["loss"]

    def context(self, number: int) -> StepContext:
        """The batch of step ``number`` and everything else that the objectives need."""
        epoch, rows, pixels_BCSS = self.loader.batch(number)
        return StepContext(
            number=number,
            epoch=epoch,
            rows=rows,
            pixels_BCSS=pixels_BCSS.to(self.device, non_blocking=True),
            model=self.model,
            train_data=self.train_data,
            settings=self.settings,
            instrumentation=self.instrumentation,
            ranks=self.engine.ranks,
        )

    def forward_backward(self, step: StepContext) -> dict[str, LossTerm]:
        """Compute the gradient of the loss and return the terms of the loss."""
        micro_batches = self.settings.config.grad_accum_steps
        if micro_batches > 1:
            per_objective = [o.backward(step, micro_batches, self._precision) for o in self.objectives]
            return {name: term for terms in per_objective for name, term in terms.items()}
        with self._precision():
            terms: dict[str, LossTerm] = self._forward(step)
        total_loss(terms).backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        return terms

    def apply_or_skip(self, step: StepContext, finite: bool, buffers: Mapping[str, Tensor]) -> bool:
        """Update the weights, or undo the step.

        Args:
            step: whose gradients are in the parameters.
            finite: whether loss and gradient are finite, on all ranks alike.
            buffers: the model's buffers before the step; a skipped step restores them.

        Returns:
            Whether the weights were updated.
        """
        if not finite:
            self.optimizer.zero_grad()
            with torch.no_grad():
                for name, t in self.model.named_buffers():
                    if name in buffers:
                        t.copy_(buffers[name])
            self._consecutive_skips += 1
            return False
        measured = self.instrumentation.is_full_check(step.number)
        if measured:
            self.instrumentation.before_update(self.model)
        self.optimizer.step(self.settings.learning_rate(step.number))
        decay = ema_warmup(self.settings.config.ema_decay, step.number)
        ema_update(self.ema_state.values(), self.model.state_dict().values(), decay)
        for objective in self.objectives:
            objective.after_step(step)
        self._consecutive_skips = 0
        if measured:
            self.instrumentation.after_update(self.model)
        return True

    def record(self, step: StepContext, losses: Mapping[str, float], grad_norm: float) -> None:
        """Write the step to the log and pass it to the monitor."""
        values = {
            "step": step.number + 1,
            **losses,
            "lr": self.settings.learning_rate(step.number),
            "grad_norm": grad_norm,
            "skipped": self.position.skipped,
            **self.instrumentation.pop_metrics(),
        }
        if self.engine.is_main:
            self.log.add(**values, samples=rows_digest(step.rows), seconds=round(self.position.seconds, 3))
        self.new_findings += self.instrumentation.step(**values)

    def _precision(self) -> AbstractContextManager[object]:
        enabled = self.settings.config.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def losses(self, step: StepContext) -> dict[str, LossTerm]:
        """The terms of all objectives."""
        return {name: term for objective in self.objectives for name, term in objective.losses(step).items()}

    def export(self, name: str) -> None:
        """Save the averaged weights as a model folder."""
        with self.ema_model() as model:
            if self.engine.is_main:
                for objective in self.objectives:
                    objective.on_export(model)
                save_model(model, self.processor, self.folder / name)

    def validate(self) -> None:
        """Log image→caption recall@10 of the averaged weights on the validation split."""
        if self.train_data.val is None:
            return
        with self.ema_model() as model:
            if self.engine.is_main:
                recall, n = recall_at_k(model, self.train_data.val, 10)
                values = {"step": self.position.step, "val_recall@10": recall, "n": n}
                self.log.add(**values)
                self.new_findings += self.instrumentation.step(**values)

    def ema_model(self) -> AbstractContextManager[ClerestoryModel]:
        """The model in evaluation mode with the averaged weights; of several processes only the main one may use it."""
        return self.engine.ema_model(self.model, self.ema_state)


def device_of(config: TrainConfig) -> torch.device:
    """The device of a run.

    Raises:
        ConfigError: the settings require a GPU and there is none.
    """
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise ConfigError("device is cuda, and torch finds no GPU on this machine", "set device to auto or cpu")
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


def rows_digest(rows: Rows) -> str:
    """The samples of a step, in order, as 16 characters for the log."""
    return hashlib.blake2b(rows.astype("<i8").tobytes(), digest_size=8).hexdigest()


@contextmanager
def _interrupts(engine: Engine) -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into a flag inside the block, so that no step is left half done."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def handle(number: int, frame: FrameType | None) -> None:
        # A second Ctrl-C stops immediately; but torchrun repeats the signal that the terminal sent to every process.
        if flag.is_set() and number == signal.SIGINT and engine.ranks.world_size == 1:
            raise KeyboardInterrupt
        flag.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
