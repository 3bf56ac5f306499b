"""Tags learned from captions: words that can be predicted from the features of an image, and precisely enough.

Shape suffixes: N images, F features, T words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clerestory.models.photo.learned_tags import Floats, LearnedTags
from clerestory.stages.train.tune.head.fit import NUM_FOLDS, Ints, assign_folds
from clerestory.stats.ridge import fit_ridge

MIN_PRECISION = 0.9  # on images that it was not fitted on
MIN_TAGGED = 10  # images at that precision; a word with fewer is not learned
MARGIN = 1.0  # standard errors by which the precision of a word of the user's has to be above the minimum
MIN_SHOWN, MAX_SHARE = 10, 0.5  # images with a word that may be learned; a word of most of them says little
MIN_LETTERS = 3
# Words that say nothing about what is to be seen. Of other languages, those in most captions are left out, too.
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "about above across after against all along and another any are around as at away back be been before behind "
        "being below beneath beside between both but by can different down during each few for from front full getting "
        "going had has have having he her here hers him his how in inside into is it its itself just like made making "
        "many middle more most much near next no not of off on one onto or other others our out over photo "
        "photograph image several she side so some something someone than that the their them then there these they "
        "this those three through to together top toward towards two four five under up upon very was way were what "
        "when where which while who whom whose will with within without you your",
    )
)


def learn_from_captions(features_NF: Floats, captions: Sequence[Sequence[str]], groups_N: Ints) -> LearnedTags | None:
    """The words of captions that can be predicted precisely enough; None if there is none.

    Args:
        features_NF: of the images.
        captions: of each image.
        groups_N: the group of each image; images of a group are in one fold.
    """
    said = caption_words(captions)
    counts = Counter(word for words in said for word in words)
    names = sorted(word for word, number in counts.items() if MIN_SHOWN <= number <= MAX_SHARE * len(said))
    if not names:
        return None
    present_NT = np.array([[name in words for name in names] for words in said])
    folds_N = assign_folds(groups_N)
    scores_NT = np.zeros(present_NT.shape)
    for fold in range(NUM_FOLDS):
        rows, others = np.flatnonzero(folds_N == fold), np.flatnonzero(folds_N != fold)
        if len(rows):
            ridge = fit_ridge(features_NF[others], present_NT[others].astype(np.float64))
            scores_NT[rows] = (features_NF[rows] - ridge.feature_mean) @ ridge.weight + ridge.target_mean
    learned = fit_learned_tags(features_NF, present_NT, names, scores_NT, MARGIN)
    return learned if learned.names else None


def caption_words(captions: Sequence[Sequence[str]]) -> list[set[str]]:
    """The words of each image's captions that may become tags; a plural counts as the singular if that occurs too."""
    found = [{word for text in some for word in re.findall(r"[^\W\d_]+", text.lower())} for some in captions]
    known = set().union(*found)

    def singular(word: str) -> str:
        for end, single in (("ies", "y"), ("es", ""), ("s", "")):
            if word.endswith(end) and (stem := word[: -len(end)] + single) in known and len(stem) >= MIN_LETTERS:
                return stem
        return word

    return [
        {singular(word) for word in words if len(word) >= MIN_LETTERS and word not in FUNCTION_WORDS} for words in found
    ]


def fit_learned_tags(
    features_NF: Floats,
    present_NT: NDArray[np.bool_],
    names: Sequence[str],
    held_out_NT: Floats | None = None,
    margin: float = 0.0,
) -> LearnedTags:
    """Learn words from the captions of images; a word that cannot be predicted precisely enough is left out.

    Precision is that of predictions for images that were not fitted on, of the ``MIN_TAGGED`` images or more with the
    highest scores.

    Args:
        features_NF: of the images.
        present_NT: whether a caption of each image has the word.
        names: the words.
        held_out_NT: scores of each image from regressions without it; by default leave-one-out predictions.
        margin: standard errors by which the precision has to be above the minimum (the lower end of Wilson's interval).
    """
    ridge = fit_ridge(features_NF, present_NT.astype(np.float64))
    scores_NT = ridge.left_out if held_out_NT is None else held_out_NT
    kept, thresholds, slopes, offsets = [], [], [], []
    for i in range(len(names)):
        order = np.argsort(-scores_NT[:, i], kind="stable")
        number = np.arange(1, len(order) + 1)
        precision = _lower_end(np.cumsum(present_NT[order, i]) / number, number, margin)
        passing = np.flatnonzero((precision >= MIN_PRECISION) & (number >= MIN_TAGGED))
        if not len(passing):
            continue
        kept.append(i)
        thresholds.append(scores_NT[order[passing[-1]], i])
        slope, offset = fit_logistic(scores_NT[:, i], present_NT[:, i])
        slopes.append(slope)
        offsets.append(offset)
    weight_FT = ridge.weight[:, kept]
    bias_T = ridge.target_mean[kept] - ridge.feature_mean @ weight_FT
    chosen = tuple(names[i] for i in kept)
    return LearnedTags(chosen, weight_FT, bias_T, np.array(thresholds), np.array(slopes), np.array(offsets))


def _lower_end(share: Floats, number: Ints, margin: float) -> Floats:
    """The lower end of Wilson's interval of shares."""
    square = margin * margin
    half = margin * np.sqrt(share * (1 - share) / number + square / (4 * number**2))
    low: Floats = (share + square / (2 * number) - half) / (1 + square / number)
    return low


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
