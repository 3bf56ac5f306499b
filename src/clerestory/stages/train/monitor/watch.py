"""Looks at a running training every few steps and tells the monitor what it sees.

It never changes what is trained: everything runs without gradients, draws no random numbers and leaves the buffers of
the model alone, so that the weights are bit for bit those of an unwatched run.

Shape suffixes: B pictures, M captions, L caption positions, E shared space, N tokens, D width.
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
from clerestory.models.moe.balancing import uncounted
from clerestory.models.moe.layer import Seen
from clerestory.models.moe.routing import count
from clerestory.stages.train.monitor import statistics
from clerestory.stages.train.monitor.limits import DEFAULT, Limits
from clerestory.stages.train.monitor.monitor import Monitor
from clerestory.stages.train.monitor.record import Record
from clerestory.stages.train.shuffle import Rows
from clerestory.stages.train.train_data import Pictures

CAPTIONS = 48  # of a batch that are tried with other pictures: the decoder's time for more is not worth it


class Watch:
    """The monitor's eyes in the training loop.

    Args:
        steps: of the whole run; decides how often to look.
        peak_lr: highest learning rate of the run.
        limits: thresholds.
        every: steps between two looks; 0 for a hundred looks in a run, at most every tenth step.
    """

    def __init__(self, steps: int, peak_lr: float, limits: Limits = DEFAULT, every: int = 0) -> None:
        self.every = every or min(10, max(1, steps // 100))
        self.monitor = Monitor(limits)
        self._known = {"steps": steps, "peak_lr": peak_lr}
        self._ids_N: NDArray[np.int64] | None = None
        self._seen: dict[str, float] = {}
        self._before: list[Tensor] = []

    def due(self, number: int) -> bool:
        """Whether step ``number`` (counted from 0) is looked at closely."""
        return number % self.every == 0

    def thorough(self, number: int) -> bool:
        """Whether it is also worth the time to exchange pictures and to measure the step: every second look.

        Of a short run every look is thorough, as there are few.
        """
        return number % (self.every if self.every == 1 else 2 * self.every) == 0

    def overlap(self, train: Pictures, val: Pictures | None) -> None:
        """Look for validation pictures among the training pictures; once, with the first step."""
        if val is not None and len(val.pixels_NHWC):
            share = statistics.share_leaked(train.pixels_NHWC, val.pixels_NHWC)
            self._seen |= {"leaked": share, "leaked_n": len(val.pixels_NHWC)}

    def batch(self, train_NHWC: Tensor, rows: Rows) -> None:
        """Look at which of the training pictures a batch is made of."""
        if self._ids_N is None:
            self._ids_N = statistics.picture_ids(train_NHWC)
        self._seen |= {"batch": len(rows), "duplicates": statistics.same_share(self._ids_N[rows])}

    def contrast(self, images_BE: Tensor, texts_BE: Tensor, own_B: Tensor, scale: float, guess: float) -> None:
        """Look at the embeddings of a batch; ``own_B`` is each picture's caption."""
        image, text = statistics.spread(images_BE), statistics.spread(texts_BE)
        self._seen |= {
            "spread": image.deviation,
            "cosine": image.cosine,
            "rank": image.rank,
            "text_cosine": text.cosine,
            "text_rank": text.rank,
            "found": statistics.share_found(images_BE, texts_BE, own_B),
            "guess": guess,
            "scale": scale,
        }

    @torch.no_grad()
    def captions(self, model: ClerestoryModel, tokens_BTD: Tensor, ids_ML: Tensor) -> None:
        """See what the captions would cost with exchanged pictures."""
        size = min(len(ids_ML), CAPTIONS)
        if size < 2:
            return
        ids_ML, tokens_BTD = ids_ML[:size], tokens_BTD[:size].detach()
        with uncounted(model.decoder):
            own, other = (model.decoder(ids_ML, tokens) for tokens in (tokens_BTD, tokens_BTD.roll(size // 2, 0)))
        found = statistics.blindness(own, other, ids_ML, model.config.pad_token_id)
        self._seen |= {
            "seeing": found.seeing,
            "blind": found.blind,
            "blind_error": found.error,
            "caption_n": found.n,
        }

    @contextmanager
    def experts(self, model: nn.Module) -> Iterator[None]:
        """Count which experts the tokens of a forward pass visit."""
        counts: list[list[float]] = []
        stops = [layer.watch(_counter(counts, layer.num_experts)) for layer in mixtures(model).values()]
        try:
            yield
        finally:
            for stop in stops:
                stop()
        found = statistics.loads(counts)
        if found is not None:
            self._seen |= {
                "experts": found.experts,
                "expert_least": found.least,
                "expert_most": found.most,
                "experts_dead": found.dead,
            }

    def before(self, model: nn.Module) -> None:
        """Remember the weights, to see afterwards how far one step has moved them."""
        self._before = [p.detach().clone() for p in model.parameters() if p.requires_grad]

    def after(self, model: nn.Module) -> None:
        """See how far the weights have moved since ``before``."""
        now = [p.detach() for p in model.parameters() if p.requires_grad]
        size = statistics.length(now)
        moved = statistics.length(torch._foreach_sub(now, self._before))
        self._seen |= {"weights": size, "update": moved / size if size else 0.0}
        self._before = []

    def take(self) -> dict[str, float]:
        """Everything seen since the last call, for the log."""
        seen, self._seen = self._seen, {}
        return seen

    def step(self, **values: float) -> list[Finding]:
        """Tell the monitor about one step, with the names of the log; returns what is newly found."""
        plain = {k: v if math.isfinite(v) else None for k, v in values.items()}
        return self.monitor.step(Record.of({**self._known, **plain}))

    def replay(self, log: Path) -> None:
        """Bring the monitor to where it was when a run is resumed, from the log's lines."""
        if not log.is_file():
            return
        for line in log.read_text(encoding="utf-8").splitlines():
            self.monitor.step(Record.of({**self._known, **json.loads(line)}))


def say(finding: Finding) -> str:
    """A finding in one line for the terminal."""
    return f"{finding.code} {finding.message}. What to change: {finding.fix}"


def _counter(counts: list[list[float]], experts: int) -> Callable[[Seen], None]:
    def note(seen: Seen) -> None:
        counts.append(count(seen.routing.experts_NK.detach(), experts).tolist())

    return note
