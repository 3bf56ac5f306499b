"""The prompts of zero-shot classification and the embedding of a class, for evaluation and service alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TEMPLATES = ("{}", "{} icon", "a picture of {}", "an icon of {}", "a drawing of {}", "something to do with {}")
DEFAULT_LOGIT_SCALE = 100.0  # CLIP's

Floats = NDArray[np.float64]


def mean_of_prompts(prompts: NDArray[np.floating], num_classes: int) -> Floats:
    """(K, D) unit rows: the normalised mean of the embeddings of each class's prompts (Radford et al. 2021).

    Args:
        prompts: the embeddings of all prompts, those of one class after those of the one before.
        num_classes: K.
    """
    return unit_rows(prompts.astype(np.float64).reshape(num_classes, -1, prompts.shape[1]).mean(axis=1))


def unit_rows(rows_ND: Floats) -> Floats:
    """Rows of length 1; a row of zeros stays as it is."""
    lengths_N1 = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    normalised: Floats = rows_ND / np.where(lengths_N1 > 0, lengths_N1, 1.0)
    return normalised
