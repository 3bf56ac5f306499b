"""Tags learned from captions: words that can be predicted from the features of an image, and precisely enough.

Shape suffixes: N images, G groups of near-duplicates, F features, T words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.text import words_of
from clerestory.models.photo.learned_tags import Floats, LearnedTags
from clerestory.stages.train.tune.head.fit import Ints, assign_folds, near_duplicates
from clerestory.stages.train.tune.head.requirements import NUM_FOLDS
from clerestory.stats.ridge import fit_ridge

MIN_PRECISION = 0.9  # on images that it was not fitted on
MIN_TAGGED = 10  # images at that precision; a word with fewer is not learned
MARGIN = 1.0  # standard errors by which the precision has to be above the minimum where a cut-off is chosen
CONFIRMED_MARGIN = 0.5  # and the same on images that have not chosen it; 0.9 is then kept on others, see the bench
MIN_SHOWN, MAX_SHARE = 10, 0.5  # groups with a word that may be learned; a word of most of them says little
MAX_WORDS = 1_000  # that are tried; of 30,000 images their scores take 0.1 GB
MIN_LETTERS = 3
# Words that say nothing about what is to be seen. Of other languages, those in most captions are left out, too.
FUNCTION_WORDS = frozenset(
    words_of(
        "about above across after against all along and another any are around as at away back be been before behind "
        "being below beneath beside between both but by can different down during each few for from front full getting "
        "going had has have having he her here hers him his how in inside into is it its itself just like made making "
        "many middle more most much near next no not of off on one onto or other others our out over photo "
        "photograph image several she side so some something someone than that the their them then there these they "
        "this those three through to together top toward towards two four five under up upon very was way were what "
        "when where which while who whom whose will with within without you your",
    )
)


def learn_from_captions(
    features_NF: Floats, captions: Sequence[Sequence[str]], groups_N: Ints, max_words: int = MAX_WORDS
) -> LearnedTags | None:
    """The words of captions that can be predicted precisely enough; None if there is none.

    Images that look nearly the same count as one, with the mean of their features: ten shots of a scene are one
    example. Images that only have the same caption are examples of their own.

    Args:
        features_NF: of the images.
        captions: of each image.
        groups_N: the group of each image, as ``near_duplicates`` returns it; images of a group are in one fold.
        max_words: how many words are tried, the most frequent first.
    """
    said = caption_words(captions)
    group_N = near_duplicates(features_NF, [str(i) for i in range(len(features_NF))])
    _, first_G, sizes_G = np.unique(group_N, return_index=True, return_counts=True)
    shown = Counter(
        word for _, word in {(int(g), word) for g, words in zip(group_N, said, strict=True) for word in words}
    )
    candidates = [word for word, number in shown.items() if MIN_SHOWN <= number <= MAX_SHARE * len(sizes_G)]
    names = sorted(sorted(candidates, key=lambda word: (-shown[word], word))[:max_words])
    if not names:
        return None
    column_of = {name: i for i, name in enumerate(names)}
    present_GT = np.zeros((len(sizes_G), len(names)), np.float32)  # in which share of the images of a group
    for g, words in zip(group_N, said, strict=True):
        present_GT[g, [column_of[word] for word in words if word in column_of]] += 1 / sizes_G[g]
    features_GF = np.zeros((len(sizes_G), features_NF.shape[1]))
    np.add.at(features_GF, group_N, features_NF)
    features_GF /= sizes_G[:, None]
    folds_G = assign_folds(groups_N[first_G])
    scores_GT = np.zeros(present_GT.shape, np.float32)
    for fold in range(NUM_FOLDS):
        rows, others = np.flatnonzero(folds_G == fold), np.flatnonzero(folds_G != fold)
        if not len(rows):
            continue
        ridge = fit_ridge(features_GF[others], present_GT[others])
        scores_GT[rows] = (features_GF[rows] - ridge.feature_mean) @ ridge.weight + ridge.target_mean
    kept = [i for i in range(len(names)) if is_confirmed(scores_GT[:, i], present_GT[:, i], folds_G)]
    if not kept:
        return None
    learned = fit_learned_tags(features_GF, present_GT[:, kept], [names[i] for i in kept], scores_GT[:, kept], MARGIN)
    return learned if learned.names else None


def is_confirmed(scores_N: Floats, present_N: Floats, folds_N: Ints) -> bool:
    """Whether a word is precise on images that neither its regression nor its cut-off has seen.

    The lowest cut-off that passes is the luckiest of many, so its precision on the images that chose it is too high.
    Here the images of each fold are tagged with the cut-off of the others, and the precision of all these tags has to
    be above the minimum by ``CONFIRMED_MARGIN`` standard errors, on ``MIN_TAGGED`` images or more.

    Args:
        scores_N: of one word, from regressions without the image.
        present_N: whether a caption of each image has the word, or in which share of a group.
        folds_N: of each image.
    """
    if cut_off(scores_N, present_N, MARGIN) is None:
        return False
    tagged_N = np.zeros(len(scores_N), np.bool_)
    min_tagged = MIN_TAGGED * (NUM_FOLDS - 1) // NUM_FOLDS  # of the images of the other folds
    for fold in range(NUM_FOLDS):
        others = folds_N != fold
        if (lowest := cut_off(scores_N[others], present_N[others], MARGIN, min_tagged)) is not None:
            tagged_N |= ~others & (scores_N >= lowest)
    if (number := int(tagged_N.sum())) < MIN_TAGGED:
        return False
    share = present_N[tagged_N].mean(dtype=np.float64, keepdims=True)
    return bool(_lower_end(share, np.array([number]), CONFIRMED_MARGIN)[0] >= MIN_PRECISION)


def cut_off(scores_N: Floats, present_N: NDArray[Any], margin: float, min_tagged: int = MIN_TAGGED) -> float | None:
    """The lowest score from which on the precision is high enough, on enough images; None without one.

    Args:
        scores_N: of one word.
        present_N: whether a caption of each image has it, or in which share of a group.
        margin: standard errors by which the precision has to be above the minimum (the lower end of Wilson's interval).
        min_tagged: how many images are enough.
    """
    order = np.argsort(-scores_N, kind="stable")
    number = np.arange(1, len(order) + 1)
    precision = _lower_end(np.cumsum(present_N[order], dtype=np.float64) / number, number, margin)
    passing = np.flatnonzero((precision >= MIN_PRECISION) & (number >= min_tagged))
    return float(scores_N[order[passing[-1]]]) if len(passing) else None


def caption_words(captions: Sequence[Sequence[str]]) -> list[set[str]]:
    """The words of each image's captions that may become tags, without numbers.

    A plural or genitive counts as the word itself if that occurs too.
    """
    found = [{word for text in some for word in words_of(text.lower())} for some in captions]
    known = set().union(*found)

    def singular(word: str) -> str:
        for end, single in (("'s", ""), ("\u2019s", ""), ("ies", "y"), ("es", ""), ("s", "")):
            if word.endswith(end) and (stem := word[: -len(end)] + single) in known and len(stem) >= MIN_LETTERS:
                return stem
        return word

    return [{singular(word) for word in words if _may_be_tag(word)} for words in found]


def _may_be_tag(word: str) -> bool:
    return len(word) >= MIN_LETTERS and any(map(str.isalpha, word)) and word not in FUNCTION_WORDS


def fit_learned_tags(
    features_NF: Floats,
    present_NT: NDArray[Any],
    names: Sequence[str],
    held_out_NT: Floats | None = None,
    margin: float = 0.0,
) -> LearnedTags:
    """Learn words from the captions of images; a word that cannot be predicted precisely enough is left out.

    Precision is that of predictions for images that were not fitted on, of the ``MIN_TAGGED`` images or more with the
    highest scores. The cut-off is chosen on the same images: ``is_confirmed`` says whether it holds on others.

    Args:
        features_NF: of the images.
        present_NT: whether a caption of each image has the word, or in which share of a group.
        names: the words.
        held_out_NT: scores of each image from regressions without it; by default leave-one-out predictions.
        margin: standard errors by which the precision has to be above the minimum (the lower end of Wilson's interval).
    """
    ridge = fit_ridge(features_NF, present_NT.astype(np.float64))
    scores_NT = ridge.left_out if held_out_NT is None else held_out_NT
    kept, thresholds, slopes, offsets = [], [], [], []
    for i in range(len(names)):
        if (lowest := cut_off(scores_NT[:, i], present_NT[:, i], margin)) is None:
            continue
        kept.append(i)
        thresholds.append(lowest)
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


def fit_logistic(scores_N: Floats, is_right_N: NDArray[Any], steps: int = 50) -> tuple[float, float]:
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
