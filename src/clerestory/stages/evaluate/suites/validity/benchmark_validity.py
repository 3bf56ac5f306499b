"""Whether a benchmark can be trusted: one assessment per reason, with its thresholds.

A benchmark is a task on a split of some data. Every threshold is a convention, stated here with its rationale; the
measured value is reported beside it, so that readers may apply their own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.evidence import Recipe
from clerestory.core.findings import FindingCode
from clerestory.core.rows import CLUSTER_COLUMN, RETRYABLE, Condition, TaskName, Unscored
from clerestory.core.units import plural
from clerestory.stages.evaluate import findings
from clerestory.stages.evaluate.row_builder import quoted_examples
from clerestory.stats.aggregate import Rows, aggregate
from clerestory.stats.intervals import cluster_variance
from clerestory.stats.paired import paired_difference
from clerestory.stats.power import effect_in_errors, minimum_detectable_effect

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ItemKey = tuple[str, str]
Verdict = Literal["yes", "careful", "no"]


class ValidityThresholds(NamedTuple):
    """Above these values a reason calls for care, or for distrust."""

    careful: float
    no: float


# Some items of any test can be guessed from the text; MMStar (Chen et al. 2024) reduces benchmarks to their vision-only
# part after a third and more of popular ones was answered without the image.
BLIND = ValidityThresholds(0.10, 0.30)
# 1 % of copies moves a score by less than the interval of a thousand items; 10 % can reverse a ranking.
CONTAMINATION = ValidityThresholds(0.01, 0.10)
# Releases differ by a few points: a test that cannot detect five distinguishes two of them by luck only,
# and one that cannot detect twenty distinguishes good from bad by luck.
DETECTABLE = ValidityThresholds(0.05, 0.20)
# A duplicate item counts twice, and a duplicate option cannot be chosen.
DUPLICATES = ValidityThresholds(0.01, 0.05)
# Only items that some models solve and others do not discriminate between models; without half of them the test is half
# as long.
UNINFORMATIVE = ValidityThresholds(0.50, 0.90)
# Ten popular test sets have 3.3 % wrong labels on average (Northcutt et al. 2021), enough to reorder close models.
LABEL_ERRORS = ValidityThresholds(0.01, 0.05)
# Unanswered items are rarely random: long, hard and delicate ones fail first. Their share bounds the score's error.
UNANSWERED = ValidityThresholds(0.01, 0.10)
# Replies that were not understood are not random either: reasoning about hard items is the longest.
NOT_UNDERSTOOD = ValidityThresholds(0.01, 0.10)
LARGEST_DIFFERENCE = 1.0  # of two accuracies

CODES: Mapping[str, FindingCode] = {
    code.code: code
    for code in (
        findings.BLIND_SOLVABLE,
        findings.CONTAMINATED,
        findings.TOO_FEW_ITEMS,
        findings.DUPLICATE_ITEMS,
        findings.UNINFORMATIVE_ITEMS,
        findings.DOUBTFUL_LABELS,
        findings.UNANSWERED_ITEMS,
        findings.NOT_UNDERSTOOD_ITEMS,
    )
}
MIN_CONFIDENCE = 0.9
MIN_MODELS = 2
MAX_NAMED = 3
SOLVED = 0.5  # above this score an item counts as solved


class ValidityReason(NamedTuple):
    """One assessment.

    Attributes:
        code: of the finding.
        level: ``yes`` (no problem), ``careful`` or ``no``.
        message: one sentence with the numbers.
        value: the measured value.
        limit: what it should not exceed.
        n: the number of items.
    """

    code: str
    level: Verdict
    message: str
    value: float
    limit: float
    n: int


@dataclass
class Benchmark:
    """One task on one split, with the rows of this model and of others.

    Attributes:
        task, split: its name.
        rows: of this model, under all conditions.
        others: of other models, rows of the same task and split.
        contaminated: ids of samples whose image is in the training split.
        images: SHA-256 of the image of each sample.
        duplicate_options: how many items offer an option twice.
    """

    task: str
    split: str
    rows: Rows
    others: list[Rows] = field(default_factory=list)
    contaminated: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    duplicate_options: int = 0

    @property
    def name(self) -> str:
        """Such as ``yes_no/test``."""
        return f"{self.task}/{self.split}"


def correctness(rows: Rows) -> Floats:
    """How correct each row is, 0 to 1: its score, else whether its rank is 1; NaN where it has neither."""
    score, rank = (np.asarray(rows[name], dtype=np.float64) for name in ("score", "rank"))
    first = np.where(np.isnan(rank), np.nan, (rank <= 1).astype(np.float64))
    return np.where(np.isnan(score), first, score)


def scored_rows(rows: Rows) -> Ints:
    """The positions of the scored rows of the condition ``clean``."""
    return np.flatnonzero((rows["condition"] == Condition.CLEAN) & ~np.isnan(correctness(rows)))


def item_keys(rows: Rows, positions: Ints) -> list[ItemKey]:
    """What makes a row the same item for two models: sample and question; text-to-image queries have no sample."""
    of_text = (rows["task"] == TaskName.TEXT_TO_IMAGE) | (rows["operation"] == TaskName.TEXT_TO_IMAGE)
    return [("" if of_text[i] else str(rows["sample"][i]), str(rows["query"][i])) for i in positions.tolist()]


def assess(benchmark: Benchmark) -> list[ValidityReason]:
    """Every reason that can be assessed."""
    positions = scored_rows(benchmark.rows)
    lost = (_unanswered(benchmark, positions), _not_understood(benchmark, positions))
    if not len(positions):
        return [reason for reason in lost if reason is not None]
    reasons = (
        _blind_solvable(benchmark),
        _contamination(benchmark, positions),
        _size(benchmark, positions),
        _duplicates(benchmark, positions),
        _uninformative(benchmark, positions),
        _label_errors(benchmark, positions),
        *lost,
    )
    return [reason for reason in reasons if reason is not None]


def verdict(reasons: Sequence[ValidityReason]) -> Verdict:
    """The worst of the reasons."""
    levels = {reason.level for reason in reasons}
    return "no" if "no" in levels else "careful" if "careful" in levels else "yes"


def _reason(code: FindingCode, message: str, value: float, thresholds: ValidityThresholds, n: int) -> ValidityReason:
    level: Verdict = "no" if value > thresholds.no else "careful" if value > thresholds.careful else "yes"
    return ValidityReason(code.code, level, message, round(value, 6), thresholds.careful, n)


def num_lost(rows: Rows) -> int:
    """How many items have no score because they are unanswered or were not understood."""
    reasons = _clean_reasons(rows)
    return sum(reason in RETRYABLE or reason == Unscored.NOT_UNDERSTOOD for reason in reasons)


def _clean_reasons(rows: Rows) -> list[str]:
    """Why the rows of the condition ``clean`` are unscored, empty where they are scored."""
    return [str(reason) for reason in rows["unscored"][rows["condition"] == Condition.CLEAN].tolist()]


def _blind_solvable(benchmark: Benchmark) -> ValidityReason | None:
    """The larger share of items solved without the image, by the model or by the most frequent answer."""
    found = []
    methods = ((Condition.BLIND, "without the image"), (Condition.MAJORITY, "by the most frequent answer"))
    for condition, method in methods:
        scored = (benchmark.rows["condition"] == condition) & ~np.isnan(benchmark.rows["score"])
        if scored.any():
            where = Tags(task=benchmark.task, split=benchmark.split, condition=condition)
            recipe = Recipe("chance_corrected", "score", where, CLUSTER_COLUMN, against="chance")
            value, n, _, interval, _ = aggregate(benchmark.rows, recipe)
            between = f" (95 % interval {interval.low:.0%} to {interval.high:.0%})" if interval else ""
            # A share that is as good as zero within its interval is chance of few items, which another reason reports.
            certain = interval is None or interval.low > BLIND.careful / 2
            found.append((certain, value, f"{max(value, 0):.0%} of the items are solved {method}{between}", n))
    blind = benchmark.rows["condition"] == Condition.BLIND
    if blind.any() and np.isnan(benchmark.rows["score"][blind]).all():
        # Not judged is not passed.
        message = "no item has a score without the image, so it is unknown whether they can be solved without it"
        return ValidityReason(findings.BLIND_SOLVABLE.code, "careful", message, 0.0, BLIND.careful, int(blind.sum()))
    if not found:
        return None
    certain, value, message, n = max(found)
    reason = _reason(findings.BLIND_SOLVABLE, message, value, BLIND, n)
    return reason if certain else reason._replace(level="yes")


def _unanswered(benchmark: Benchmark, positions: Ints) -> ValidityReason | None:
    """The share of items that the model did not answer: the score is that of the others only."""
    count = sum(reason in RETRYABLE for reason in _clean_reasons(benchmark.rows))
    if not count:
        return None
    total = count + len(positions)
    message = f"{count:,} of {total:,} items are unanswered, so the score is that of the others only"
    return _reason(findings.UNANSWERED_ITEMS, message, count / total, UNANSWERED, total)


def _not_understood(benchmark: Benchmark, positions: Ints) -> ValidityReason | None:
    """The share of items whose reply was not understood: the score is that of the others only."""
    rows = benchmark.rows
    lost = (rows["condition"] == Condition.CLEAN) & (rows["unscored"] == Unscored.NOT_UNDERSTOOD)
    count = int(lost.sum())
    if not count:
        return None
    total = count + len(positions)
    examples = quoted_examples(str(reply) for reply in rows["answer"][lost].tolist())
    message = f"the replies to {count:,} of {total:,} items were not understood{examples}"
    return _reason(findings.NOT_UNDERSTOOD_ITEMS, message, count / total, NOT_UNDERSTOOD, total)


def _contamination(benchmark: Benchmark, positions: Ints) -> ValidityReason | None:
    samples = benchmark.rows["sample"][positions].tolist()
    known = [i for i, sample in enumerate(samples) if sample in benchmark.images]
    if not known:
        return None
    in_train = np.array([samples[i] in benchmark.contaminated for i in known])
    correct = correctness(benchmark.rows)[positions][known]
    share = float(in_train.mean())
    message = f"{share:.1%} of the test images, or near copies of them, are in the training split"
    if in_train.any() and not in_train.all():
        message += (
            f"; accuracy is {correct[in_train].mean():.0%} on these and {correct[~in_train].mean():.0%} on the others"
        )
    return _reason(findings.CONTAMINATED, message, share, CONTAMINATION, len(known))


def _size(benchmark: Benchmark, positions: Ints) -> ValidityReason | None:
    """The difference of two models that is detected with a power of 0.8, from a real pair where there is one."""
    correct = correctness(benchmark.rows)[positions]
    names = benchmark.rows["concept"][positions].tolist()
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    groups = np.array([numbers[name] for name in names], dtype=np.int64)
    if len(numbers) < 2:
        message = (
            f"{_count(len(positions), 'item')} of {_count(len(numbers), 'concept')} cannot distinguish any two models"
        )
        return _reason(findings.TOO_FEW_ITEMS, message, LARGEST_DIFFERENCE, DETECTABLE, len(positions))
    effect, models = None, "two models of this variance"
    others = _scores_of_others(benchmark)
    if others:
        keys = item_keys(benchmark.rows, positions)
        other = max(others, key=len)
        paired = paired_difference(correct, np.array([other.get(key, np.nan) for key in keys]), groups)
        effect, models = minimum_detectable_effect(paired), "two models like these"
    if effect is None:
        variance = cluster_variance(correct, groups)
        if variance <= 0:
            # All alike: add one success and one failure, as Agresti & Coull (1998) do, with clusters as items.
            share = (correct.sum() + 1) / (len(correct) + 2)
            variance = share * (1 - share) / len(numbers)
        effect, models = effect_in_errors() * float(np.sqrt(2 * variance)), "two models of this variance"
    more = int(np.ceil(len(numbers) * (effect / DETECTABLE.careful) ** 2)) - len(numbers)
    additional_samples = f"; detecting 5 points takes {more:,} more concepts" if more > 0 else ""
    those = f"{len(positions):,} items of {len(numbers):,} concepts"
    if effect < LARGEST_DIFFERENCE:
        message = (
            f"{those} can distinguish {models} that differ by at least {effect * 100:.1f} points{additional_samples}"
        )
    else:
        message = f"{those} cannot distinguish {models}, however much they differ{additional_samples}"
    return _reason(findings.TOO_FEW_ITEMS, message, min(effect, LARGEST_DIFFERENCE), DETECTABLE, len(positions))


def _count(number: int, noun: str) -> str:
    return plural(number, noun)


def _duplicates(benchmark: Benchmark, positions: Ints) -> ValidityReason:
    counts = Counter(
        (benchmark.images.get(sample, sample), query, target) for sample, query, target in _cells(benchmark, positions)
    )
    items = sum(count - 1 for count in counts.values())
    share = (items + benchmark.duplicate_options) / len(positions)
    message = (
        f"{items} items are duplicates (same image, question and answer), and {benchmark.duplicate_options} offer an "
        "option twice"
    )
    return _reason(findings.DUPLICATE_ITEMS, message, share, DUPLICATES, len(positions))


def _cells(benchmark: Benchmark, positions: Ints) -> list[tuple[str, str, str]]:
    """Sample, question and correct answer of each row."""
    columns = (benchmark.rows[name][positions].tolist() for name in ("sample", "query", "target"))
    return list(zip(*columns, strict=True))


def _scores_of_others(benchmark: Benchmark) -> list[dict[ItemKey, float]]:
    """For each other model how correct it is on each item."""
    found = []
    for rows in benchmark.others:
        positions = scored_rows(rows)
        found.append(dict(zip(item_keys(rows, positions), correctness(rows)[positions].tolist(), strict=True)))
    return [scores for scores in found if scores]


def _uninformative(benchmark: Benchmark, positions: Ints) -> ValidityReason | None:
    correct = correctness(benchmark.rows)[positions].tolist()
    own = dict(zip(item_keys(benchmark.rows, positions), correct, strict=True))
    models = [own, *_scores_of_others(benchmark)]
    shared = [key for key in own if all(key in model for model in models)]
    if len(models) < MIN_MODELS or not shared:
        return None
    counts = [sum(model[key] > SOLVED for model in models) for key in shared]
    by_all, by_none = (sum(count == wanted for count in counts) / len(shared) for wanted in (len(models), 0))
    message = f"{by_all:.0%} of the items are solved by all of {len(models)} models, {by_none:.0%} by none"
    return _reason(findings.UNINFORMATIVE_ITEMS, message, by_all + by_none, UNINFORMATIVE, len(shared))


def _label_errors(benchmark: Benchmark, positions: Ints) -> ValidityReason:
    """Items whose image has another label elsewhere, or that several models confidently contradict."""
    rows = benchmark.rows
    has_target = any(rows["target"][positions].tolist())
    labels: dict[tuple[str, str], set[str]] = defaultdict(set)
    images = []
    for sample, query, target in _cells(benchmark, positions):
        key = (benchmark.images.get(sample, sample), query if has_target else "")
        labels[key].add((target if has_target else query).casefold())
        images.append(key)
    without_sample = all(not sample for sample, _ in item_keys(rows, positions))
    conflicting = set() if without_sample else {i for i, key in enumerate(images) if len(labels[key]) > 1}
    contradicted = _contradicted(benchmark, positions)
    doubtful = sorted(conflicting | contradicted)
    message = (
        f"{len(conflicting)} items share an image with an item of another label, and several models confidently "
        f"contradict {len(contradicted)}"
    )
    names = [str(rows["sample"][positions[i]]) for i in doubtful[:MAX_NAMED]]
    message += f" ({', '.join(names)})" if names else ""
    return _reason(findings.DOUBTFUL_LABELS, message, len(doubtful) / len(positions), LABEL_ERRORS, len(positions))


def _contradicted(benchmark: Benchmark, positions: Ints) -> set[int]:
    """The items that all of two or more models answer alike, confidently, and unlike the label."""
    answers = [_confident_answers(rows, scored_rows(rows)) for rows in (benchmark.rows, *benchmark.others)]
    answers = [each for each in answers if each]
    if len(answers) < MIN_MODELS:
        return set()
    found = set()
    for i, key in enumerate(item_keys(benchmark.rows, positions)):
        given = {each.get(key, "") for each in answers}
        if len(given) == 1 and given.pop() not in ("", str(benchmark.rows["target"][positions[i]])):
            found.add(i)
    return found


def _confident_answers(rows: Rows, positions: Ints) -> dict[ItemKey, str]:
    """The answers that a model gives with a confidence of at least 0.9."""
    confident = np.asarray(rows["confidence"], dtype=np.float64)[positions] >= MIN_CONFIDENCE
    answers = rows["answer"][positions]
    return {key: str(answers[i]) for i, key in enumerate(item_keys(rows, positions)) if confident[i]}
