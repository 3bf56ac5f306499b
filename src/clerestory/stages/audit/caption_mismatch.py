"""Captions that do not fit their image, by the similarities of any embedder.

Similarities are not comparable between captions: a general caption ("people outside") is similar to every image, a
special one to none. So each caption is compared with itself beside other images of the dataset: the score is its
similarity to its own image, less its mean similarity to others, in standard deviations of these.

The scores of captions beside other images show how wrong captions score. The scores of the dataset are a mixture of
these and of right captions, whose distribution is taken as normal; expectation-maximisation finds the share of wrong
ones and, for each caption, the probability that it is one. Captions are flagged, worst first, as long as the expected
share of false alarms among them is below a limit. Where the embedder cannot tell, nothing is flagged.

Shapes: M captions, N images, D dimensions, R reference images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset
from clerestory.core.units import plural
from clerestory.stages.audit import caption_findings
from clerestory.stages.audit.detection import Detection

Matrix = NDArray[np.float32]
Vector = NDArray[np.float64]
MIN_CAPTIONS = 100  # fewer do not show how right captions score
MIN_REFERENCE = 20  # other images beside which a caption is compared
NUM_REFERENCE = 1000
NUM_SHUFFLED = 50  # scores of each caption beside other images
BLOCK = 4096  # captions at a time
MAX_STEPS, TOLERANCE = 500, 1e-7
MAX_FALSE_ALARM_SHARE = 0.3


@dataclass(frozen=True)
class MismatchScores:
    """How well each of M captions fits its image.

    Attributes:
        score: (M,) similarity to its own image in standard deviations above the mean of others; NaN if it is unknown.
        probability: (M,) that the caption does not belong to the image; NaN where the score is.
        share: the estimated share of such captions.
    """

    score: Vector
    probability: Vector
    share: float

    def flagged(self, max_false_alarm_share: float = MAX_FALSE_ALARM_SHARE) -> tuple[NDArray[np.int64], float]:
        """The positions of the captions to look at, worst first, and the expected share of false alarms among them."""
        known = np.flatnonzero(np.isfinite(self.probability))
        order = known[np.lexsort((self.score[known], -self.probability[known]))]
        expected = np.cumsum(1 - self.probability[order]) / np.arange(1, len(order) + 1)
        within = np.flatnonzero(expected <= max_false_alarm_share)
        if not len(within):
            return order[:0], 0.0
        return order[: within[-1] + 1], float(expected[within[-1]])


def captions_to_match(data: Dataset, languages: Sequence[str] = ()) -> list[tuple[int, int]]:
    """The captions whose texts to embed: the positions of the sample and of the caption, from 0 on.

    Keywords are left out, and captions in other languages than those of the text encoder, if ``languages`` names them.
    """
    return [
        (i, j)
        for i, sample in enumerate(data)
        for j, caption in enumerate(sample.captions)
        if caption.kind == "name" and (not languages or caption.lang.partition("-")[0] in languages)
    ]


def check_mismatch(
    data: Dataset,
    image_embeddings: Matrix,
    text_embeddings: Matrix,
    captions: Sequence[tuple[int, int]],
    max_false_alarm_share: float = MAX_FALSE_ALARM_SHARE,
    seed: int = 0,
    progress: Progress = QUIET,
) -> list[Detection]:
    """Captions that fit their image as badly as captions of other images; at most one detection.

    Args:
        data: N samples.
        image_embeddings: (N, D) unit rows; a row of NaN is an unreadable image.
        text_embeddings: (M, D) unit rows of the captions, from the same embedder.
        captions: M positions as ``captions_to_match`` returns them.
        max_false_alarm_share: expected share of right captions among those that are flagged.
        seed: of the choice of other images.
        progress: displays the progress.
    """
    owner = np.array([i for i, _ in captions], dtype=np.int64)
    images = np.unique([sample.image for sample in data], return_inverse=True)[1] if len(data) else owner
    scores = mismatch_scores(image_embeddings, text_embeddings, owner, images, seed, progress)
    flagged, expected = scores.flagged(max_false_alarm_share)
    if not len(flagged):
        return []
    by_sample: dict[int, list[str]] = {}
    for position in sorted(flagged.tolist()):
        i, j = captions[position]
        note = f"caption {j + 1}: mismatch with probability {scores.probability[position]:.2f}"
        by_sample.setdefault(i, []).append(note)
    notes = {data.samples[i].id: "; ".join(own) for i, own in by_sample.items()}
    known = int(np.isfinite(scores.score).sum())
    message = (
        f"{len(flagged):,} of {plural(known, 'caption')} ({len(flagged) / known:.1%}) "
        f"{'fits its image' if len(flagged) == 1 else 'fit their images'} no better than captions of other images; "
        f"about {expected * len(flagged):.0f} of them are expected to be right"
    )
    return [Detection(caption_findings.MISMATCH, message, tuple(sorted(notes)), len(data), notes=Tags(notes))]


def mismatch_scores(
    image_embeddings: Matrix,
    text_embeddings: Matrix,
    owner: NDArray[np.int64],
    images: NDArray[np.int64],
    seed: int = 0,
    progress: Progress = QUIET,
) -> MismatchScores:
    """Score M captions.

    Args:
        image_embeddings: (N, D).
        text_embeddings: (M, D).
        owner: (M,) the position of each caption's image.
        images: (N,) equal for samples with the same image, which are not "others" for each other's captions.
        seed: of the choice of other images.
        progress: displays the progress.
    """
    num_captions = len(text_embeddings)
    unknown = np.full(num_captions, np.nan)
    readable = np.flatnonzero(np.isfinite(image_embeddings).all(axis=1))
    rng = np.random.default_rng(seed)
    reference = np.sort(rng.permutation(readable)[:NUM_REFERENCE])
    if num_captions < MIN_CAPTIONS or len(reference) < MIN_REFERENCE:
        return MismatchScores(unknown, unknown, 0.0)
    score, shuffled = unknown.copy(), []
    with progress.task("captions beside other images", num_captions) as task:
        for start in range(0, num_captions, BLOCK):
            rows = slice(start, min(start + BLOCK, num_captions))
            texts, own = text_embeddings[rows], owner[rows]
            similarity = (texts @ image_embeddings[reference].T).astype(np.float64)  # (B, R)
            similarity[images[own][:, None] == images[reference]] = np.nan
            mean, std = _mean_and_std(similarity)
            score[rows] = (np.einsum("bd,bd->b", texts, image_embeddings[own]) - mean) / std
            some = rng.integers(0, len(reference), (len(own), NUM_SHUFFLED))
            shuffled.append(((np.take_along_axis(similarity, some, 1) - mean[:, None]) / std[:, None]).ravel())
            task.advance(len(own))
    others = np.concatenate(shuffled)
    known = np.isfinite(score)
    if known.sum() < MIN_CAPTIONS:
        return MismatchScores(unknown, unknown, 0.0)
    probability, share = _mixture(score[known], others[np.isfinite(others)])
    unknown[known] = probability
    return MismatchScores(score, unknown, share)


def _mean_and_std(similarity: NDArray[np.float64]) -> tuple[Vector, Vector]:
    """Of each row, without NaN; NaN for a row with fewer than ``MIN_REFERENCE`` numbers."""
    known = np.isfinite(similarity)
    number = np.where(known.sum(axis=1) >= MIN_REFERENCE, known.sum(axis=1), np.nan)
    mean = np.where(known, similarity, 0).sum(axis=1) / number
    std = np.sqrt((np.where(known, similarity - mean[:, None], 0) ** 2).sum(axis=1) / number)
    return mean, np.where(std > 0, std, np.nan)


def _mixture(score: Vector, others: Vector) -> tuple[Vector, float]:
    """The probability that each score comes from the distribution of ``others``, and the share of those.

    The density of ``others`` is a histogram; the rest of the scores is normally distributed.
    """
    counts, edges = np.histogram(others, bins=60, density=True)
    wrong = np.maximum(np.interp(score, (edges[1:] + edges[:-1]) / 2, counts), 1e-9)
    share, mean, std = 0.1, float(np.median(score)), float(score.std())
    probability = right = np.zeros(len(score))
    if std == 0:
        return probability, 0.0
    for _ in range(MAX_STEPS):
        right = np.exp(-0.5 * ((score - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
        probability = share * wrong / (share * wrong + (1 - share) * right)
        weights = 1 - probability
        if weights.sum() < 1:
            break
        previous, share = share, float(probability.mean())
        mean = float(weights @ score / weights.sum())
        std = max(float(np.sqrt(weights @ (score - mean) ** 2 / weights.sum())), 1e-6)
        if abs(share - previous) < TOLERANCE:
            break
    if mean - float(others.mean()) < float(others.std()):
        return np.zeros(len(score)), 0.0  # right captions score like wrong ones: the embedder cannot tell
    # Right captions may have a longer tail than a normal distribution. The share of wrong ones is at most that which
    # would explain every score in the lower half of theirs.
    quantiles = np.linspace(0.2, 0.5, 16)
    below = np.searchsorted(np.sort(score), np.quantile(others, quantiles), side="right") / len(score)
    bound = float(np.min(below / quantiles))
    if bound < share:
        share = bound
        probability = share * wrong / (share * wrong + (1 - share) * right)
    # Far to the right a normal distribution may end before that of wrong captions does.
    probability[score > mean] = 0.0
    return probability, share
