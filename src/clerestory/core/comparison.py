"""What a comparison of two models says: one line for each question asked of both, and the samples that flipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Word = Literal["better", "worse", "no_difference", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Line:
    """Both models on one task, in one family of conditions, on all rows or on one value of a group.

    Attributes:
        task: such as ``image_to_text``.
        split: such as ``test``.
        condition: the family: ``clean``, ``corrupted`` (pictures) or ``words`` (altered texts).
        group, value: such as ``style`` and ``noto``; both empty for all rows.
        measure: what the values are: ``recall@10``, ``accuracy``, ``chrf``; higher is better, 1 is perfect.
        a, b: the values of both, on the rows that both scored.
        difference: ``a - b``.
        low, high: ends of its cluster-robust interval; None where there is none.
        method: how the interval was made; empty where there is none.
        p: of no difference, two-sided; None where there is no interval.
        adjusted: the same for all lines of its family together (Holm 1979).
        exact: p of the exact McNemar test, where answers are right or wrong and independent; else None.
        only_a, only_b: how many only A, or only B, got right; None where answers are not right or wrong.
        n: how many rows both scored.
        clusters: how many independent concepts they form.
        dropped: how many more rows not both of them scored.
        detectable: the smallest true difference that this pair would show with a power of 0.8; None where unknown.
        word: of A: ``better``, ``worse``, ``no_difference`` or ``inconclusive``.
        needs: how many more rows an inconclusive line takes; None for the others and where it is unknown.
        sentence: the same in plain words, with the numbers.
    """

    task: str
    split: str
    condition: str
    group: str
    value: str
    measure: str
    a: float
    b: float
    difference: float
    low: float | None
    high: float | None
    method: str
    p: float | None
    adjusted: float | None
    exact: float | None
    only_a: int | None
    only_b: int | None
    n: int
    clusters: int
    dropped: int
    detectable: float | None
    word: Word
    needs: int | None
    sentence: str

    @property
    def whole(self) -> bool:
        """Whether it is about all rows and not about a group."""
        return not self.group


@dataclass(frozen=True, slots=True)
class Flip:
    """A question that one of the two got right and the other did not.

    Attributes:
        task, split, condition, severity: where it was asked; the condition itself, such as ``fog``.
        sample: the picture's id.
        caption: the words of the question, or the right answer.
        right: who got it right, ``a`` or ``b``.
        said_a, said_b: what each answered: an answer, or the place of the right one.
        far: how far it flipped; larger is further, comparable within a task.
    """

    task: str
    split: str
    condition: str
    severity: str
    sample: str
    caption: str
    right: Literal["a", "b"]
    said_a: str
    said_b: str
    far: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same questions.

    Attributes:
        a, b: what people call them, such as ``icons@3``.
        model_a, model_b: their digests.
        evidence_a, evidence_b: ids of the examinations that were compared.
        data: digest of the data both were examined on.
        margin: the largest difference that does not matter.
        alpha: how often a difference may be claimed where there is none.
        lines: those about all rows first.
        flips: the samples that flipped furthest, by task and direction.
        notes: what could not be compared, and why.
        blocked: how many questions that should be compared could not be.
        evidence: id of the evidence that holds all of this; empty before it is stored.
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
    lines: tuple[Line, ...]
    flips: tuple[Flip, ...] = ()
    notes: tuple[str, ...] = ()
    blocked: int = 0
    evidence: str = ""

    @property
    def verdict(self) -> Word:
        """One word: ``worse`` where anything is, ``inconclusive`` where a whole task is, ``better``, or neither."""
        words = {line.word for line in self.lines}
        if "worse" in words:
            return "worse"
        if self.blocked or any(line.whole and line.word == "inconclusive" for line in self.lines):
            return "inconclusive"
        return "better" if "better" in words else "no_difference"

    @property
    def exit_code(self) -> int:
        """0 when nothing is worse, 1 when something is, 3 when it cannot be told."""
        return {"worse": 1, "inconclusive": 3}.get(self.verdict, 0)
