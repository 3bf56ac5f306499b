"""One detector for each training failure: functions of the records so far.

A detector checks a record and returns a ``Symptom`` (whether the failure is present, and the measured numbers), or
None if the record lacks the metrics it needs. The ``Monitor`` reports a failure after several consecutive symptoms, and
considers it over after several checks without one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from statistics import median
from typing import ClassVar, NamedTuple

from clerestory.core.codec import Fact, Facts
from clerestory.core.findings import FindingCode
from clerestory.stages.train.monitor import findings
from clerestory.stages.train.monitor.record import StepRecord
from clerestory.stages.train.monitor.thresholds import MonitorThresholds

WINDOW = 5  # records of a running median
GROWTH_STEPS = 20  # steps within which the weight norm must not double
HYSTERESIS = 0.8  # a reported failure is over only when the metric is clearly within its threshold


class Symptom(NamedTuple):
    """The result of one check.

    Attributes:
        present: whether the record shows the failure.
        message: the problem with its numbers.
        details: the numbers by name.
    """

    present: bool
    message: str
    details: Facts


def symptom(present: bool, message: str, **details: Fact | None) -> Symptom:
    """A symptom with those details that were measured."""
    return Symptom(present, message, Facts({name: value for name, value in details.items() if value is not None}))


class Detector(ABC):
    """The interface of all detectors.

    Args:
        thresholds: when a metric counts as a symptom.

    Attributes:
        code: of the finding.
        where: the subject of the finding.
        patience: consecutive symptoms before the failure is reported.
    """

    code: ClassVar[FindingCode]
    where: ClassVar[str]
    patience: int = 3

    def __init__(self, thresholds: MonitorThresholds) -> None:
        self.thresholds = thresholds

    @abstractmethod
    def check(self, record: StepRecord, full_rate_steps: float, active: bool) -> Symptom | None:
        """The symptom in one record.

        Args:
            record: the metrics of the step.
            full_rate_steps: steps so far, each counted by its share of the peak learning rate.
            active: whether the failure is currently active; then the stricter threshold applies.
        """

    def past_grace(self, record: StepRecord, full_rate_steps: float) -> bool:
        """Whether the grace period of the run is over."""
        return full_rate_steps >= max(self.thresholds.grace_steps, self.thresholds.grace_share * (record.steps or 0))

    def upper(self, threshold: float, active: bool) -> float:
        """An upper threshold with its hysteresis."""
        return threshold * HYSTERESIS if active else threshold


class Collapse(Detector):
    """All images get nearly the same embedding."""

    code, where = findings.COLLAPSE, "image embeddings"

    def check(self, record: StepRecord, full_rate_steps: float, active: bool) -> Symptom | None:
        """Mean cosine of different images, well above that of their captions."""
        if record.embedding_cosine is None or not self.past_grace(record, full_rate_steps):
            return None
        text_cosine = record.text_cosine if record.text_cosine is not None else 0.0
        present = record.embedding_cosine > self.upper(self.thresholds.collapse_cosine, active)
        present = present and record.embedding_cosine > text_cosine + self.thresholds.collapse_margin
        rank = "" if record.embedding_rank is None else f" and effective rank {record.embedding_rank:.1f}"
        return symptom(
            present,
            f"image embeddings have collapsed: different images have mean cosine {record.embedding_cosine:.2f} "
            f"(their captions {text_cosine:.2f}){rank}",
            embedding_cosine=record.embedding_cosine,
            text_cosine=record.text_cosine,
            embedding_rank=record.embedding_rank,
        )


class DeadExperts(Detector):
    """Experts that no longer receive tokens."""

    code, where = findings.DEAD_EXPERTS, "experts"

    def __init__(self, thresholds: MonitorThresholds) -> None:
        super().__init__(thresholds)
        self.patience = thresholds.dead_checks

    def check(self, record: StepRecord, full_rate_steps: float, active: bool) -> Symptom | None:
        """Experts with almost no tokens, in several consecutive checks."""
        if record.experts is None or record.dead_experts is None:
            return None
        busiest = record.max_expert_load
        load = "" if busiest is None else f"; the busiest expert has {busiest:.1f}× an equal share"
        return symptom(
            record.dead_experts > 0,
            f"{record.dead_experts} of {record.experts} experts get almost no tokens and do not learn{load}",
            dead_experts=record.dead_experts,
            experts=record.experts,
            max_expert_load=busiest,
        )


class Plateau(Detector):
    """The contrastive loss stays at chance level."""

    code, where = findings.PLATEAU, "contrastive loss"

    def __init__(self, thresholds: MonitorThresholds) -> None:
        super().__init__(thresholds)
        self._accuracies: deque[float] = deque(maxlen=2 * WINDOW)
        self._loss_ratios: deque[float] = deque(maxlen=2 * WINDOW)
        self._frozen = False

    def check(self, record: StepRecord, full_rate_steps: float, active: bool) -> Symptom | None:
        """Loss near the chance loss and in-batch accuracy near chance, over ten checks."""
        if (
            record.batch_accuracy is None
            or not record.chance_loss  # 0 without negatives, which is another failure: NoNegatives
            or record.contrastive is None
            or not record.batch
        ):
            return None
        self._accuracies.append(record.batch_accuracy)
        self._loss_ratios.append(record.contrastive / record.chance_loss)
        if record.update_ratio is not None:
            self._frozen = record.update_ratio < self.thresholds.min_update_ratio  # another failure: LearningRateTooLow
        full = len(self._accuracies) == self._accuracies.maxlen
        if self._frozen or not full or not self.past_grace(record, full_rate_steps):
            return None
        chance = 1 / record.batch
        accuracy, ratio = sum(self._accuracies) / len(self._accuracies), median(self._loss_ratios)
        present = ratio > self.upper(self.thresholds.plateau_loss_ratio, active)
        present = present and accuracy < self.thresholds.plateau_accuracy * chance
        return symptom(
            present,
            f"contrastive loss is {record.contrastive:.2f}, the chance level is {record.chance_loss:.2f} (about ln B); "
            f"in-batch accuracy is {accuracy:.0%}, chance is {chance:.0%}",
            contrastive=record.contrastive,
            chance_loss=record.chance_loss,
            batch_accuracy=accuracy,
            chance=chance,
        )


class Temperature(Detector):
    """A temperature at which the loss gives no useful gradient."""

    code, where = findings.TEMPERATURE, "temperature"

    def check(self, record: StepRecord, full_rate_steps: float, active: bool) -> Symptom | None:
        """Too low: above CLIP's bound of the scale. Too high: even perfect embeddings would keep most of the loss."""
        if record.logit_scale is None or not record.batch or record.batch < 2:
            return None
        floor = math.log1p((record.batch - 1) * math.exp(-2 * record.logit_scale)) / math.log(record.batch)
        scale, temperature = record.logit_scale, 1 / record.logit_scale
        numbers = {"logit_scale": scale, "temperature": temperature, "loss_floor": floor}
        if scale >= self.upper(self.thresholds.max_logit_scale, active):
            limit = self.thresholds.max_logit_scale
            return symptom(
                True,
                f"temperature is {temperature:.4f} (logit scale {scale:.0f}); above a scale of {limit:g} one "
                "mismatched pair dominates the gradient",
                **numbers,
            )
        return symptom(
            floor > self.upper(self.thresholds.max_loss_floor, active),
            f"temperature is {temperature:.2g} (logit scale {scale:.2g}); even perfect embeddings would keep "
            f"{floor:.0%} of the chance loss",
            **numbers,
        )


class Explosion(Detector):
    """Gradients or weights that grow without bound."""

    code, where = findings.EXPLOSION, "gradient and weight norm"

    def __init__(self, thresholds: MonitorThresholds) -> None:
        super().__init__(thresholds)
        self._grad_norms: deque[float] = deque(maxlen=WINDOW)
        self._lowest_median = math.inf
        self._weight_norms: deque[tuple[int, float]] = deque()

    def check(self, record: StepRecord, full_rate_steps: float, active: bool) -> Symptom | None:
        """Gradient norm relative to its lowest running median, weight norm relative to its value some steps ago."""
        if record.weight_norm is not None:
            self._weight_norms.append((record.step, record.weight_norm))
            while len(self._weight_norms) > 2 and self._weight_norms[0][0] < record.step - GROWTH_STEPS:
                self._weight_norms.popleft()
            since, before = self._weight_norms[0]
            growth = record.weight_norm / before if before > 0 else 1.0
            if growth > self.upper(self.thresholds.max_weight_growth, active):
                return symptom(
                    True,
                    f"weight norm is {record.weight_norm:.3g}, {growth:.1f}× its value {record.step - since} steps ago",
                    weight_norm=record.weight_norm,
                    growth=growth,
                )
        if record.grad_norm is None:
            return None
        self._grad_norms.append(record.grad_norm)
        current = median(self._grad_norms)
        if len(self._grad_norms) < WINDOW:
            return None
        first = not math.isfinite(self._lowest_median)
        self._lowest_median = min(self._lowest_median, current)
        if first or self._lowest_median <= 0:
            return None
        growth = current / self._lowest_median
        return symptom(
            growth > self.upper(self.thresholds.max_grad_growth, active),
            f"gradient norm is {current:.3g}, {growth:.0f}× its lowest running median ({self._lowest_median:.3g})",
            grad_norm=current,
            growth=growth,
        )


class RetainedRecallDrop(Detector):
    """Recall on earlier data has dropped."""

    code, where = findings.FORGETTING, "earlier data"
    patience = 2
    data: ClassVar[str] = "earlier data"

    def __init__(self, thresholds: MonitorThresholds) -> None:
        super().__init__(thresholds)
        self._best, self._best_step = -1.0, 0

    def recall(self, record: StepRecord) -> tuple[float | None, int | None]:
        """The recall and the number of images it was measured on."""
        return record.retained_recall, record.retained_images

    def check(self, record: StepRecord, full_rate_steps: float, active: bool) -> Symptom | None:
        """Recall compared with the best so far, if the difference is significant."""
        recall, n = self.recall(record)
        if recall is None or not n:
            return None
        if recall > self._best:
            self._best, self._best_step = recall, record.step
        mean = (recall + self._best) / 2
        error = math.sqrt(max(mean * (1 - mean), 1e-9) * 2 / n)
        lost = self._best - recall
        present = lost > self.upper(self.thresholds.max_recall_drop, active) * self._best
        present = present and lost > self.thresholds.standard_errors * error
        return symptom(
            present,
            f"recall on {self.data} is {recall:.0%}, down from {self._best:.0%} at step {self._best_step} (n = {n})",
            recall=recall,
            best_recall=self._best,
            best_step=self._best_step,
            n=n,
        )


class ValidationRecallDrop(RetainedRecallDrop):
    """Recall on the validation images has dropped."""

    where = "validation images"
    data = "the validation images"

    def recall(self, record: StepRecord) -> tuple[float | None, int | None]:
        """The recall and the number of images it was measured on."""
        return record.val_recall, record.val_images


class Shortcut(Detector):
    """The caption decoder predicts captions without using the image."""

    code, where = findings.SHORTCUT, "captions"
    patience = 8

    def __init__(self, thresholds: MonitorThresholds) -> None:
        super().__init__(thresholds)
        self._initial: float | None = None
        self._gains: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._captions, self._step = 0, 0

    def check(self, record: StepRecord, full_rate_steps: float, active: bool) -> Symptom | None:
        """The caption loss has fallen, and is the same with the images shuffled."""
        loss, shuffled, error = record.caption_loss, record.caption_loss_shuffled, record.caption_gain_error
        if loss is None or shuffled is None or error is None:
            return None
        if self._initial is None:
            self._initial = loss
        self._gains.append((shuffled - loss, error))
        self._captions += (record.captions or 0) * (record.step - self._step)
        self._step = record.step
        learned = 1 - loss / self._initial if self._initial > 0 else 0.0
        early = full_rate_steps < self.thresholds.shortcut_grace_share * (record.steps or 0)
        early = early or self._captions < self.thresholds.shortcut_captions
        if len(self._gains) < WINDOW or early or not self.past_grace(record, full_rate_steps):
            return None
        if learned < self.thresholds.min_caption_progress:
            return None
        gain = sum(g for g, _ in self._gains) / len(self._gains)
        gain_error = math.sqrt(sum(e * e for _, e in self._gains)) / len(self._gains)
        relative_gain = gain / loss if loss > 0 else 0.0
        present = relative_gain < self.thresholds.min_image_gain
        present = present and gain < self.thresholds.standard_errors * gain_error
        return symptom(
            present,
            f"caption loss has fallen by {learned:.0%} to {loss:.2f} but is {shuffled:.2f} with shuffled images: the "
            "decoder predicts captions from the language alone",
            caption_loss=loss,
            caption_loss_shuffled=shuffled,
            learned=learned,
        )


class Leakage(Detector):
    """Validation images that are also training images."""

    code, where = findings.LEAKAGE, "validation split"
    patience = 1

    def check(self, record: StepRecord, full_rate_steps: float, active: bool) -> Symptom | None:
        """The share of the validation images that are training images."""
        if record.leaked_share is None or not record.leakage_images:
            return None
        images = round(record.leaked_share * record.leakage_images)
        return symptom(
            record.leaked_share > self.thresholds.max_leaked_share and images >= self.thresholds.min_leaked_images,
            f"{images} of {record.leakage_images} validation images are also training images",
            images=images,
            val_images=record.leakage_images,
        )


class Duplicates(Detector):
    """Batches that repeat the same few images."""

    code, where = findings.DUPLICATES, "batches"

    def check(self, record: StepRecord, full_rate_steps: float, active: bool) -> Symptom | None:
        """The share of the batch that repeats another image of it."""
        if record.duplicate_share is None:
            return None
        return symptom(
            record.duplicate_share > self.upper(self.thresholds.max_duplicate_share, active),
            f"{record.duplicate_share:.0%} of the batch are copies of other images in it, which serve as negatives of "
            "themselves",
            duplicates=record.duplicate_share,
        )


class LearningRateTooHigh(Detector):
    """Updates so large that each overwrites the previous ones."""

    code, where = findings.LEARNING_RATE_TOO_HIGH, "learning_rate"

    def __init__(self, thresholds: MonitorThresholds) -> None:
        super().__init__(thresholds)
        self._skipped: deque[int] = deque([0], maxlen=21)
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._initial: float | None = None

    def check(self, record: StepRecord, full_rate_steps: float, active: bool) -> Symptom | None:
        """The size of one weight update; non-finite steps; a loss above its initial value."""
        if record.skipped is not None:
            self._skipped.append(record.skipped)
            recent = self._skipped[-1] - self._skipped[0]
            if recent >= self.thresholds.skipped_steps:
                return symptom(True, f"{recent} recent steps had a non-finite loss or gradient", skipped=recent)
        if record.loss is not None:
            self._losses.append(record.loss)
            if self._initial is None and len(self._losses) == WINDOW:
                self._initial = median(self._losses)
        rate = "" if record.lr is None else f" at learning_rate {record.lr:.2g}"
        if record.update_ratio is not None and record.update_ratio > self.upper(
            self.thresholds.max_update_ratio, active
        ):
            return symptom(
                True,
                f"one step changes the weights by {record.update_ratio:.0%} of their norm{rate}; about 1 % is usual",
                update_ratio=record.update_ratio,
                lr=record.lr,
            )
        if self._initial and len(self._losses) == WINDOW:
            loss = median(self._losses)
            if loss > self._initial * (1 + self.thresholds.max_loss_growth):
                return symptom(
                    True,
                    f"loss rose from {self._initial:.2f} to {loss:.2f}{rate}",
                    loss=loss,
                    initial_loss=self._initial,
                    lr=record.lr,
                )
        return symptom(False, "") if record.update_ratio is not None else None


class LearningRateTooLow(Detector):
    """Updates so small that the weights hardly change in the whole run."""

    code, where = findings.LEARNING_RATE_TOO_LOW, "learning_rate"
    patience = 5

    def check(self, record: StepRecord, full_rate_steps: float, active: bool) -> Symptom | None:
        """The size of one weight update at (nearly) the full learning rate."""
        if record.update_ratio is None or not self.past_grace(record, full_rate_steps):
            return None
        if record.lr is not None and record.peak_lr is not None and record.lr < record.peak_lr / 2:
            return None  # the end of the schedule has small updates by design
        whole_run = record.update_ratio * (record.steps or 1)
        rate = "" if record.lr is None else f" at learning_rate {record.lr:.2g}"
        return symptom(
            record.update_ratio < self.thresholds.min_update_ratio / (HYSTERESIS if active else 1),
            f"one step changes the weights by {record.update_ratio:.1g} of their norm{rate}; all {record.steps} steps "
            f"together by less than {whole_run:.1g}",
            update_ratio=record.update_ratio,
            lr=record.lr,
        )


class NoNegatives(Detector):
    """A contrastive loss that compares each image with its own caption only, and so is 0 without learning anything."""

    code, where = findings.NO_NEGATIVES, "batches"

    def check(self, record: StepRecord, full_rate_steps: float, active: bool) -> Symptom | None:
        """Whether every caption of the batch, and of the bank if the loss uses it, is the same."""
        if record.negatives is None or not record.batch:
            return None
        return symptom(
            record.negatives < 1,
            f"a batch of {record.batch} has no two different captions, so the contrastive loss has no negatives and "
            "teaches nothing",
            batch=record.batch,
            negatives=record.negatives,
        )


ALL: tuple[type[Detector], ...] = (
    Leakage,
    Duplicates,
    LearningRateTooHigh,
    LearningRateTooLow,
    NoNegatives,
    Temperature,
    Explosion,
    Collapse,
    DeadExperts,
    Plateau,
    Shortcut,
    RetainedRecallDrop,
    ValidationRecallDrop,
)
