"""The optimizer steps of a fine-tuning, from its last checkpoint to its end.

A step is a function of its number and the weights (``shuffle`` determines its images), so a killed run resumes from its
last validation and gets bit for bit the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clerestory.core.errors import ClerestoryError
from clerestory.core.progress import QUIET, Progress
from clerestory.stages.train import checkpoint
from clerestory.stages.train.checkpoint import Position
from clerestory.stages.train.log import JsonlLog
from clerestory.stages.train.monitor.findings import format_finding
from clerestory.stages.train.shuffle import ShuffledOrder
from clerestory.stages.train.tune.config import TuneConfig
from clerestory.stages.train.tune.forgetting import ForgettingMonitor, RetentionCheck
from clerestory.stages.train.tune.trainable import Floats, TrainableModel
from clerestory.stages.train.tune.weights import Weights, copy_weights

MAX_CONSECUTIVE_SKIPS = 10


class TuningLoop:
    """A running fine-tuning.

    Args:
        model: the model.
        weights: the trained weights by name; changed in place.
        num_samples: training images.
        config: resolved settings.
        folder: for the checkpoint and the log.
        monitor: checks every validation.
        evaluate_retention: the scores on the retention set with the current weights.
        where: the name of the retention set.

    Attributes:
        step, skipped: completed steps, and how many of them were not finite and had no effect.
        stopped: whether the run ended early because of forgetting.
        retention: the scores on the retention set by step.
    """

    def __init__(
        self,
        model: TrainableModel,
        weights: Weights,
        num_samples: int,
        config: TuneConfig,
        folder: Path,
        monitor: ForgettingMonitor,
        evaluate_retention: Callable[[], Floats],
        where: str,
    ) -> None:
        self.model, self.weights, self.config, self.folder = model, weights, config, folder
        self.monitor, self.evaluate_retention, self.where = monitor, evaluate_retention, where
        self.batch_size = min(config.batch_size or 1, num_samples)
        self.order = ShuffledOrder(num_samples, config.seed)
        self.log = JsonlLog(folder / "log.jsonl")
        self.step = self.skipped = 0
        self.stopped = False
        matrices = [w for w in weights.values() if w.ndim >= 2]
        others = [w for w in weights.values() if w.ndim < 2]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=1.0, betas=(0.9, 0.98))
        self.retention: dict[int, Floats] = {}
        self._last_retained = copy_weights(weights) if config.on_forgetting == "stop" else {}

    def fit(self, progress: Progress) -> None:
        """Run the remaining steps.

        Raises:
            ClerestoryError: the loss stayed infinite or NaN.
        """
        skips = 0
        with progress.task("Fine-tuning", self.config.steps) as task:
            task.advance(self.step)
            while self.step < self.config.steps and not self.stopped:
                loss = self._step()
                skips = 0 if loss is not None else skips + 1
                if skips > MAX_CONSECUTIVE_SKIPS:
                    raise ClerestoryError(
                        f"the loss was not finite in {skips} consecutive steps, up to step {self.step}",
                        f"lower learning_rate, which is {self.config.learning_rate:g}",
                    )
                task.advance(1, "" if loss is None else f"loss {loss:.3f}")
                if self.step in self.config.validation_steps():
                    self._validate(loss, progress)

    def restore(self, progress: Progress = QUIET) -> None:
        """Load the last intact checkpoint, if there is one."""
        saved = checkpoint.read(self.folder, progress.write_line)
        if saved is None:
            self.log.truncate(0)
            return
        position, tensors = saved
        self.step, self.skipped = position.step, position.skipped
        self._load(tensors)
        for step in sorted(int(name.split("/")[1]) for name in tensors if name.startswith("retention/")):
            self._check(step, tensors[f"retention/{step}"].numpy())
        self.log.truncate(self.step)
        self.stopped = self._must_stop()

    def _step(self) -> float | None:
        """One step; returns its loss, or None if the loss or gradient was not finite and the step had no effect."""
        first = self.step * self.batch_size
        rows = self.order.take(first, self.batch_size)
        epochs = np.arange(first, first + self.batch_size) // self.order.size
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model.backward(rows, epochs)
        norm = float(torch.nn.utils.clip_grad_norm_(list(self.weights.values()), self.config.max_grad_norm))
        learning_rate = self.config.learning_rate_at(self.step)
        self.step += 1
        self.log.add(step=self.step, loss=loss, grad_norm=norm, lr=learning_rate)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.skipped += 1
            return None
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.model.after_step()
        return loss

    def _validate(self, loss: float | None, progress: Progress) -> None:
        earlier = [check.state for check in self.monitor.checks]
        check = self._check(self.step, self.evaluate_retention())
        loss_text = "" if loss is None else f"loss {loss:.3f}, "
        progress.write_line(
            f"step {self.step} of {self.config.steps}: {loss_text}retention {check.score:.3f}, {check.describe()}"
        )
        for state, finding in (
            ("declining", self.monitor.declining_finding),
            ("below_minimum", self.monitor.below_minimum_finding),
        ):
            if check.state == state and state not in earlier:
                progress.write_line(format_finding(finding(check, self.where)))
        if check.state != "below_minimum" and self._last_retained:
            self._last_retained = copy_weights(self.weights)
        self.stopped = self._must_stop()
        if self.stopped:
            with torch.no_grad():
                for name, tensor in self._last_retained.items():
                    self.weights[name].copy_(tensor)
            progress.write_line("stopped; restored the weights of the last validation with enough retention")
        self._save()

    def _check(self, step: int, scores: Floats) -> RetentionCheck:
        self.retention[step] = scores
        return self.monitor.check(step, scores)

    def _must_stop(self) -> bool:
        return self.config.on_forgetting == "stop" and any(c.state == "below_minimum" for c in self.monitor.checks)

    def _save(self) -> None:
        tensors: dict[str, Tensor] = {f"weight/{name}": tensor for name, tensor in self.weights.items()}
        for name, tensor in self.weights.items():
            tensors |= {f"optimizer/{key}/{name}": value for key, value in self.optimizer.state[tensor].items()}
        tensors |= {f"last_retained/{name}": tensor for name, tensor in self._last_retained.items()}
        tensors |= {f"retention/{step}": torch.from_numpy(np.array(s)) for step, s in self.retention.items()}
        checkpoint.write(self.folder, Position(step=self.step, skipped=self.skipped), tensors)

    def _load(self, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(tensors[f"weight/{name}"])
                state = {
                    key.split("/")[1]: value
                    for key, value in tensors.items()
                    if key.startswith("optimizer/") and key.endswith(f"/{name}") and key.count("/") >= 2
                }
                if state:
                    self.optimizer.state[weight] = state
        prefix = "last_retained/"
        self._last_retained = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
