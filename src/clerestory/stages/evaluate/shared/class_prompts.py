"""Which classes pictures can be sorted into, and the words a model is asked with.

A *label field* is a group of the samples (``emoji_group``, ``category``) or the concept itself; its values are the
classes. Values that name nothing, such as ``other``, are no classes: their pictures are unscored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import not_found
from clerestory.core.sample import Sample
from clerestory.stages.evaluate.shared.retrieval_split import UNREADABLE
from clerestory.stages.evaluate.suite import NotApplicable

if TYPE_CHECKING:
    from clerestory.stages.evaluate.context import EvaluationContext

CONCEPT = "concept"
FIELDS = ("label", "class", "category", "emoji_group")
NAMELESS = ("", "none", "other", "unknown", "mixed")
MOST = 1000
NO_LABEL = "its label names no class"
# Emoji groups are named by two things at once: food-drink is food and drink.
JOINTS = {"emoji_group": " and "}
TEMPLATES = ("{}", "{} icon", "a picture of {}", "an icon of {}", "a drawing of {}", "something to do with {}")
BARE = ("{}",)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Classes:
    """A label field and its K classes.

    Attributes:
        field: the group, or ``concept``.
        names: the classes, sorted.
    """

    field: str
    names: tuple[str, ...]

    def of(self, samples: Iterable[Sample]) -> Ints:
        """The class number of each sample, -1 where its label is no class."""
        numbers = {name: i for i, name in enumerate(self.names)}
        return np.array([numbers.get(label_of(sample, self.field), -1) for sample in samples], dtype=np.int64)

    def words(self, name: str) -> str:
        """A class as people say it."""
        return " ".join(name.replace("-", JOINTS.get(self.field, " ")).replace("_", " ").split())

    def only(self, names: Iterable[str]) -> Classes:
        """The same field with some of its classes."""
        wanted = set(names)
        return Classes(self.field, tuple(name for name in self.names if name in wanted))


def label_of(sample: Sample, field: str) -> str:
    """A sample's value of a label field, empty when it has none."""
    return sample.concept if field == CONCEPT else sample.groups.get(field, "")


def find_classes(bench: EvaluationContext) -> Classes:
    """The classes of the evaluated splits: those of the setting ``label``, else of the best field there is.

    The best is the first of ``FIELDS`` that tells two classes or more apart, else the concept.

    Raises:
        NotFound: the setting names a field that the data does not have.
        NotApplicable: no field has between 2 and 1,000 classes.
    """
    samples = [sample for part in bench.splits.values() for sample in part]
    wanted = bench.config.label_field
    groups = {name for sample in bench.data for name in sample.groups}
    if wanted and wanted not in groups | {CONCEPT}:
        raise not_found("label", wanted, groups | {CONCEPT})
    for field in (wanted,) if wanted else (*FIELDS, CONCEPT):
        found = {label_of(sample, field) for sample in samples}
        names = tuple(sorted(name for name in found if name not in NAMELESS))
        if 2 <= len(names) <= MOST:
            return Classes(field, names)
    raise NotApplicable(
        f"no label sorts the pictures into 2 to {MOST:,} classes",
        "give the samples a group such as category, and name it in the setting label",
    )


def templates(lang: str) -> tuple[str, ...]:
    """The sentences a class is put into; they are English, so other languages get the bare word."""
    return TEMPLATES if lang == "en" or lang.startswith("en-") else BARE


def class_embeddings(bench: EvaluationContext, classes: Classes) -> Floats:
    """(K, D) unit rows: for each class the mean of its prompts' embeddings, made a unit row again."""
    sentences = templates(bench.config.language)
    texts = [sentence.format(classes.words(name)) for name in classes.names for sentence in sentences]
    each_KTD = bench.embed_texts(texts).astype(np.float64).reshape(len(classes.names), len(sentences), -1)
    return unit(each_KTD.mean(axis=1))


def unit(rows_ND: Floats) -> Floats:
    """Rows of length 1; a row of noughts stays as it is."""
    lengths_N1 = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    found: Floats = rows_ND / np.where(lengths_N1 > 0, lengths_N1, 1.0)
    return found


def reasons(labels_N: Ints, embeddings_ND: NDArray[np.float32]) -> list[str]:
    """Why each picture cannot be scored, empty where it can."""
    broken_N = np.asarray(np.isnan(embeddings_ND).any(axis=1))
    return [
        UNREADABLE if broken else "" if label >= 0 else NO_LABEL
        for label, broken in zip(labels_N.tolist(), broken_N.tolist(), strict=True)
    ]


def facts(classes: Classes, lang: str) -> dict[str, str]:
    """What the classes are and how they are asked for."""
    return {
        "classes": f"the {len(classes.names)} values of {classes.field}: {shown(classes.names)}",
        "prompts": f"normalised mean over {' · '.join(templates(lang))}",
    }


def shown(names: Sequence[str], most: int = 12) -> str:
    """A list in words, cut short."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
