"""One detector for each way a training goes wrong: pure functions of the records so far.

A detector looks at a record and answers with a ``Symptom`` (whether it is bad, and what was seen, in numbers), or with
None when the record says nothing about it. It decides nothing alone: the ``Monitor`` asks for the symptom several
times in a row before it speaks, and for several healthy looks before it believes that the trouble is over.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from statistics import median
from typing import ClassVar, NamedTuple

from clerestory.core.evidence import Severity
from clerestory.stages.train.monitor.limits import Limits
from clerestory.stages.train.monitor.record import Record

STRETCH = 5  # records a median is taken over: one odd step is no trend
LATELY = 20  # steps within which weights must not double
RELIEF = 0.8  # hysteresis: what is named stays named until it is clearly better than the limit


class Symptom(NamedTuple):
    """What a detector says about one record."""

    bad: bool
    seen: str


class Detector(ABC):
    """The frame that all detectors share.

    Args:
        limits: thresholds.

    Attributes:
        code: of the finding.
        where: what it is about.
        severity: ``error`` where the run is lost unless something changes.
        patience: symptoms in a row before it is named.
        fix: what to change.
    """

    code: ClassVar[str]
    where: ClassVar[str]
    severity: ClassVar[Severity] = "error"
    patience: int = 3
    fix: ClassVar[str]

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    @abstractmethod
    def look(self, record: Record, effort: float, active: bool) -> Symptom | None:
        """The symptom in one record.

        Args:
            record: the step.
            effort: full-rate steps so far.
            active: whether it is named at present; then it takes more to be called healthy.
        """

    def settled(self, record: Record, effort: float) -> bool:
        """Whether the run has been learning for long enough to be judged."""
        return effort >= max(self.limits.grace, self.limits.grace_share * (record.steps or 0))

    def over(self, limit: float, active: bool) -> float:
        """An upper limit with its hysteresis."""
        return limit * RELIEF if active else limit


class Collapse(Detector):
    """All pictures get nearly the same embedding."""

    code, where = "CLR-T010", "picture embeddings"
    fix = (
        "bring back what pushes different pictures apart: a contrastive loss with wrong answers in the batch (a larger "
        "batch, no missing negatives); with self-supervision raise the weight of its variance or uniformity term"
    )

    def look(self, record: Record, effort: float, active: bool) -> Symptom | None:
        """Mean cosine of different pictures, well above that of their captions."""
        if record.cosine is None or not self.settled(record, effort):
            return None
        own = record.text_cosine if record.text_cosine is not None else 0.0
        bad = record.cosine > self.over(self.limits.collapse_cosine, active)
        bad = bad and record.cosine > own + self.limits.collapse_margin
        rank = "" if record.rank is None else f" and use {record.rank:.1f} directions"
        return Symptom(
            bad,
            f"different pictures have almost the same embedding: their mean cosine is {record.cosine:.2f} "
            f"(their captions' is {own:.2f}){rank}",
        )


class DeadExperts(Detector):
    """Experts that no token visits any more."""

    code, where = "CLR-T011", "experts"
    severity: ClassVar[Severity] = "warning"
    fix = (
        "raise balance_weight (or turn on the steering bias of the router), check that the router's weights get a "
        "gradient; fewer experts if the data has too little variety for them"
    )

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.patience = limits.dead_looks

    def look(self, record: Record, effort: float, active: bool) -> Symptom | None:
        """Experts with next to no tokens, look after look."""
        if record.experts is None or record.experts_dead is None:
            return None
        most = "" if record.expert_most is None else f"; the busiest has {record.expert_most:.1f} times a fair share"
        return Symptom(
            record.experts_dead > 0,
            f"{record.experts_dead} of {record.experts} experts get no tokens and learn nothing{most}",
        )


class Plateau(Detector):
    """The contrastive loss stays where guessing is."""

    code, where = "CLR-T012", "contrastive loss"
    fix = (
        "check that each caption belongs to its picture (clerestory data show), then the temperature and that the "
        "picture tower gets gradients; warm up for longer before raising the learning rate"
    )

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._found: deque[float] = deque(maxlen=2 * STRETCH)
        self._loss: deque[float] = deque(maxlen=2 * STRETCH)
        self._still = False

    def look(self, record: Record, effort: float, active: bool) -> Symptom | None:
        """Loss near that of guessing and no more pictures found than by chance, over ten looks."""
        if record.found is None or record.guess is None or record.contrastive is None or not record.batch:
            return None
        self._found.append(record.found)
        self._loss.append(record.contrastive / record.guess)
        if record.update is not None:
            self._still = record.update < self.limits.update_low  # nothing moves: not a plateau
        full = len(self._found) == self._found.maxlen
        if self._still or not full or not self.settled(record, effort):
            return None
        chance, found, loss = 1 / record.batch, sum(self._found) / len(self._found), median(self._loss)
        bad = loss > self.over(self.limits.plateau_loss, active) and found < self.limits.plateau_found * chance
        return Symptom(
            bad,
            f"the contrastive loss stays at {record.contrastive:.2f}, and guessing has {record.guess:.2f} "
            f"(ln B and its like): {found:.0%} of the pictures find their text in the batch, chance is {chance:.0%}",
        )


class Temperature(Detector):
    """A temperature at which the loss can no longer teach."""

    code, where = "CLR-T013", "temperature"
    severity: ClassVar[Severity] = "warning"
    fix = "set temperature to 0.05 (a scale of 20; CLIP keeps it between 1 and 100), or let it be learnt from there"

    def look(self, record: Record, effort: float, active: bool) -> Symptom | None:
        """Too sharp: above CLIP's bound. Too soft: even perfect embeddings would keep most of the loss."""
        if record.scale is None or not record.batch or record.batch < 2:
            return None
        floor = math.log1p((record.batch - 1) * math.exp(-2 * record.scale)) / math.log(record.batch)
        scale, temperature = record.scale, 1 / record.scale
        if scale >= self.over(self.limits.scale_high, active):
            why = f"beyond {self.limits.scale_high:g} a single wrong pair outweighs all others"
            return Symptom(True, f"the temperature is {temperature:.4f} (similarities times {scale:.0f}): {why}")
        return Symptom(
            floor > self.over(self.limits.scale_floor, active),
            f"the temperature is {temperature:.2g} (similarities times {scale:.2g}): even perfect embeddings would "
            f"keep {floor:.0%} of the loss of guessing",
        )


class Explosion(Detector):
    """Gradients or weights that grow without end."""

    code, where = "CLR-T014", "gradient and weight norm"
    fix = "turn on clipping (clip = 1), lower learning_rate, and look at the batches of these steps for damaged data"

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._gradients: deque[float] = deque(maxlen=STRETCH)
        self._calmest = math.inf
        self._weights: deque[tuple[int, float]] = deque()

    def look(self, record: Record, effort: float, active: bool) -> Symptom | None:
        """The gradient against its calmest stretch, the weights against those of a little while ago."""
        if record.weights is not None:
            self._weights.append((record.step, record.weights))
            while len(self._weights) > 2 and self._weights[0][0] < record.step - LATELY:
                self._weights.popleft()
            since, before = self._weights[0]
            growth = record.weights / before if before > 0 else 1.0
            if growth > self.over(self.limits.weight_growth, active):
                seen = f"the weights are {growth:.1f} times as long as {record.step - since} steps ago"
                return Symptom(True, f"{seen} ({record.weights:.3g})")
        if record.gradient is None:
            return None
        self._gradients.append(record.gradient)
        now = median(self._gradients)
        if len(self._gradients) < STRETCH:
            return None
        first = not math.isfinite(self._calmest)
        self._calmest = min(self._calmest, now)
        if first or self._calmest <= 0:
            return None
        growth = now / self._calmest
        return Symptom(
            growth > self.over(self.limits.gradient_growth, active),
            f"the gradient is {now:.3g} long, {growth:.0f} times its calmest stretch ({self._calmest:.3g})",
        )


class Forgetting(Detector):
    """What was found before is no longer found."""

    code, where = "CLR-T015", "what the model knew"
    patience = 2
    fix = (
        "mix the earlier data into every batch, lower learning_rate, or lock a tower; for fine-tuning, interpolate "
        "with the original weights (WiSE-FT) and keep an eye on its old tasks"
    )

    asked: ClassVar[str] = "what it knew before"

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._best, self._at = -1.0, 0

    def share(self, record: Record) -> tuple[float | None, int | None]:
        """The share found and the number of pictures asked for."""
        return record.kept, record.kept_n

    def look(self, record: Record, effort: float, active: bool) -> Symptom | None:
        """The share found against the best so far, where the difference is beyond chance."""
        share, n = self.share(record)
        if share is None or not n:
            return None
        if share > self._best:
            self._best, self._at = share, record.step
        mean = (share + self._best) / 2
        error = math.sqrt(max(mean * (1 - mean), 1e-9) * 2 / n)
        lost = self._best - share
        bad = lost > self.over(self.limits.forgotten, active) * self._best and lost > self.limits.sure * error
        seen = f"of {self.asked} it found {self._best:.0%} at step {self._at} and finds {share:.0%} now (n = {n})"
        return Symptom(bad, seen)


class Decline(Forgetting):
    """The same on the validation pictures."""

    where = "validation pictures"
    asked = "the validation pictures"

    def share(self, record: Record) -> tuple[float | None, int | None]:
        """The share found and the number of pictures asked for."""
        return record.recall, record.recall_n


class Shortcut(Detector):
    """Captions learnt by heart as a language, without looking at the picture."""

    code, where = "CLR-T016", "captions"
    severity: ClassVar[Severity] = "warning"
    patience = 8
    fix = (
        "check that captions belong to their pictures and name what is visible; raise caption_weight or caption_share, "
        "hide words at random (parallel prediction), and train for longer if the captions are long"
    )

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._first: float | None = None
        self._gains: deque[tuple[float, float]] = deque(maxlen=STRETCH)
        self._captions, self._step = 0, 0

    def look(self, record: Record, effort: float, active: bool) -> Symptom | None:
        """The caption loss has fallen, and is the same with another picture."""
        if record.seeing is None or record.blind is None or record.blind_error is None:
            return None
        if self._first is None:
            self._first = record.seeing
        self._gains.append((record.blind - record.seeing, record.blind_error))
        self._captions += (record.caption_n or 0) * (record.step - self._step)
        self._step = record.step
        learnt = 1 - record.seeing / self._first if self._first > 0 else 0.0
        early = effort < self.limits.shortcut_grace * (record.steps or 0)
        early = early or self._captions < self.limits.shortcut_captions
        if len(self._gains) < STRETCH or early or not self.settled(record, effort):
            return None
        if learnt < self.limits.shortcut_learnt:
            return None
        gain = sum(g for g, _ in self._gains) / len(self._gains)
        error = math.sqrt(sum(e * e for _, e in self._gains)) / len(self._gains)
        worth = gain / record.seeing if record.seeing > 0 else 0.0
        bad = worth < self.limits.shortcut_gain and gain < self.limits.sure * error
        return Symptom(
            bad,
            f"the caption loss has fallen by {learnt:.0%} to {record.seeing:.2f} and is {record.blind:.2f} with the "
            "pictures exchanged: captions are guessed from their words, not read off the picture",
        )


class Leak(Detector):
    """Validation pictures that are also learnt from."""

    code, where = "CLR-T017", "validation split"
    patience = 1
    fix = (
        "take them out of one of the two splits, so that a picture and its copies are on one side (give them one "
        "concept); numbers on this validation split say nothing until then"
    )

    def look(self, record: Record, effort: float, active: bool) -> Symptom | None:
        """The share of the validation pictures that are training pictures."""
        if record.leaked is None or not record.leaked_n:
            return None
        pictures = round(record.leaked * record.leaked_n)
        bad = record.leaked > self.limits.leaked and pictures >= self.limits.leaked_pictures
        return Symptom(bad, f"{pictures} of {record.leaked_n} validation pictures are also training pictures")


class Duplicates(Detector):
    """Batches made of the same few pictures."""

    code, where = "CLR-T018", "batches"
    severity: ClassVar[Severity] = "warning"
    fix = (
        "remove the copies from the data or give them one concept (a concept comes once in a batch), and check how "
        "batches are drawn"
    )

    def look(self, record: Record, effort: float, active: bool) -> Symptom | None:
        """The share of the batch that repeats a picture of the batch."""
        if record.duplicates is None:
            return None
        return Symptom(
            record.duplicates > self.over(self.limits.duplicates, active),
            f"{record.duplicates:.0%} of a batch are copies of other pictures in it: it teaches less than its size, "
            "and a picture is told to differ from its own copy",
        )


class TooFast(Detector):
    """Steps so long that each destroys what the last one learnt."""

    code, where = "CLR-T019", "learning_rate"
    fix = "lower learning_rate by a factor of 10 and warm up for longer (warmup = 0.1)"

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._skipped: deque[int] = deque([0], maxlen=21)
        self._losses: deque[float] = deque(maxlen=STRETCH)
        self._began: float | None = None

    def look(self, record: Record, effort: float, active: bool) -> Symptom | None:
        """How far one step moves the weights; steps that were not finite; a loss above where it began."""
        if record.skipped is not None:
            self._skipped.append(record.skipped)
            lately = self._skipped[-1] - self._skipped[0]
            if lately >= self.limits.skipped:
                return Symptom(True, f"{lately} of the last steps gave no finite loss or gradient and changed nothing")
        if record.loss is not None:
            self._losses.append(record.loss)
            if self._began is None and len(self._losses) == STRETCH:
                self._began = median(self._losses)
        rate = "" if record.lr is None else f" at a learning rate of {record.lr:.2g}"
        if record.update is not None and record.update > self.over(self.limits.update_high, active):
            return Symptom(
                True, f"one step changes the weights by {record.update:.0%} of their length{rate}; 1 % is usual"
            )
        if (
            self._began
            and len(self._losses) == STRETCH
            and median(self._losses) > self._began * (1 + self.limits.rises)
        ):
            return Symptom(True, f"the loss rose from {self._began:.2f} to {median(self._losses):.2f}{rate}")
        return Symptom(False, "") if record.update is not None else None


class TooSlow(Detector):
    """Steps so short that the run ends where it began."""

    code, where = "CLR-T020", "learning_rate"
    severity: ClassVar[Severity] = "warning"
    patience = 5
    fix = "raise learning_rate by a factor of 10, and again while the loss falls smoothly; check for frozen weights"

    def look(self, record: Record, effort: float, active: bool) -> Symptom | None:
        """How far one step at (nearly) the full learning rate moves the weights."""
        if record.update is None or not self.settled(record, effort):
            return None
        if record.lr is not None and record.peak_lr is not None and record.lr < record.peak_lr / 2:
            return None  # the end of the schedule is meant to be slow
        share = record.update * (record.steps or 1)
        rate = "" if record.lr is None else f" at a learning rate of {record.lr:.2g}"
        return Symptom(
            record.update < self.limits.update_low / (RELIEF if active else 1),
            f"one step changes the weights by {record.update:.1g} of their length{rate}: the whole run of "
            f"{record.steps} steps moves them by less than {share:.1g} of it",
        )


ALL: tuple[type[Detector], ...] = (
    Leak,
    Duplicates,
    TooFast,
    TooSlow,
    Temperature,
    Explosion,
    Collapse,
    DeadExperts,
    Plateau,
    Shortcut,
    Forgetting,
    Decline,
)
