"""Whether a benchmark can be believed, and why not: one judgement for each reason, with its limits.

A benchmark is a task on a split of some data. Every limit is a convention, stated here with its reason; what is
measured is told beside it, so that anybody may draw the line elsewhere.
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
from clerestory.stages.evaluate.shared.retrieval_split import UNANSWERED
from clerestory.stages.evaluate.shared.row_builder import CLEAN
from clerestory.stages.evaluate.tasks.ablations import BLIND_VIEW, MAJORITY
from clerestory.stats.aggregate import Rows, aggregate
from clerestory.stats.intervals import cluster_variance
from clerestory.stats.paired import paired_difference
from clerestory.stats.power import minimum_detectable, reach

Floats = NDArray[np.float64]
Key = tuple[str, str]
Trust = Literal["yes", "careful", "no"]


class ValidityThresholds(NamedTuple):
    """From which value on a reason calls for care, and from which for distrust."""

    careful: float
    no: float


# Some items of any test can be guessed from words; MMStar (Chen et al. 2024) drops benchmarks to their vision-only part
# after finding a third and more of popular ones to be answered blindly.
BLIND = ValidityThresholds(0.10, 0.30)
# A per cent of copies moves a score by less than the interval of a thousand items; a tenth can reverse a ranking.
CONTAMINATION = ValidityThresholds(0.01, 0.10)
# Releases differ by a few points: a test that cannot see five tells two of them apart only by luck,
# and one that cannot see twenty tells good from bad by luck.
DETECTABLE = ValidityThresholds(0.05, 0.20)
# An item asked twice counts twice, and an option given twice cannot be chosen.
DUPLICATES = ValidityThresholds(0.01, 0.05)
# Only items that some solve and others do not tell models apart; with half of them idle the test is half as long.
IDLE = ValidityThresholds(0.50, 0.90)
# Ten popular test sets have 3.3 % wrong labels on average (Northcutt et al. 2021), enough to reorder close models.
NOISE = ValidityThresholds(0.01, 0.05)
# Questions that go unanswered are rarely chance ones: long, hard and delicate ones fail first. Their share bounds how
# far the number may be off.
SILENT = ValidityThresholds(0.01, 0.10)

CONFIDENT = 0.9
MODELS = 2


class ValidityReason(NamedTuple):
    """One judgement.

    Attributes:
        code: of the finding.
        level: ``yes`` (nothing wrong), ``careful`` or ``no``.
        words: one sentence with the numbers.
        value: what was measured.
        limit: what it should not exceed.
        n: on how many items.
    """

    code: str
    level: Trust
    words: str
    value: float
    limit: float
    n: int


@dataclass
class Benchmark:
    """One task on one split, as this model and others answered it.

    Attributes:
        task, split: what it is.
        rows: of this model, all views.
        others: of other models, rows of the same task and split.
        overlap: ids of samples whose picture was there to learn from.
        images: SHA-256 of the picture of each sample.
        repeated: how many items offer an option twice.
    """

    task: str
    split: str
    rows: Rows
    others: list[Rows] = field(default_factory=list)
    overlap: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    repeated: int = 0

    @property
    def name(self) -> str:
        """Such as ``yes_no/test``."""
        return f"{self.task}/{self.split}"


def correctness(rows: Rows) -> Floats:
    """How right each row is, 0…1: its score, else whether its rank is the first; NaN where it has neither."""
    score, rank = (np.asarray(rows[name], dtype=np.float64) for name in ("score", "rank"))
    first = np.where(np.isnan(rank), np.nan, (rank <= 1).astype(np.float64))
    return np.where(np.isnan(score), first, score)


def clean(rows: Rows) -> NDArray[np.int64]:
    """The places of the rows of the plain view that are scored."""
    return np.flatnonzero((rows["condition"] == CLEAN) & ~np.isnan(correctness(rows)))


def keys(rows: Rows, places: NDArray[np.int64]) -> list[Key]:
    """What makes a row the same item for two models: sample and question; a search by words has no sample."""
    by_words = (rows["task"] == "text_to_image") | (rows["operation"] == "text_to_image")
    return [("" if by_words[i] else str(rows["sample"][i]), str(rows["query"][i])) for i in places.tolist()]


def judge(benchmark: Benchmark) -> list[ValidityReason]:
    """Every reason that can be judged."""
    places = clean(benchmark.rows)
    if not len(places):
        return []
    found = (
        _blind(benchmark),
        _contaminated(benchmark, places),
        _too_small(benchmark, places),
        _duplicates(benchmark, places),
        _idle(benchmark, places),
        _noise(benchmark, places),
        _silent(benchmark, places),
    )
    return [reason for reason in found if reason is not None]


def verdict(reasons: Sequence[ValidityReason]) -> Trust:
    """The worst of the reasons."""
    levels = {reason.level for reason in reasons}
    return "no" if "no" in levels else "careful" if "careful" in levels else "yes"


def _level(value: float, limits: ValidityThresholds) -> Trust:
    return "no" if value > limits.no else "careful" if value > limits.careful else "yes"


def _reason(code: str, words: str, value: float, limits: ValidityThresholds, n: int) -> ValidityReason:
    return ValidityReason(code, _level(value, limits), words, round(value, 6), limits.careful, n)


def _blind(benchmark: Benchmark) -> ValidityReason | None:
    """The larger share of items solved without the picture, by the model or by the most frequent answer."""
    found = []
    for view, how in ((BLIND_VIEW, "without the picture"), (MAJORITY, "by the most frequent answer")):
        seen = (benchmark.rows["condition"] == view) & ~np.isnan(benchmark.rows["score"])
        if seen.any():
            where = Tags(task=benchmark.task, split=benchmark.split, condition=view)
            recipe = Recipe("chance_corrected", "score", where, "concept", against="chance")
            value, n, _, interval, _ = aggregate(benchmark.rows, recipe)
            between = f" (95 % interval {interval.low:.0%} to {interval.high:.0%})" if interval else ""
            # A share that may as well be next to nothing is a fluke of few items, which is said elsewhere.
            sure = interval is None or interval.low > BLIND.careful / 2
            found.append((sure, value, f"{max(value, 0):.0%} of the items are solved {how}{between}", n))
    if not found:
        return None
    sure, value, words, n = max(found)
    judged = _reason("CLR-E060", words, value, BLIND, n)
    return judged if sure else judged._replace(level="yes")


def _silent(benchmark: Benchmark, places: NDArray[np.int64]) -> ValidityReason | None:
    """The share of items that the model left unanswered: the number is that of the others only."""
    plain = benchmark.rows["unscored"][benchmark.rows["condition"] == CLEAN].tolist()
    silent = sum(str(reason).startswith(UNANSWERED) for reason in plain)
    if not silent:
        return None
    asked = silent + len(places)
    words = f"{silent:,} of {asked:,} items got no answer, so the number is that of the others only"
    return _reason("CLR-E066", words, silent / asked, SILENT, asked)


def _contaminated(benchmark: Benchmark, places: NDArray[np.int64]) -> ValidityReason | None:
    samples = benchmark.rows["sample"][places].tolist()
    known = [i for i, sample in enumerate(samples) if sample in benchmark.images]
    if not known:
        return None
    seen = np.array([samples[i] in benchmark.overlap for i in known])
    right = correctness(benchmark.rows)[places][known]
    share = float(seen.mean())
    words = f"{share:.1%} of the test pictures are among those to learn from, or look the same"
    if seen.any() and not seen.all():
        words += f"; right on {right[seen].mean():.0%} of these and on {right[~seen].mean():.0%} of the others"
    return _reason("CLR-E061", words, share, CONTAMINATION, len(known))


def _too_small(benchmark: Benchmark, places: NDArray[np.int64]) -> ValidityReason | None:
    """The difference between two models that would be seen with a power of 0.8, from a real pair where there is one."""
    right = correctness(benchmark.rows)[places]
    names = benchmark.rows["concept"][places].tolist()
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    groups = np.array([numbers[name] for name in names], dtype=np.int64)
    if len(numbers) < 2:
        return None
    effect, how = None, "two models of this spread"
    theirs = _solved(benchmark)
    if theirs:
        mine = keys(benchmark.rows, places)
        other = max(theirs, key=len)
        paired = paired_difference(right, np.array([other.get(key, np.nan) for key in mine]), groups)
        effect, how = minimum_detectable(paired), "two models like these"
    if effect is None:
        variance = cluster_variance(right, groups)
        if variance <= 0:
            # All alike: one more of each kind is imagined, as Agresti & Coull (1998) do, clusters counting as items.
            share = (right.sum() + 1) / (len(right) + 2)
            variance = share * (1 - share) / len(numbers)
        effect, how = reach() * float(np.sqrt(2 * variance)), "two models of this spread"
    more = int(np.ceil(len(numbers) * (effect / DETECTABLE.careful) ** 2)) - len(numbers)
    needs = f"; {more:,} more concepts would show 5 points" if more > 0 else ""
    words = (
        f"{len(places):,} items of {len(numbers):,} concepts tell {how} apart from {effect * 100:.1f} points on{needs}"
    )
    return _reason("CLR-E062", words, effect, DETECTABLE, len(places))


def _duplicates(benchmark: Benchmark, places: NDArray[np.int64]) -> ValidityReason:
    rows = benchmark.rows
    asked = Counter(
        (benchmark.images.get(sample, sample), query, target)
        for sample, query, target in zip(
            *(rows[c][places].tolist() for c in ("sample", "query", "target")), strict=True
        )
    )
    twice = sum(times - 1 for times in asked.values())
    share = (twice + benchmark.repeated) / len(places)
    words = f"{twice} items ask the same of the same picture again, and {benchmark.repeated} offer an option twice"
    return _reason("CLR-E063", words, share, DUPLICATES, len(places))


def _cells(rows: Rows, places: NDArray[np.int64]) -> list[tuple[str, str, str]]:
    """Sample, question and right answer of each row."""
    columns = (rows[name][places].tolist() for name in ("sample", "query", "target"))
    return list(zip(*columns, strict=True))


def _solved(benchmark: Benchmark) -> list[dict[Key, float]]:
    """For each other model how right it was on each item."""
    found = []
    for rows in benchmark.others:
        places = clean(rows)
        found.append(dict(zip(keys(rows, places), correctness(rows)[places].tolist(), strict=True)))
    return [each for each in found if each]


def _idle(benchmark: Benchmark, places: NDArray[np.int64]) -> ValidityReason | None:
    mine = dict(zip(keys(benchmark.rows, places), correctness(benchmark.rows)[places].tolist(), strict=True))
    models = [mine, *_solved(benchmark)]
    shared = [key for key in mine if all(key in model for model in models)]
    if len(models) < MODELS or not shared:
        return None
    counts = [sum(model[key] > 0.5 for model in models) for key in shared]
    everybody, nobody = (sum(c == wanted for c in counts) / len(shared) for wanted in (len(models), 0))
    words = f"of {len(models)} models all solve {everybody:.0%} of the items and none solves {nobody:.0%}"
    return _reason("CLR-E064", words, everybody + nobody, IDLE, len(shared))


def _noise(benchmark: Benchmark, places: NDArray[np.int64]) -> ValidityReason:
    """Items whose picture has another label elsewhere, or that several models are sure to be something else."""
    rows = benchmark.rows
    has_target = any(rows["target"][places].tolist())
    labels: dict[tuple[str, str], set[str]] = defaultdict(set)
    items = []
    for sample, query, target in _cells(rows, places):
        key = (benchmark.images.get(sample, sample), query if has_target else "")
        labels[key].add((target if has_target else query).casefold())
        items.append(key)
    by_words = all(not sample for sample, _ in keys(rows, places))
    torn = set() if by_words else {i for i, key in enumerate(items) if len(labels[key]) > 1}
    doubted = _doubted(benchmark, places)
    share = len(torn | doubted) / len(places)
    words = f"{len(torn)} items share a picture with an item of another label, and several models doubt {len(doubted)}"
    names = [str(rows["sample"][places[i]]) for i in sorted(torn | doubted)[:3]]
    words += f" ({', '.join(names)})" if names else ""
    return _reason("CLR-E065", words, share, NOISE, len(places))


def _doubted(benchmark: Benchmark, places: NDArray[np.int64]) -> set[int]:
    """The items that all models of two or more answer alike, surely, and not as the label says."""
    sure = [_sure(rows, clean(rows)) for rows in (benchmark.rows, *benchmark.others)]
    sure = [each for each in sure if each]
    if len(sure) < MODELS:
        return set()
    found = set()
    for i, key in enumerate(keys(benchmark.rows, places)):
        answers = {each.get(key, "") for each in sure}
        if len(answers) == 1 and answers.pop() not in ("", str(benchmark.rows["target"][places[i]])):
            found.add(i)
    return found


def _sure(rows: Rows, places: NDArray[np.int64]) -> dict[Key, str]:
    """The answers that a model gives with a confidence of 0.9 or more."""
    confident = np.asarray(rows["confidence"], dtype=np.float64)[places] >= CONFIDENT
    answers = rows["answer"][places]
    return {key: str(answers[i]) for i, key in enumerate(keys(rows, places)) if confident[i]}
