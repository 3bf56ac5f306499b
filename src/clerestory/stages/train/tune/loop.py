"""The steps of a fine-tuning, from its last saved look to its end.

A step is a function of its number and the weights: which pictures it reads follows from ``order``, so a run that was
killed goes on from its last look to the very same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clerestory.core.errors import ClerestoryError
from clerestory.core.progress import Progress
from clerestory.stages.train import checkpoint
from clerestory.stages.train.checkpoint import Position
from clerestory.stages.train.log import Log
from clerestory.stages.train.shuffle import Order
from clerestory.stages.train.tune.config import TuneConfig
from clerestory.stages.train.tune.forgetting import Guard, Look, losing, lost
from clerestory.stages.train.tune.trainable import Floats, Student
from clerestory.stages.train.tune.weights import Weights, copied

MOST_SKIPPED_IN_A_ROW = 10


class Steps:
    """A running fine-tuning.

    Args:
        student: the model.
        weights: what is trained, by name; changed in place.
        pictures: how many there are to learn from.
        config: resolved settings.
        folder: for the state and the log.
        guard: asked at every look.
        examine: the scores of the retention set as the model is now.
        where: the name of the retention set.

    Attributes:
        step, skipped: steps done, and those that changed nothing.
        stopped: whether the guard ended it.
        looks: the scores of the retention set by step.
    """

    def __init__(
        self,
        student: Student,
        weights: Weights,
        pictures: int,
        config: TuneConfig,
        folder: Path,
        guard: Guard,
        examine: Callable[[], Floats],
        where: str,
    ) -> None:
        self.student, self.weights, self.config, self.folder = student, weights, config, folder
        self.guard, self.examine, self.where = guard, examine, where
        self.batch = min(config.batch or 1, pictures)
        self.order = Order(pictures, config.seed)
        self.log = Log(folder / "log.jsonl")
        self.step = self.skipped = 0
        self.stopped = False
        matrices = [w for w in weights.values() if w.ndim >= 2]
        others = [w for w in weights.values() if w.ndim < 2]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=1.0, betas=(0.9, 0.98))
        self.looks: dict[int, Floats] = {}
        self._good = copied(weights) if config.guard == "stop" else {}

    def finish(self, progress: Progress) -> None:
        """All steps that are left.

        Raises:
            ClerestoryError: the loss stayed infinite or NaN.
        """
        in_a_row = 0
        with progress.task("Fine-tuning", self.config.steps) as task:
            task.advance(self.step)
            while self.step < self.config.steps and not self.stopped:
                loss = self._one()
                in_a_row = 0 if loss is not None else in_a_row + 1
                if in_a_row > MOST_SKIPPED_IN_A_ROW:
                    raise ClerestoryError(
                        f"the loss was not finite in {in_a_row} steps in a row, up to step {self.step}",
                        f"lower learning_rate, which is {self.config.learning_rate:g}",
                    )
                task.advance(1, "" if loss is None else f"loss {loss:.3f}")
                if self.step in self.config.look_steps():
                    self._look(loss, progress)

    def restore(self) -> None:
        """Go to the last saved look, if there is one."""
        found = checkpoint.read(self.folder)
        if found is None:
            self.log.cut(0)
            return
        position, tensors = found
        self.step, self.skipped = position.step, position.skipped
        self._set(tensors)
        for step in sorted(int(name.split("/")[1]) for name in tensors if name.startswith("look/")):
            self._judge(step, tensors[f"look/{step}"].numpy())
        self.log.cut(self.step)
        self.stopped = self._must_stop()

    def _one(self) -> float | None:
        """One step; its loss, or None where that or the gradient was not finite and nothing was changed."""
        rows = self.order.take(self.step * self.batch, self.batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.student.backward(rows)
        norm = float(torch.nn.utils.clip_grad_norm_(list(self.weights.values()), self.config.clip))
        rate = self.config.rate(self.step)
        self.step += 1
        self.log.add(step=self.step, loss=loss, gradient=norm, lr=rate)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.skipped += 1
            return None
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.student.settle()
        return loss

    def _look(self, loss: float | None, progress: Progress) -> None:
        seen = [look.state for look in self.guard.seen]
        look = self._judge(self.step, self.examine())
        told = "" if loss is None else f"loss {loss:.3f}; "
        progress.say(f"step {self.step} of {self.config.steps}: {told}what it knew {look.score:.3f}, {look.told()}")
        for state, tell in (("losing", losing), ("lost", lost)):
            if look.state == state and state not in seen:
                finding = tell(look, self.guard, self.where)
                progress.say(f"{finding.code} {finding.message}. What to change: {finding.fix}")
        if look.state != "lost" and self._good:
            self._good = copied(self.weights)
        self.stopped = self._must_stop()
        if self.stopped:
            with torch.no_grad():
                for name, tensor in self._good.items():
                    self.weights[name].copy_(tensor)
            progress.say("stopped; the weights are those of the last look at which enough was kept")
        self._save()

    def _judge(self, step: int, scores: Floats) -> Look:
        self.looks[step] = scores
        return self.guard.look(step, scores)

    def _must_stop(self) -> bool:
        return self.config.guard == "stop" and any(look.state == "lost" for look in self.guard.seen)

    def _save(self) -> None:
        tensors: dict[str, Tensor] = {f"weight/{name}": tensor for name, tensor in self.weights.items()}
        for name, tensor in self.weights.items():
            tensors |= {f"optimizer/{key}/{name}": value for key, value in self.optimizer.state[tensor].items()}
        tensors |= {f"good/{name}": tensor for name, tensor in self._good.items()}
        tensors |= {f"look/{step}": torch.from_numpy(np.array(scores)) for step, scores in self.looks.items()}
        checkpoint.write(self.folder, Position(step=self.step, skipped=self.skipped), tensors)

    def _set(self, tensors: dict[str, Tensor]) -> None:
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
        self._good = {name.removeprefix("good/"): t for name, t in tensors.items() if name.startswith("good/")}
