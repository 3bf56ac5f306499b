"""Tags of photographs: everyday words such as "dog", "person" or "bus", and "not sure" where none is likely.

A tag comes from the photo encoder's class probabilities, summed over the classes that the word covers (the most
specific word that is probable enough is taken), or from a regression on the captions of openly licensed photographs,
which knows what ImageNet has no classes for: people, kitchens, food, snow. Probabilities are calibrated on captions: of
100 tags with a probability of 0.9, about 90 are words of a caption.

Shape suffixes: N photographs, F features, K classes, T tags.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clerestory.stats.ridge import fit_ridge

if TYPE_CHECKING:
    from clerestory.models.photo.encoder import PhotoFeatures

Floats = NDArray[np.floating[Any]]

TAGS_FILE, WORDS_FILE = "tags.json", "tags.safetensors"
MIN_SUM = 0.5  # of the class probabilities
MIN_PROBABILITY = 0.8  # of a tag that is shown
MIN_PRECISION = 0.9  # of a learned tag on photographs it was not fitted on
MIN_TAGGED = 10  # photographs at that precision; a word with fewer is not learned
MAX_TAGS = 4
NOT_SURE = "not sure"


@dataclass(frozen=True, slots=True)
class Tag:
    """A word for what a photograph shows, and the calibrated probability that it is right."""

    text: str
    probability: float


@dataclass(frozen=True, slots=True)
class ClassTag:
    """A word of the vocabulary.

    Attributes:
        tag: the word.
        classes: the classes it covers, by number.
        words: words that mean it or something it covers.
    """

    tag: str
    classes: tuple[int, ...]
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LearnedTags:
    """Words learned from captions, by a ridge regression from the features to their occurrence.

    Attributes:
        names: the words.
        weight: ``(F, T)``.
        bias: (T).
        threshold: the score from which on a word is a tag (T).
        slope, offset: of the logistic map from scores to probabilities (T).
    """

    names: tuple[str, ...]
    weight: Floats
    bias: Floats
    threshold: Floats
    slope: Floats
    offset: Floats

    def tags(self, features_NF: Floats) -> list[list[Tag]]:
        """The words of each photograph whose score is high enough."""
        scores_NT = features_NF @ self.weight + self.bias
        probabilities_NT = 1 / (1 + np.exp(-(self.slope * scores_NT + self.offset)))
        return [
            [Tag(name, float(p)) for name, p, passes in zip(self.names, row, high, strict=True) if passes]
            for row, high in zip(probabilities_NT, scores_NT >= self.threshold, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Tagger:
    """The vocabulary and how its probabilities are calibrated.

    Attributes:
        vocabulary: the words of the classes.
        learned: words learned from captions.
        slope, offset: of the logistic map from the log odds of a summed class probability to the probability that the
            tag is right.
    """

    vocabulary: tuple[ClassTag, ...]
    learned: tuple[LearnedTags, ...]
    slope: float = 1.0
    offset: float = 0.0

    def tags(self, found: PhotoFeatures) -> list[list[Tag]]:
        """The tags of each photograph, most probable first; an empty list means "not sure".

        Args:
            found: as ``PhotoEncoder.features`` returns it.
        """
        by_class = self.class_tags(found.logits)
        by_word = [each.tags(found.features) for each in self.learned]
        return [self._merge(tag, [t for rows in by_word for t in rows[i]]) for i, tag in enumerate(by_class)]

    def class_tags(self, logits_NK: Floats) -> list[Tag | None]:
        """The most specific word of each photograph whose classes have a summed probability of ``MIN_SUM``."""
        exponentials_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
        probabilities_NK = exponentials_NK / exponentials_NK.sum(axis=1, keepdims=True)
        ordered = sorted(self.vocabulary, key=lambda each: len(each.classes))
        sums_NT = np.stack([probabilities_NK[:, list(each.classes)].sum(axis=1) for each in ordered], axis=1)
        result: list[Tag | None] = []
        for row_T in sums_NT:
            passing = np.flatnonzero(row_T >= MIN_SUM)
            if not len(passing):
                result.append(None)
                continue
            share = min(float(row_T[passing[0]]), 1 - 1e-6)
            odds = self.slope * float(np.log(share / (1 - share))) + self.offset
            result.append(Tag(ordered[passing[0]].tag, 1 / (1 + float(np.exp(-odds)))))
        return result

    def _merge(self, by_class: Tag | None, learned: Sequence[Tag]) -> list[Tag]:
        """Both kinds of tags, without a word that covers another one of them."""
        best: dict[str, Tag] = {}
        for tag in (*learned, *([by_class] if by_class else ())):
            if tag.text not in best or best[tag.text].probability < tag.probability:
                best[tag.text] = tag
        classes = {each.tag: set(each.classes) for each in self.vocabulary if each.tag in best}
        wide = {a for a in classes for b in classes if classes[a] > classes[b]}
        kept = [tag for name, tag in best.items() if name not in wide and tag.probability >= MIN_PROBABILITY]
        return sorted(kept, key=lambda tag: -tag.probability)[:MAX_TAGS]


def fit_learned_tags(features_NF: Floats, present_NT: NDArray[np.bool_], names: Sequence[str]) -> LearnedTags:
    """Learn words from the captions of photographs; a word that cannot be predicted precisely enough is left out.

    Precision is that of leave-one-out predictions, on the ``MIN_TAGGED`` photographs or more with the highest scores.

    Args:
        features_NF: of the photographs.
        present_NT: whether a caption of each photograph has the word.
        names: the words.
    """
    ridge = fit_ridge(features_NF, present_NT.astype(np.float64))
    kept, thresholds, slopes, offsets = [], [], [], []
    for i in range(len(names)):
        order = np.argsort(-ridge.left_out[:, i], kind="stable")
        precision = np.cumsum(present_NT[order, i]) / np.arange(1, len(order) + 1)
        passing = np.flatnonzero(precision >= MIN_PRECISION)
        if not len(passing) or passing[-1] + 1 < MIN_TAGGED:
            continue
        kept.append(i)
        thresholds.append(ridge.left_out[order[passing[-1]], i])
        slope, offset = fit_logistic(ridge.left_out[:, i], present_NT[:, i])
        slopes.append(slope)
        offsets.append(offset)
    weight_FT = ridge.weight[:, kept]
    bias_T = ridge.target_mean[kept] - ridge.feature_mean @ weight_FT
    chosen = tuple(names[i] for i in kept)
    return LearnedTags(chosen, weight_FT, bias_T, np.array(thresholds), np.array(slopes), np.array(offsets))


def fit_logistic(scores_N: Floats, is_right_N: NDArray[np.bool_], steps: int = 50) -> tuple[float, float]:
    """Slope and offset of the probability of being right as a function of the score, by Newton's method.

    A weak prior (one right and one wrong answer at the ends of the scale) keeps the slope finite.
    """
    ends = np.array([scores_N.min(), scores_N.max()])
    x_N2 = np.stack([np.concatenate([scores_N, ends]), np.ones(len(scores_N) + 2)], axis=1)
    y_N = np.concatenate([is_right_N.astype(np.float64), [1.0, 0.0]])
    weight_2 = np.zeros(2)
    for _ in range(steps):
        p_N = 1 / (1 + np.exp(-np.clip(x_N2 @ weight_2, -30, 30)))
        hessian = (x_N2 * (p_N * (1 - p_N))[:, None]).T @ x_N2 + 1e-6 * np.eye(2)
        weight_2 += np.linalg.solve(hessian, x_N2.T @ (y_N - p_N))
    return float(weight_2[0]), float(weight_2[1])


@cache
def included_tagger() -> Tagger:
    """The tagger of the package; ``make photo-tags`` fits it."""
    from clerestory.models.loading import load_tensors
    from clerestory.models.photo.folder import resource

    content = json.loads(resource(TAGS_FILE).read_text(encoding="utf-8"))
    tensors, _ = load_tensors(resource(WORDS_FILE))
    columns = (tensors[name].double().numpy() for name in ("weight", "bias", "threshold", "slope", "offset"))
    learned = LearnedTags(tuple(content["learned"]), *columns)
    vocabulary = tuple(ClassTag(t["tag"], tuple(t["classes"]), tuple(t["words"])) for t in content["tags"])
    return Tagger(vocabulary, (learned,), content["slope"], content["offset"])


def shared_tags(a: Sequence[Tag], b: Sequence[Tag] | str) -> list[str]:
    """The tags that two photographs share, or that a query names: the reason why one was found by the other.

    Args:
        a: the tags of a photograph.
        b: the tags of another one, or the words of a query.
    """
    if not isinstance(b, str):
        return [tag.text for tag in a if tag.text in {other.text for other in b}]
    words = f" {' '.join(''.join(c if c.isalnum() else ' ' for c in b.lower()).split())} "
    means = {each.tag: (each.tag, *each.words) for each in included_tagger().vocabulary}
    return [
        tag.text
        for tag in a
        if any(f" {word} " in words or f" {word}s " in words for word in means.get(tag.text, (tag.text,)))
    ]
