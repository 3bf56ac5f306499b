"""Zero-shot classification with the user's own labels, and how often a label with such a probability is right.

A label is the normalised mean of the embeddings of its prompts, and the labels of an image are compared by a softmax
over the scaled similarities, as in an evaluation. Such probabilities are often too high or too low, so before a model
is used it classifies images with known names among random other names: isotonic regression of correctness on the
probability then says what a probability is worth, for several numbers of labels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clerestory.apps.confidence import (
    NOT_MEASURED,
    LabelCalibrators,
    choose_queries,
    concept_of_sample,
    fit_calibrator,
)
from clerestory.apps.search import SearchIndex
from clerestory.core.codec import decode
from clerestory.core.digest import canonical
from clerestory.core.errors import InputError
from clerestory.core.provenance import code_digest
from clerestory.models.protocols import Embedder, logit_scale_of
from clerestory.models.zero_shot import DEFAULT_LOGIT_SCALE, TEMPLATES, mean_of_prompts
from clerestory.store import Store

NUM_LABELS = (2, 5, 10, 30, 100)  # a calibrator for each
PLACE = "{}"
SEED = 0

Floats = NDArray[np.float64]
Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LabelScore:
    """A label of an image.

    Attributes:
        label: as the user wrote it.
        score: its probability among the labels; they sum to 1.
        calibrated: the share of right labels among those with such a probability; None if it was not measured.
        confidence: the same in a word.
    """

    label: str
    score: float
    calibrated: float | None
    confidence: str


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """The templates themselves, each with one place for the label.

    Raises:
        InputError: one has none, or several.
    """
    for each in templates:
        if each.count(PLACE) != 1:
            raise InputError(f"the template {each[:80]!r} does not have one {{}}", "write it as: a photo of a {}")
    return tuple(templates) or TEMPLATES


def label_prompts(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """The prompts of all labels, those of one label after those of the one before."""
    return [template.replace(PLACE, " ".join(label.split())) for label in labels for template in templates]


def probabilities_of(model: object, images_ND: Matrix, labels_KD: Floats) -> Floats:
    """(N, K) probabilities of the labels of each image; of one whose embedding is not finite, NaN."""
    logits_NK = _scale(model) * (images_ND.astype(np.float64) @ labels_KD.T)
    with np.errstate(invalid="ignore"):
        exponentials_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
        out_NK: Floats = exponentials_NK / exponentials_NK.sum(axis=1, keepdims=True)
    return out_NK


def label_scores(
    labels: Sequence[str], probabilities_K: Floats, calibrators: LabelCalibrators
) -> tuple[LabelScore, ...]:
    """The labels of one image, the most probable first."""
    calibrator = calibrators.of(len(labels))
    scores = []
    for i in np.argsort(-probabilities_K, kind="stable").tolist():
        p = float(probabilities_K[i])
        calibrated = round(calibrator.accuracy(p), 4) if calibrator else None
        word = calibrator.confidence(p).label if calibrator else NOT_MEASURED
        scores.append(LabelScore(labels[i], p, calibrated, word))
    return tuple(scores)


def fit_labels(model: Embedder, index: SearchIndex, store: Store) -> LabelCalibrators:
    """Fit the calibrators on the names of the indexed images, or read them from the store if that was done before."""
    code = code_digest("data", "models", "apps/confidence", "apps/label_scores")
    key = f"label-calibrators/{model.digest}/{index.data}/{code}"
    if (cached := store.cache_read(key)) is not None:
        return decode(LabelCalibrators, json.loads(cached))
    queries, held_out = choose_queries(index.samples, np.isfinite(index.embeddings()[:, 0]).tolist())
    names = [sample.caption for _, sample in queries]
    concepts = [concept_of_sample(sample) for _, sample in queries]
    fitted = []
    if len(queries) > 1 and len(set(concepts)) == len(concepts):
        rows_KD = mean_of_prompts(model.embed_texts(label_prompts(names, TEMPLATES)), len(names))
        images_ND = index.embeddings()[[row for row, _ in queries]]
        for number in (n for n in NUM_LABELS if n <= len(names)):
            answers = _answers(_scale(model) * (images_ND.astype(np.float64) @ rows_KD.T), number)
            if calibrator := fit_calibrator(answers, len(queries), held_out):
                fitted.append((number, calibrator))
    result = LabelCalibrators(tuple(fitted))
    store.cache_content(key, canonical(result))
    return result


def _answers(logits_NN: Floats, num_labels: int) -> list[tuple[float, bool]]:
    """Probability and correctness of each label, when each image's own name is mixed with random other names."""
    generator = np.random.default_rng(SEED)
    answers = []
    for i, row_N in enumerate(logits_NN):
        others = generator.permutation(np.delete(np.arange(len(row_N)), i))[: num_labels - 1]
        logits_K = row_N[[i, *others]]
        exponentials_K = np.exp(logits_K - logits_K.max())
        probabilities = (exponentials_K / exponentials_K.sum()).tolist()
        answers += [(p, position == 0) for position, p in enumerate(probabilities)]
    return answers


def _scale(model: object) -> float:
    return logit_scale_of(model) or DEFAULT_LOGIT_SCALE
