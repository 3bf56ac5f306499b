"""Measures a running training every few steps and passes the metrics to the monitor.

It does not affect the training: everything runs without gradients, draws no random numbers and does not change
the model's buffers, so the weights equal those of a run without it bit for bit.

Shape suffixes: B images, M captions, L caption positions, E shared space, T tokens of an image, D width, N images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clerestory.core.evidence import Finding
from clerestory.models.model import ClerestoryModel
from clerestory.models.moe import mixtures
from clerestory.models.moe.balancing import counts_preserved
from clerestory.models.moe.layer import RoutingEvent
from clerestory.models.moe.routing import tokens_per_expert
from clerestory.stages.train.monitor import statistics
from clerestory.stages.train.monitor.monitor import Monitor
from clerestory.stages.train.monitor.record import StepRecord
from clerestory.stages.train.monitor.thresholds import DEFAULT, MonitorThresholds
from clerestory.stages.train.shuffle import Rows
from clerestory.stages.train.train_data import TrainImages

MAX_CAPTIONS = 48  # of a batch that are decoded with shuffled images: more would take too long


class Instrumentation:
    """Collects the metrics of a training loop for its log and its monitor.

    Args:
        steps: of the whole run; decides the interval between checks.
        peak_lr: highest learning rate of the run.
        thresholds: when a metric counts as a symptom.
        interval: steps between two checks; 0 for a hundred checks in a run, at least one in ten steps.
    """

    def __init__(self, steps: int, peak_lr: float, thresholds: MonitorThresholds = DEFAULT, interval: int = 0) -> None:
        self.interval = interval or min(10, max(1, steps // 100))
        self.monitor = Monitor(thresholds)
        self._constants = {"steps": steps, "peak_lr": peak_lr}
        self._ids_N: NDArray[np.int64] | None = None
        self._metrics: dict[str, float] = {}
        self._weights_before: list[Tensor] = []

    def is_check(self, number: int) -> bool:
        """Whether step ``number`` (counted from 0) is measured."""
        return number % self.interval == 0

    def is_full_check(self, number: int) -> bool:
        """Whether captions with shuffled images and the weight update are measured as well: every second check.

        In a run short enough to check every step, all checks are full.
        """
        return number % (self.interval if self.interval == 1 else 2 * self.interval) == 0

    def measure_leakage(self, train: TrainImages, val: TrainImages | None) -> None:
        """Count validation images among the training images; once, with the first step."""
        if val is not None and len(val.pixels_NHWC):
            leaked = statistics.leaked_share(train.pixels_NHWC, val.pixels_NHWC)
            self._metrics |= {"leaked_share": leaked, "leakage_images": len(val.pixels_NHWC)}

    def measure_batch(self, train_NHWC: Tensor, rows: Rows) -> None:
        """Count duplicates among the training images of a batch."""
        if self._ids_N is None:
            self._ids_N = statistics.image_ids(train_NHWC)
        self._metrics |= {"batch": len(rows), "duplicate_share": statistics.duplicate_share(self._ids_N[rows])}

    def measure_embeddings(
        self, images_BE: Tensor, texts_BE: Tensor, captions_B: Tensor, logit_scale: float, chance_loss: float
    ) -> None:
        """Measure the embeddings of a batch; ``captions_B`` are the caption numbers of its images."""
        image, text = statistics.embedding_spread(images_BE), statistics.embedding_spread(texts_BE)
        self._metrics |= {
            "embedding_std": image.std,
            "embedding_cosine": image.cosine,
            "embedding_rank": image.rank,
            "text_cosine": text.cosine,
            "text_rank": text.rank,
            "batch_accuracy": statistics.batch_accuracy(images_BE, texts_BE, captions_B),
            "chance_loss": chance_loss,
            "logit_scale": logit_scale,
        }

    def measure_negatives(self, negatives: int) -> None:
        """The number of other captions that the contrastive loss can tell each image's caption from."""
        self._metrics |= {"negatives": negatives}

    @torch.no_grad()
    def measure_captions(self, model: ClerestoryModel, tokens_BTD: Tensor, ids_ML: Tensor) -> None:
        """Measure the caption loss with their own and with shuffled images."""
        size = min(len(ids_ML), MAX_CAPTIONS)
        if size < 2:
            return
        ids_ML, tokens_BTD = ids_ML[:size], tokens_BTD[:size].detach()
        with counts_preserved(model.decoder):
            own, shuffled = (model.decoder(ids_ML, tokens) for tokens in (tokens_BTD, tokens_BTD.roll(size // 2, 0)))
        grounding = statistics.caption_grounding(own, shuffled, ids_ML, model.config.pad_token_id)
        self._metrics |= {
            "caption_loss": grounding.loss,
            "caption_loss_shuffled": grounding.shuffled,
            "caption_gain_error": grounding.error,
            "captions": grounding.n,
        }

    @contextmanager
    def measure_experts(self, model: nn.Module) -> Iterator[None]:
        """Count the tokens that each expert receives in a forward pass."""
        counts: list[list[float]] = []
        removers = [
            layer.register_routing_hook(_counter(counts, layer.num_experts)) for layer in mixtures(model).values()
        ]
        try:
            yield
        finally:
            for remove in removers:
                remove()
        loads = statistics.expert_loads(counts)
        if loads is not None:
            self._metrics |= {
                "experts": loads.experts,
                "min_expert_load": loads.min,
                "max_expert_load": loads.max,
                "dead_experts": loads.dead,
            }

    def before_update(self, model: nn.Module) -> None:
        """Copy the weights, to measure the update of this step afterwards."""
        self._weights_before = [p.detach().clone() for p in model.parameters() if p.requires_grad]

    def after_update(self, model: nn.Module) -> None:
        """Measure the weight update since ``before_update``."""
        weights = [p.detach() for p in model.parameters() if p.requires_grad]
        norm = statistics.global_norm(weights)
        change = statistics.global_norm(torch._foreach_sub(weights, self._weights_before))
        self._metrics |= {"weight_norm": norm, "update_ratio": change / norm if norm else 0.0}
        self._weights_before = []

    def pop_metrics(self) -> dict[str, float]:
        """The metrics measured since the last call, for the log."""
        metrics, self._metrics = self._metrics, {}
        return metrics

    def step(self, **metrics: float) -> list[Finding]:
        """Pass the metrics of one step to the monitor, under their names in the log; returns the new findings."""
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        return self.monitor.step(StepRecord.from_log({**self._constants, **finite}))

    def replay(self, log: Path) -> None:
        """Restore the monitor's state from the lines of the log when a run is resumed."""
        if not log.is_file():
            return
        for line in log.read_text(encoding="utf-8").splitlines():
            self.monitor.step(StepRecord.from_log({**self._constants, **json.loads(line)}))


def _counter(counts: list[list[float]], experts: int) -> Callable[[RoutingEvent], None]:
    def record(event: RoutingEvent) -> None:
        counts.append(tokens_per_expert(event.routing.experts_NK.detach(), experts).tolist())

    return record
