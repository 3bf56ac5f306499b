"""Shortcuts: classes that can be predicted without the content of the image.

A classifier is given the facts about each file (size, shape, format, metadata, source), the bytes per pixel, or only a
frame of the image at 16 x 16 pixels, and never the middle. If it tells the classes apart, so can a model, whose score
then says little about what it recognises (Geirhos et al., 2020, arXiv:2004.07780; the test by a model that sees a part
only is that of Poliak et al., 2018, arXiv:1805.01042, for text).

The classifier is a ridge regression in which every class has the same weight. It is evaluated out-of-fold by the
balanced accuracy, which is one in the number of classes for every classifier that knows nothing, whatever the sizes
of the classes.

Shapes: N samples, K classes, F features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clerestory.core.evidence import Severity
from clerestory.core.sample import Dataset
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.group_findings import SHORTCUT, ShortcutKind
from clerestory.stages.audit.image_facts import CHROMA_SIDE, FORMATS, THUMB_SIDE, ImageFlag
from clerestory.stages.audit.label_classes import FOLDS, LabelClasses, Labels, stratified_folds

Floats = NDArray[np.float64]
MAX_SAMPLES = 20_000  # a random choice of more gives the same answer
FRAME_SIDE = 16
BINS, MAX_SOURCES = 12, 50  # 12: the parts of 2, 3, 4 and 6 equal classes are bins
PENALTY = 1e-3  # of the ridge, relative to the mean variance of a feature
Z_95 = 1.959963984540054


@dataclass(frozen=True)
class ShortcutScore:
    """How well the classes are told apart.

    Attributes:
        accuracy: balanced, out-of-fold.
        low, high: 95 % interval, by the variance between clusters.
        is_right: (N,) whether the class of each sample was predicted.
    """

    accuracy: float
    low: float
    high: float
    is_right: NDArray[np.bool_]


def check_shortcuts(
    data: Dataset, facts: NDArray[np.void], classes: LabelClasses | None, config: AuditConfig
) -> list[Detection]:
    """Find out whether facts of the files, or borders of the images, tell the classes; at most one for each kind.

    Args:
        data: the dataset.
        facts: about the image of each sample (``read_image_facts``).
        classes: of the dataset; nothing is checked if it has none.
        config: the limits.
    """
    if classes is None:
        return []
    places = classes.places[facts["width"][classes.places] > 0]
    if len(places) > MAX_SAMPLES:
        places = np.sort(np.random.default_rng(0).choice(places, MAX_SAMPLES, replace=False))
    present = np.unique(classes.labels[places])
    if len(present) < 2:
        return []
    labels, clusters = np.searchsorted(present, classes.labels[places]), classes.clusters[places]
    sources = [data.samples[place].source for place in places.tolist()]
    kinds = {
        ShortcutKind.FILE: ("from facts about the files", file_features(facts[places], sources)),
        ShortcutKind.BYTES: ("from the bytes per pixel", {"the bytes per pixel": bytes_features(facts[places])}),
        ShortcutKind.BORDER: ("from the borders of the images", border_features(facts[places])),
    }
    detections = []
    for kind, (by, parts) in kinds.items():
        score = shortcut_score(np.concatenate([*parts.values()], axis=1), labels, clusters)
        chance = 1 / len(present)
        if score.low <= chance + config.max_shortcut * (1 - chance):
            continue
        best = _best_part(parts, labels, clusters) if len(parts) > 1 else ""
        message = (
            f"the {len(present):,} classes of the group {classes.group} can be predicted {by} alone{best}: balanced "
            f"accuracy {score.accuracy:.1%} ({score.low:.1%} to {score.high:.1%}, n = {len(places):,}), "
            f"by chance {chance:.1%}"
        )
        samples = tuple(data.samples[place].id for place in places[score.is_right].tolist())
        # The more an image shows, the larger its file: the bytes may be a shortcut, or follow from the content.
        severity: Severity | None = "info" if kind is ShortcutKind.BYTES else None
        detections.append(Detection(SHORTCUT, message, samples, len(places), reason=kind, severity=severity))
    return detections


def _best_part(parts: Mapping[str, Floats], labels: Labels, clusters: Labels) -> str:
    scores = {name: shortcut_score(part, labels, clusters).accuracy for name, part in parts.items()}
    best = max(scores, key=lambda name: scores[name])
    return f", most by {best} ({scores[best]:.1%})"


def shortcut_score(features: Floats, labels: Labels, clusters: Labels) -> ShortcutScore:
    """The out-of-fold balanced accuracy of a ridge regression on the classes.

    Args:
        features: (N, F).
        labels: (N,) the class of each sample, from 0 on, each with a sample.
        clusters: (N,) numbers of samples that belong together, which are in one fold.
    """
    counts = np.bincount(labels)
    weights = 1 / (len(counts) * counts[labels])  # they sum to 1
    folds = stratified_folds(labels, clusters)
    predicted = np.empty(len(labels), dtype=np.int64)
    for fold in range(FOLDS):
        held_out = folds == fold
        if held_out.any():
            predicted[held_out] = _predict(features, labels, weights, ~held_out, held_out)
    is_right = predicted == labels
    accuracy = float(weights @ is_right)
    recalls = np.bincount(labels, weights=is_right) / counts
    own = np.bincount(clusters, weights=weights * (is_right - recalls[labels]))
    number = len(np.unique(clusters))
    error = Z_95 * math.sqrt(float(own @ own) * number / max(number - 1, 1))
    return ShortcutScore(accuracy, max(0.0, accuracy - error), min(1.0, accuracy + error), is_right)


def _predict(
    features: Floats, labels: Labels, weights: Floats, trained: NDArray[np.bool_], asked: NDArray[np.bool_]
) -> Labels:
    """The class of the largest regression, fitted with the same weight for each class."""
    targets = np.eye(int(labels.max()) + 1)[labels[trained]]
    weight = weights[trained] / weights[trained].sum()
    mean, target_mean = weight @ features[trained], weight @ targets
    centred = features[trained] - mean
    covariance = centred.T @ (weight[:, None] * centred)
    penalty = PENALTY * max(float(np.trace(covariance)) / len(covariance), 1e-9)
    solved = np.linalg.solve(
        covariance + penalty * np.eye(len(covariance)), centred.T @ (weight[:, None] * (targets - target_mean))
    )
    # Rounded, so that of classes that are equally likely the first one is taken on every machine.
    regression = ((features[asked] - mean) @ solved + target_mean).round(9)
    return np.asarray(regression.argmax(axis=1), dtype=np.int64)


def file_features(facts: NDArray[np.void], sources: Sequence[str]) -> dict[str, Floats]:
    """(N, F) features of each kind of fact about the files."""
    width, height = facts["width"].astype(float), facts["height"].astype(float)
    flags = [(facts["flags"] & int(flag)) > 0 for flag in ImageFlag]
    formats = [facts["format"] == number for number in range(len(FORMATS))]
    parts = {
        "the size in pixels": np.concatenate([_binned(np.log(width)), _binned(np.log(height))], axis=1),
        "the aspect ratio": _binned(np.log(width / height)),
        "the format and the metadata": np.stack([*formats, *flags], axis=1).astype(float),
    }
    known = sorted(set(sources))
    if 2 <= len(known) <= MAX_SOURCES:
        number = {source: i for i, source in enumerate(known)}
        parts["the source"] = np.eye(len(known))[[number[source] for source in sources]]
    return parts


def bytes_features(facts: NDArray[np.void]) -> Floats:
    """(N, F) features of the bytes of a file for each pixel."""
    pixels = facts["width"].astype(float) * facts["height"]
    return _binned(np.log(np.maximum(facts["num_bytes"], 1) / pixels))


def border_features(facts: NDArray[np.void]) -> dict[str, Floats]:
    """(N, F) brightness of the outermost of 16 x 16 fields and colour of that of 8 x 8, and their means."""
    step = THUMB_SIDE // FRAME_SIDE
    thumb = facts["thumb"].reshape(-1, FRAME_SIDE, step, FRAME_SIDE, step).mean(axis=(2, 4))
    brightness = thumb[:, _frame(FRAME_SIDE)] / 255
    colour = facts["chroma"][:, _frame(CHROMA_SIDE)].astype(float) / 255  # (N, 28, 2)
    means = [brightness.mean(axis=1), colour[..., 0].mean(axis=1), colour[..., 1].mean(axis=1)]
    parts = [brightness, colour.reshape(len(colour), -1), *(_binned(mean) for mean in means)]
    return {"the border": np.concatenate(parts, axis=1)}


def _frame(side: int) -> NDArray[np.bool_]:
    frame = np.ones((side, side), dtype=bool)
    frame[1:-1, 1:-1] = False
    return frame


def _binned(values: Floats) -> Floats:
    """(N, 1 + bins) values of unit variance, and which of at most 12 quantiles each is in."""
    deviation = values.std()
    edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS))
    bins = np.eye(len(edges) + 1)[np.searchsorted(edges, values)]
    scaled = (values - values.mean()) / (deviation if deviation > 1e-9 else 1.0)
    return np.concatenate([scaled[:, None], bins], axis=1)
