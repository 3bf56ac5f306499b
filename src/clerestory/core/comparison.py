"""The comparison of two models: one result for each task, condition and group, and the samples that flipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clerestory.core.codec import Tags
from clerestory.core.evidence import Direction

ComparisonOutcome = Literal["better", "worse", "no_difference", "inconclusive"]
# Conditions are compared in these families, each as a whole.
ConditionFamily = Literal["clean", "corrupted", "perturbed_text", "ablated"]
ExclusionReason = Literal["machine_dependent", "different_candidates", "unmatched_queries", "too_few_clusters"]


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """Both models on one task, in one family of conditions, on all samples or on one value of a group.

    Attributes:
        task: such as ``image_to_text``.
        split: such as ``test``.
        condition: the family: ``clean``, ``corrupted`` (images) or ``perturbed_text``.
        group, value: such as ``style`` and ``noto``; both empty for all samples.
        metric: ``recall@10``, ``accuracy`` or ``chrf``; higher is better, 1 is perfect.
        a, b: the values of both models, on the questions that both scored.
        difference: ``a - b``.
        low, high: the bounds of its cluster-robust interval; None without one.
        method: of the interval; empty without one.
        p_value: of no difference, two-sided; None without an interval.
        p_adjusted: the same, adjusted for all rows of its family of claims (Holm 1979).
        p_mcnemar: of the exact McNemar test, for binary and independent scores; else None.
        only_a, only_b: how many questions only A, or only B, answered correctly; None for scores that are not binary.
        n: how many questions both scored.
        clusters: how many independent concepts they form.
        dropped: how many further questions at least one of them did not score.
        detectable: the smallest true difference that this pair would show with a power of 0.8; None if unknown,
            or if not even the largest difference would show.
        outcome: of A: ``better``, ``worse``, ``no_difference`` or ``inconclusive``.
        additional_rows: how many more questions an inconclusive outcome needs; None for the others and if unknown.
        message: one sentence with the numbers; nothing parses it.
    """

    task: str
    split: str
    condition: ConditionFamily
    group: str
    value: str
    metric: str
    a: float
    b: float
    difference: float
    low: float | None
    high: float | None
    method: str
    p_value: float | None
    p_adjusted: float | None
    p_mcnemar: float | None
    only_a: int | None
    only_b: int | None
    n: int
    clusters: int
    dropped: int
    detectable: float | None
    outcome: ComparisonOutcome
    additional_rows: int | None
    message: str

    @property
    def is_overall(self) -> bool:
        """Whether it covers all samples and not one value of a group."""
        return not self.group


@dataclass(frozen=True, slots=True)
class Flip:
    """A question that one of the two models answered correctly and the other did not.

    Attributes:
        task, split, condition, severity: of the question; the condition itself, such as ``fog``.
        family: the family of its condition.
        sample: the id of the sample.
        caption: the query, or the correct answer.
        correct: the model that answered correctly, ``a`` or ``b``.
        answer_a, answer_b: the two answers; empty where the answer is a rank.
        rank_a, rank_b: the ranks of the correct answer; None where the answer is not a rank.
        magnitude: how far it flipped; larger is further, comparable within a task.
    """

    task: str
    split: str
    condition: str
    severity: str
    family: ConditionFamily
    sample: str
    caption: str
    correct: Literal["a", "b"]
    answer_a: str
    answer_b: str
    rank_a: float | None
    rank_b: float | None
    magnitude: float


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Rows that a comparison leaves out.

    Attributes:
        reason: ``machine_dependent`` (timings), ``different_candidates`` (ranks among different numbers of
            candidates), ``unmatched_queries`` (evaluated for one model only) or ``too_few_clusters`` (of a group).
        message: one sentence; nothing parses it.
        task, split, group: which questions; empty for all.
        values: of the group.
    """

    reason: ExclusionReason
    message: str
    task: str = ""
    split: str = ""
    group: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricDifference:
    """One measurement that two evaluations share, and whether the paired samples show a difference.

    Attributes:
        metric: its name.
        slice: what it was measured on.
        unit, direction: of the values.
        a, b: the two stored values.
        difference: the mean of ``a - b`` over the samples that both scored; None where it cannot be paired.
        low, high: the bounds of its cluster-robust interval; None without one.
        p_adjusted: of no difference, adjusted for all measurements of its family (Holm 1979); None without an interval.
        n: how many samples both scored.
        outcome: of A: ``better``, ``worse``, ``no_difference`` or ``inconclusive``.
        message: one sentence with the numbers or the reason why there is none; nothing parses it.
    """

    metric: str
    slice: Tags
    unit: str
    direction: Direction
    a: float
    b: float
    difference: float | None
    low: float | None
    high: float | None
    p_adjusted: float | None
    n: int
    outcome: ComparisonOutcome
    message: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same questions.

    Attributes:
        a, b: their names, such as ``icons@3``.
        model_a, model_b: their digests.
        evidence_a, evidence_b: ids of the two evaluations.
        data: digest of the data of both evaluations.
        margin: the equivalence margin: the largest difference that is negligible.
        alpha: the family-wise error rate of claimed differences.
        results: those that cover all samples first.
        flips: the samples that flipped furthest, by task and direction.
        exclusions: what could not be compared, and why.
        evidence: id of the stored evidence of this comparison; empty before it is stored.
    """

    a: str
    b: str
    model_a: str
    model_b: str
    evidence_a: str
    evidence_b: str
    data: str
    margin: float
    alpha: float
    results: tuple[ComparisonRow, ...]
    flips: tuple[Flip, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    evidence: str = ""

    @property
    def verdict(self) -> ComparisonOutcome:
        """``worse`` if any result is, ``inconclusive`` if a whole task is, ``better`` if any is, else no difference."""
        outcomes = {row.outcome for row in self.results}
        if "worse" in outcomes:
            return "worse"
        incomparable = any(each.reason == "different_candidates" for each in self.exclusions)
        if incomparable or any(row.is_overall and row.outcome == "inconclusive" for row in self.results):
            return "inconclusive"
        return "better" if "better" in outcomes else "no_difference"

    @property
    def exit_code(self) -> int:
        """0 when no result is worse, 1 when one is, 3 when the data cannot show it."""
        return {"worse": 1, "inconclusive": 3}.get(self.verdict, 0)
