"""The classes of classification, the prompts that describe them to a model, and the rows of its predictions.

A *label field* is a group of the samples (``emoji_group``, ``category``) or the concept itself; its values are the
classes. Values that name nothing, such as ``other``, are not classes: their images are unscored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Fact
from clerestory.core.errors import not_found
from clerestory.core.rows import Unscored
from clerestory.core.sample import Sample
from clerestory.models.protocols import logit_scale_of
from clerestory.models.zero_shot import DEFAULT_LOGIT_SCALE, TEMPLATES, mean_of_prompts
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import RowBuilder
from clerestory.stages.evaluate.samples import concept_of
from clerestory.stages.evaluate.suite import NotApplicable
from clerestory.stats.calibration import brier_each, nll_each, probabilities

CONCEPT_FIELD = "concept"
LABEL_FIELDS = ("label", "class", "category", "emoji_group")
NOT_CLASSES = ("", "none", "other", "unknown", "mixed")
MAX_CLASSES = 1000
MAX_LISTED = 12
# Emoji groups are named by two things at once: food-drink is food and drink.
JOINTS = {"emoji_group": " and "}
BARE_TEMPLATES = ("{}",)

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
        """The class index of each sample, -1 where its label is not a class."""
        indices = {name: i for i, name in enumerate(self.names)}
        return np.array([indices.get(label_of(sample, self.field), -1) for sample in samples], dtype=np.int64)

    def description(self, name: str) -> str:
        """The text that stands for a class in a prompt."""
        return " ".join(name.replace("-", JOINTS.get(self.field, " ")).replace("_", " ").split())

    def subset(self, names: Iterable[str]) -> Classes:
        """The same field with some of its classes."""
        wanted = set(names)
        return Classes(self.field, tuple(name for name in self.names if name in wanted))


def label_of(sample: Sample, field: str) -> str:
    """A sample's value of a label field, empty when it has none."""
    return sample.concept if field == CONCEPT_FIELD else sample.groups.get(field, "")


def cluster_of(sample: Sample, classes: Classes, language: str) -> str:
    """The cluster of a classified image: its concept, or the image itself where the concept is only its class."""
    label = label_of(sample, classes.field)
    return sample.id if label and label == sample.concept else concept_of(sample, language)


def find_classes(context: EvaluationContext) -> Classes:
    """The classes of the evaluated splits: those of the setting ``label_field``, else of the first field with two.

    Raises:
        NotFound: the data does not have the field of the setting.
        NotApplicable: no field has between 2 and 1,000 classes.
    """
    samples = [sample for split in context.splits.values() for sample in split]
    configured = context.config.label_field
    groups = {name for sample in context.data for name in sample.groups}
    if configured and configured not in groups | {CONCEPT_FIELD}:
        raise not_found("label field", configured, groups | {CONCEPT_FIELD})
    for field in (configured,) if configured else (*LABEL_FIELDS, CONCEPT_FIELD):
        labels = {label_of(sample, field) for sample in samples}
        names = tuple(sorted(name for name in labels if name not in NOT_CLASSES))
        if 2 <= len(names) <= MAX_CLASSES:
            return Classes(field, names)
    raise NotApplicable(
        f"no label field has 2 to {MAX_CLASSES:,} classes",
        "give the samples a group such as category, and name it in the setting label_field",
    )


def prompt_templates(language: str) -> tuple[str, ...]:
    """The templates of the prompts; they are English, so in other languages the class name is the prompt."""
    return TEMPLATES if language == "en" or language.startswith("en-") else BARE_TEMPLATES


def class_embeddings(context: EvaluationContext, classes: Classes) -> Floats:
    """(K, D) unit rows: for each class the normalised mean of the embeddings of its prompts (Radford et al. 2021)."""
    templates = prompt_templates(context.config.language)
    texts = [template.format(classes.description(name)) for name in classes.names for template in templates]
    return mean_of_prompts(context.embed_texts(texts), len(classes.names))


def logit_scale(context: EvaluationContext) -> float:
    """The factor on cosines before a softmax: the model's own, else CLIP's 100."""
    return logit_scale_of(context.model) or DEFAULT_LOGIT_SCALE


def unscored_reasons(labels_N: Ints, embeddings_ND: NDArray[np.float32]) -> list[Unscored | str]:
    """Why each image cannot be scored, empty where it can."""
    unreadable_N = np.asarray(np.isnan(embeddings_ND).any(axis=1))
    return [
        Unscored.UNREADABLE_IMAGE if unreadable else "" if label >= 0 else Unscored.UNKNOWN_LABEL
        for label, unreadable in zip(labels_N.tolist(), unreadable_N.tolist(), strict=True)
    ]


def prediction_columns(logits_NK: Floats, labels_N: Ints, temperature: float | None = None) -> dict[str, Floats]:
    """The number columns of N predictions; with a temperature, the ``scaled_…`` ones as well.

    The prediction is the class of the highest logit, the first of equal ones.
    """
    columns = {"score": (logits_NK.argmax(axis=1) == labels_N).astype(np.float64)}
    columns["chance"] = np.full(len(labels_N), 1 / logits_NK.shape[1])
    for prefix, divisor in (("", 1.0), ("scaled_", temperature)):
        if divisor is not None:
            p_NK = probabilities(logits_NK, divisor)
            columns[f"{prefix}confidence"] = np.clip(p_NK.max(axis=1), 0.0, 1.0)
            columns[f"{prefix}nll"] = nll_each(logits_NK, labels_N, divisor)
            columns[f"{prefix}brier"] = brier_each(p_NK, labels_N)
    return columns


def add_predictions(
    builder: RowBuilder,
    context: EvaluationContext,
    samples: Sequence[Sample],
    classes: Classes,
    logits_NK: Floats,
    unscored: Sequence[Unscored | str],
    cells: Mapping[str, str],
    temperature: float | None = None,
    more: Sequence[Mapping[str, str | float]] = (),
) -> None:
    """Add a row for each of N images; the logits of images with a reason in ``unscored`` are ignored.

    ``cells`` are the same in all rows; ``more`` has further cells of each row, which take precedence.
    """
    labels_N = classes.of(samples)
    scored = [i for i, reason in enumerate(unscored) if not reason]
    numbers = prediction_columns(logits_NK[scored], labels_N[scored], temperature) if scored else {}
    answers = logits_NK[scored].argmax(axis=1).tolist() if scored else []
    position = {i: n for n, i in enumerate(scored)}
    for i, sample in enumerate(samples):
        row: dict[str, str | float] = dict(cells)
        if i in position:
            row |= {name: float(column[position[i]]) for name, column in numbers.items()}
            row["answer"] = classes.names[answers[position[i]]]
        row |= {
            "sample": sample.id,
            "concept": cluster_of(sample, classes, context.config.language),
            "target": classes.names[labels_N[i]] if labels_N[i] >= 0 else "",
            "image": sample.image,
            "unscored": unscored[i],
        }
        row |= more[i] if more else {}
        builder.add([sample], **row)


def class_facts(context: EvaluationContext, classes: Classes) -> dict[str, Fact]:
    """The classes, their prompts, and the scale of zero-shot logits."""
    return {
        "classes.label_field": classes.field,
        "classes.count": len(classes.names),
        "classes.names": classes.names[:MAX_LISTED],
        "classes.prompts": prompt_templates(context.config.language),
        "zero_shot.logit_scale": logit_scale(context),
        "zero_shot.logit_scale_of_model": logit_scale_of(context.model) is not None,
    }
