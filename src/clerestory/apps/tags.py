"""Tags of photographs: everyday words such as "dog", "person" or "bus", and "not sure" where none is likely.

A tag comes from the photo encoder's class probabilities, summed over the classes that the word covers (the most
specific word that is probable enough is taken), or from a regression on the captions of openly licensed photographs,
which knows what ImageNet has no classes for: people, kitchens, food, snow. Probabilities are calibrated on captions: of
100 tags with a probability of 0.9, about 90 are words of a caption.

Shape suffixes: N photographs, F features, K classes, T tags.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clerestory.models.photo.learned_tags import LearnedTags, phrases_of

if TYPE_CHECKING:
    from clerestory.models.photo.encoder import PhotoEncoder, PhotoFeatures

Floats = NDArray[np.floating[Any]]

TAGS_FILE, WORDS_FILE = "tags.json", "tags.safetensors"
MIN_SUM = 0.5  # of the class probabilities
MIN_PROBABILITY = 0.8  # of a tag that is shown
MAX_TAGS = 4
NOT_SURE = "not sure"
# How probable a tag is in words; below the last of these it is not shown.
LIKELIHOODS = ((0.95, "almost certain"), (0.9, "very likely"), (MIN_PROBABILITY, "likely"))


@dataclass(frozen=True, slots=True)
class Tag:
    """A word for what a photograph shows, and the calibrated probability that it is right."""

    text: str
    probability: float

    @property
    def likelihood(self) -> str:
        """The probability in words."""
        words = (word for minimum, word in LIKELIHOODS if self.probability >= minimum)
        return next(words, LIKELIHOODS[-1][1])


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
class Tagger:
    """The vocabulary and how its probabilities are calibrated.

    Attributes:
        vocabulary: the words of the classes.
        learned: words learned from captions.
        meanings: of each of these tags, the words that mean it or something it covers.
        slope, offset: of the logistic map from the log odds of a summed class probability to the probability that the
            tag is right.
    """

    vocabulary: tuple[ClassTag, ...]
    learned: tuple[LearnedTags, ...]
    slope: float = 1.0
    offset: float = 0.0
    meanings: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def tags(self, found: PhotoFeatures) -> list[list[Tag]]:
        """The tags of each photograph, most probable first; an empty list means "not sure".

        Args:
            found: as ``PhotoEncoder.features`` returns it.
        """
        by_class = self.class_tags(found.logits)
        by_word = [each.probable(found.features) for each in self.learned]
        return [self._merge(tag, [Tag(*t) for rows in by_word for t in rows[i]]) for i, tag in enumerate(by_class)]

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


@cache
def included_tagger() -> Tagger:
    """The tagger of the package; ``make photo-tags`` fits it."""
    from clerestory.models.loading import load_tensors
    from clerestory.models.photo.folder import resource

    content = json.loads(resource(TAGS_FILE).read_text(encoding="utf-8"))
    tensors, _ = load_tensors(resource(WORDS_FILE))
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    learned = LearnedTags.from_tensors((each["tag"] for each in content["learned"]), arrays)
    vocabulary = tuple(ClassTag(t["tag"], tuple(t["classes"]), tuple(t["words"])) for t in content["tags"])
    meanings: dict[str, frozenset[str]] = {}
    for each in (*content["tags"], *content["learned"]):
        meanings[each["tag"]] = meanings.get(each["tag"], frozenset()) | {each["tag"], *each["words"]}
    return Tagger(vocabulary, (learned,), content["slope"], content["offset"], meanings)


def tagger_of(model: PhotoEncoder) -> Tagger:
    """The tagger of a model: the included one, and the words that were learned from the user's own captions."""
    included = included_tagger()
    return replace(included, learned=(*included.learned, model.own_tags)) if model.own_tags else included


def photograph_tags(model: PhotoEncoder, found: PhotoFeatures) -> list[tuple[Tag, ...] | None]:
    """The tags of each image, most probable first; empty means "not sure". None for other images.

    Args:
        model: the encoder.
        found: what ``model.features`` returned.
    """
    from clerestory.models.photo.kinds import ImageKind, kind_probe

    kinds = [guess.kind for guess in kind_probe().guess(found.features)]
    some = tagger_of(model).tags(found)
    return [tuple(tags) if kind == ImageKind.PHOTOGRAPH else None for kind, tags in zip(kinds, some, strict=True)]


def shared_tags(a: Sequence[Tag], b: Sequence[Tag] | str) -> list[str]:
    """The tags that two photographs share, or that a query names: the reason why one was found by the other.

    Args:
        a: the tags of a photograph.
        b: the tags of another one, or the words of a query.
    """
    if not isinstance(b, str):
        return [tag.text for tag in a if tag.text in {other.text for other in b}]
    words, meanings = phrases_of([b]), included_tagger().meanings
    return [tag.text for tag in a if words & {tag.text, *meanings.get(tag.text, ())}]


def encode_tag(tag: Tag) -> dict[str, object]:
    """A tag for a program."""
    return {"text": tag.text, "probability": round(tag.probability, 3)}


def reasons(tags: Sequence[Tag] | None, words: str, images: Sequence[Tag]) -> tuple[str, ...]:
    """The tags of a photograph that a query names, or that its images have, in the order of the photograph's tags.

    Args:
        tags: of the photograph; None where there are none to be had.
        words: of the query.
        images: the tags of all images of the query.
    """
    named = {*shared_tags(tags or (), words), *shared_tags(tags or (), images)}
    return tuple(tag.text for tag in tags or () if tag.text in named)
