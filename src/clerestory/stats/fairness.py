"""Group fairness: means by group, rates for equalised odds, and over-representation in ranked lists.

Dimensions: N rows, G groups, K classes, R draws (of a bootstrap), Q queries, L places of a ranked list.

A group with fewer than ``n_min`` rows is *suppressed*: its rows are excluded and the group is named, because a rate of
two people does not generalise and may identify them. Rows without a group have an empty name, or ``mixed`` where the
images of one row disagree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clerestory.core.errors import ConfigError, InputError
from clerestory.stats.scientific import scipy

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

N_MIN = 10
NO_GROUP = ("", "mixed")


class GroupCodes(NamedTuple):
    """Rows by group.

    Attributes:
        names: of the groups that are large enough, sorted.
        codes: (N,) the number of each row's group, −1 for none or a suppressed one.
        suppressed: the groups that are too small, with their numbers of rows.
    """

    names: tuple[str, ...]
    codes: Ints
    suppressed: dict[str, int]


def split_groups(groups: ArrayLike, n_min: int = N_MIN, min_groups: int = 2) -> GroupCodes:
    """Number the groups and suppress the small ones.

    Raises:
        InputError: fewer than ``min_groups`` groups are large enough; the message names the others.
    """
    values = [str(value) for value in np.asarray(groups, dtype=object).tolist()]
    counts = Counter(value for value in values if value not in NO_GROUP)
    names = tuple(sorted(name for name, n in counts.items() if n >= n_min))
    suppressed = {name: n for name, n in sorted(counts.items()) if n < n_min}
    if len(names) < min_groups:
        found = suppressed_sentence(suppressed, n_min) or f"the only group is {', '.join(names) or 'none'}"
        raise InputError(
            f"groups can only be compared when {min_groups} have {n_min} rows or more: {found}",
            "add samples of these groups, or lower n_min",
        )
    numbers = {name: i for i, name in enumerate(names)}
    return GroupCodes(names, np.array([numbers.get(value, -1) for value in values], dtype=np.int64), suppressed)


def suppressed_sentence(suppressed: Mapping[str, int], n_min: int = N_MIN) -> str:
    """The suppressed groups with their sizes as a clause; empty when there are none."""
    if not suppressed:
        return ""
    named = ", ".join(f"{name} ({n})" for name, n in suppressed.items())
    verb = "has" if len(suppressed) == 1 else "have"
    return f"{named} {verb} fewer than {n_min} rows"


def group_means(values_N: Floats, groups: GroupCodes, weights_RN: Floats | None = None) -> Floats:
    """Mean of each group (R, G), NaN where a draw has no row of it; without weights one draw of all rows."""
    inside = np.flatnonzero(groups.codes >= 0)
    weights = np.ones((1, len(values_N))) if weights_RN is None else weights_RN
    shape = (len(values_N), len(groups.names))
    places = (inside, groups.codes[inside])
    sums_RG = weights @ scipy.sparse.csr_matrix((values_N[inside], places), shape)
    counts_RG = weights @ scipy.sparse.csr_matrix((np.ones(len(inside)), places), shape)
    return _share(sums_RG, counts_RG)


class OddsCells:
    """The rows of each true- and false-positive rate, computed once for all draws of a bootstrap.

    Args:
        predicted: (N,) predicted classes.
        actual: (N,) true classes.
        groups: of ``split_groups``.
        n_min: minimum number of rows of a rate.
    """

    def __init__(self, predicted: ArrayLike, actual: ArrayLike, groups: GroupCodes, n_min: int = N_MIN) -> None:
        predicted_labels, true = (np.asarray(values, dtype=object).astype(str) for values in (predicted, actual))
        # Only a class that occurs has rates.
        classes, true_N = np.unique(true, return_inverse=True)
        predicted_N = np.searchsorted(classes, predicted_labels).clip(max=len(classes) - 1)
        predicted_N = np.where(classes[predicted_N] == predicted_labels, predicted_N, -1)
        n, g, k = len(true), len(groups.names), len(classes)
        codes = groups.codes
        self._shape = (g, k)

        def incidence(chosen: NDArray[Any], class_N: NDArray[Any]) -> scipy.sparse.csr_matrix:
            rows = np.flatnonzero(chosen & (codes >= 0))
            return scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, codes[rows] * k + class_N[rows])), (n, g * k))

        every = np.ones(n, dtype=bool)
        self._actual = incidence(every, true_N)
        self._right = incidence(predicted_N == true_N, true_N)
        self._wrong = incidence((predicted_N >= 0) & (predicted_N != true_N), predicted_N)
        counts_GK = np.asarray(self._actual.sum(axis=0)).reshape(g, k)
        self._recalled = self._comparable(counts_GK, n_min)
        self._mistaken = self._comparable(counts_GK.sum(axis=1, keepdims=True) - counts_GK, n_min)
        if not self._recalled.any():
            raise InputError(
                f"no class has {n_min} rows in two groups, so their rates cannot be compared",
                "add samples, or lower n_min",
            )

    def rates(self, weights_RN: Floats) -> tuple[Floats, Floats]:
        """True- and false-positive rates (R, G, K), NaN where undefined."""
        actual_RGK, right_RGK, wrong_RGK = (
            (weights_RN @ cells).reshape(len(weights_RN), *self._shape)
            for cells in (self._actual, self._right, self._wrong)
        )
        others_RGK = actual_RGK.sum(axis=2, keepdims=True) - actual_RGK
        return _share(right_RGK, actual_RGK), _share(wrong_RGK, others_RGK)

    def widest(self, tpr_RGK: Floats, fpr_RGK: Floats) -> tuple[Floats, Floats, Floats]:
        """The true-positive gap, the false-positive gap and the larger of the two, (R,) each, of rates or their errors.

        A rate that a draw leaves undefined is left out of it.
        """
        tpr_R, fpr_R = _widest(tpr_RGK, self._recalled), _widest(fpr_RGK, self._mistaken)
        return tpr_R, fpr_R, np.fmax(tpr_R, fpr_R)

    @staticmethod
    def _comparable(counts_GK: NDArray[Any], n_min: int) -> NDArray[np.bool_]:
        enough_GK = np.asarray(counts_GK >= n_min)
        found: NDArray[np.bool_] = enough_GK & (enough_GK.sum(axis=0) >= 2)
        return found


def max_skew(ranked: ArrayLike, desired: ArrayLike, k: int) -> Floats:
    """MaxSkew@k of each ranked list (Geyik et al. 2019): max over groups of ln(share in the first k / desired share).

    0 is proportional; ln 2 means that some group has twice its share. It is never negative when the shares add up to 1.

    Args:
        ranked: (Q, L) group numbers 0…G−1, best first.
        desired: (G,) the desired shares of the groups, such as those among all candidates; they are scaled to add up to
            1, and a group with share 0 must not occur.
        k: cut-off of the list, at most L.

    Raises:
        InputError: a group with a desired share of 0, or lists without group numbers.
        ConfigError: a ``k`` outside 1…L.
    """
    ranked_QL, desired_G = _ranked(ranked, desired)
    if not 1 <= k <= ranked_QL.shape[1]:
        raise ConfigError(f"k = {k} exceeds the {ranked_QL.shape[1]} places of the lists", "use a smaller k")
    shares_QG = (ranked_QL[:, :k, None] == np.arange(len(desired_G))).mean(axis=1)
    found: Floats = np.log((shares_QG / np.where(desired_G > 0, desired_G, 1)).max(axis=1))
    return found


def ndkl(ranked: ArrayLike, desired: ArrayLike) -> Floats:
    """Normalised discounted KL divergence of each ranked list, in nats (Geyik et al. 2019); 0 is proportional.

    Σ_i KL(shares among the first i ‖ desired) / log2(i + 1), divided by Σ_i 1 / log2(i + 1). Arguments and errors are
    those of ``max_skew``.
    """
    ranked_QL, desired_G = _ranked(ranked, desired)
    places_L = np.arange(1, ranked_QL.shape[1] + 1)
    divergence_QL = np.zeros(ranked_QL.shape)
    for number, wanted in enumerate(desired_G.tolist()):
        shares_QL = np.cumsum(ranked_QL == number, axis=1) / places_L
        present = shares_QL > 0
        logs_QL = np.log(shares_QL / (wanted or 1.0), out=np.zeros_like(shares_QL), where=present)
        divergence_QL += shares_QL * logs_QL
    discount_L = 1 / np.log2(places_L + 1)
    found: Floats = (divergence_QL * discount_L).sum(axis=1) / discount_L.sum()
    return found


def _ranked(ranked: ArrayLike, desired: ArrayLike) -> tuple[Ints, Floats]:
    ranked_QL, desired_G = np.asarray(ranked), np.asarray(desired, dtype=np.float64)
    if ranked_QL.ndim != 2 or not ranked_QL.size or ranked_QL.min() < 0 or ranked_QL.max() >= len(desired_G):
        raise InputError("the ranked lists do not have one group number per place", "give a table (queries, places)")
    if not (np.isfinite(desired_G).all() and (desired_G >= 0).all() and desired_G.sum() > 0):
        raise InputError(
            "the desired shares are not all finite and at least 0", "give the groups' shares of the candidates"
        )
    for number in np.unique(ranked_QL).tolist():
        if desired_G[number] == 0:
            raise InputError(
                f"group number {number} occurs but its desired share is 0", "give it a share, or remove it"
            )
    return ranked_QL.astype(np.int64), desired_G / desired_G.sum()


def _share(above: NDArray[Any], below: NDArray[Any]) -> Floats:
    found: Floats = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return found


def _widest(rates_RGK: Floats, use_GK: NDArray[np.bool_]) -> Floats:
    """The largest range over groups among classes; NaN where a draw leaves none."""
    if not use_GK.any():
        return np.zeros(len(rates_RGK))
    used_RGK = np.where(use_GK, rates_RGK, np.nan)
    found: Floats = np.fmax.reduce(np.fmax.reduce(used_RGK, axis=1) - np.fmin.reduce(used_RGK, axis=1), axis=1)
    return found
