"""Features of embeddings, numbers and categories whose means a drift detector compares.

Each turns N observations into a matrix (N, D) of bounded features. A change of the distribution of the observations
changes the mean of the features, whatever kind of change it is: the random features of Rahimi and Recht (2007)
approximate a Gaussian kernel, which tells any two distributions apart; steps at the quantiles of the reference do so
for a number, and one column per value does so for a category.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

NUM_FOURIER = 256
NUM_STEPS = 16
MAX_CATEGORIES = 32
MAX_DISTANCES = 500
MISSING, OTHER = "\0missing", "\0other"  # no category of people begins with a zero byte


@dataclass(frozen=True)
class FourierFeatures:
    """Random Fourier features of embeddings: ``exp(-|x - y|² / 2 bandwidth²)`` is about ``φ(x) · φ(y)``.

    Attributes:
        frequencies_EF: one column per frequency; a feature vector has a cosine and a sine of each.
        bandwidth: of the Gaussian kernel.
    """

    frequencies_EF: Matrix
    bandwidth: float

    @classmethod
    def fit(cls, reference_NE: NDArray[np.floating], seed: int = 0, count: int = NUM_FOURIER) -> FourierFeatures:
        """Draw the frequencies; the bandwidth is the median distance of two observations of the reference.

        Args:
            reference_NE: finite embeddings, at least two.
            seed: of the frequencies.
            count: the number of features, even.
        """
        bandwidth = median_distance(reference_NE, seed)
        rng = np.random.default_rng([seed, 1])
        frequencies = rng.standard_normal((reference_NE.shape[1], count // 2)) / bandwidth
        return cls(frequencies, bandwidth)

    def __call__(self, rows_NE: NDArray[np.floating]) -> Matrix:
        """The features (N, D), each vector of length 1."""
        angles = rows_NE.astype(np.float64) @ self.frequencies_EF
        features: Matrix = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / np.sqrt(angles.shape[1])
        return features


@dataclass(frozen=True)
class StepFeatures:
    """Whether a number is above each quantile of the reference, and whether it is missing.

    Attributes:
        quantiles: increasing, without repetitions.
    """

    quantiles: Matrix

    @classmethod
    def fit(cls, reference: NDArray[np.floating], count: int = NUM_STEPS) -> StepFeatures:
        """Take the quantiles of the finite numbers of the reference; the extremes are among them.

        A value outside of the range of the reference differs from every value in it.
        """
        finite = reference[np.isfinite(reference)].astype(np.float64)
        if not len(finite):
            return cls(np.empty(0))
        inner = np.quantile(finite, (np.arange(count) + 0.5) / count)
        below = np.nextafter(finite.min(), -np.inf)  # ``x > below`` holds for the whole reference
        return cls(np.unique(np.concatenate([[below], inner, [finite.max()]])))

    def __call__(self, values: NDArray[np.floating]) -> Matrix:
        """The features (N, steps + 1); a number that is not finite has only the last one."""
        numbers = values.astype(np.float64)
        finite = np.isfinite(numbers)
        steps = (np.where(finite, numbers, -np.inf)[:, None] > self.quantiles[None]) & finite[:, None]
        return np.concatenate([steps, ~finite[:, None]], axis=1).astype(np.float64)


@dataclass(frozen=True)
class CategoryFeatures:
    """One column per frequent category of the reference, one for every other, one for a missing one.

    Attributes:
        categories: the frequent ones, most frequent first.
    """

    categories: tuple[str, ...]

    @classmethod
    def fit(cls, reference: Sequence[str], count: int = MAX_CATEGORIES) -> CategoryFeatures:
        """Take the most frequent categories of the reference; of equally frequent ones the first by name."""
        ranked = sorted(Counter(value for value in reference if value).items(), key=lambda item: (-item[1], item[0]))
        return cls(tuple(name for name, _ in ranked[:count]))

    def __call__(self, values: Sequence[str]) -> Matrix:
        """The features (N, categories + 2)."""
        column = {name: i for i, name in enumerate((*self.categories, OTHER, MISSING))}
        places = [column.get(value, column[OTHER]) if value else column[MISSING] for value in values]
        features = np.zeros((len(values), len(column)))
        features[np.arange(len(values)), places] = 1.0
        return features


Features = FourierFeatures | StepFeatures | CategoryFeatures


def median_distance(rows_NE: NDArray[np.floating], seed: int = 0) -> float:
    """The median distance of two rows, over at most 500 rows; 1 if all of them are equal."""
    rng = np.random.default_rng([seed, 0])
    chosen = rows_NE.astype(np.float64)
    if len(chosen) > MAX_DISTANCES:
        chosen = chosen[np.sort(rng.choice(len(chosen), MAX_DISTANCES, replace=False))]
    squares = np.square(chosen).sum(axis=1)
    distances = squares[:, None] + squares[None] - 2 * chosen @ chosen.T
    pairs = distances[np.triu_indices(len(chosen), 1)]
    median = float(np.sqrt(max(np.median(pairs), 0.0))) if len(pairs) else 0.0
    return median if median > 1e-6 else 1.0
