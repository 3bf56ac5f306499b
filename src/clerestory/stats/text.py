"""Scores for generated text."""

from __future__ import annotations

from collections import Counter


def chrf(hypothesis: str, reference: str, order: int = 6, beta: float = 2.0) -> float:
    """Character n-gram F score, 0…1 (chrF2; Popović 2015).

    Whitespace is ignored, case is not. Precision and recall are averaged over the n-gram lengths 1…``order`` that both
    texts are long enough for, then combined with recall weighted ``beta`` times as much: the definition that sacreBLEU
    prints as ``chrF2|nc:6|nw:0|space:no|eff:yes`` (times 100). Two texts of which one is empty score 0.
    """
    left, right = "".join(hypothesis.split()), "".join(reference.split())
    lengths = range(1, min(order, len(left), len(right)) + 1)
    if not lengths:
        return 0.0
    precision = recall = 0.0
    for n in lengths:
        ours, theirs = _ngrams(left, n), _ngrams(right, n)
        matches = (ours & theirs).total()
        precision += matches / ours.total()
        recall += matches / theirs.total()
    if precision == 0.0:
        return 0.0
    precision, recall, factor = precision / len(lengths), recall / len(lengths), beta * beta
    return (1 + factor) * precision * recall / (factor * precision + recall)


def _ngrams(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))
