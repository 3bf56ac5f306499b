"""Beam search over an exported caption decoder, with numpy; the same search as ``models.decoder``.

Shape suffixes: T image tokens, L caption positions, D width, V vocabulary, W beams.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from clerestory.models.protocols import Matrix

PAD, BEGIN, END, UNKNOWN = 0, 1, 2, 3  # as in models.decoder
EXCLUDED = [PAD, BEGIN, UNKNOWN]

Logits = Callable[[NDArray[np.int64], Matrix], Matrix]


def search_captions(logits: Logits, tokens_TD: Matrix, max_tokens: int, n: int) -> list[tuple[list[int], float]]:
    """Up to ``n`` distinct word sequences of one image with their scores, best first.

    Args:
        logits: from word ids ``(W, L)`` and image tokens ``(W, T, D)`` to the next word ``(W, V)``.
        tokens_TD: of the image.
        max_tokens: longest caption, begin and end tokens included.
        n: number of sequences.

    Returns:
        ``(ids without special tokens, score in 0..1)``.
    """
    ids_WL = np.full((1, 1), BEGIN, np.int64)
    logp_W = np.zeros(1, np.float32)
    finished: list[tuple[list[int], float]] = []
    width = max(2 * n, 5)
    for length in range(1, max_tokens):
        step_WV = _log_softmax(logits(ids_WL, np.broadcast_to(tokens_TD, (len(ids_WL), *tokens_TD.shape))))
        width = min(width, step_WV.shape[1] - len(EXCLUDED))
        step_WV[:, EXCLUDED] = -math.inf
        step_WV[np.arange(len(ids_WL)), ids_WL[:, -1]] = -math.inf  # no word twice in a row
        if length == 1:
            step_WV[:, END] = -math.inf  # no empty caption
        if length == max_tokens - 1:
            end_W = step_WV[:, END].copy()  # maximum length: every beam must end
            step_WV[:] = -math.inf
            step_WV[:, END] = end_W
        total = (logp_W[:, None] + step_WV).ravel()
        best = np.argsort(-total, kind="stable")[: 2 * width]
        beams: list[tuple[int, int, float]] = []
        for flat in best.tolist():
            value, (row, word) = float(total[flat]), divmod(flat, step_WV.shape[1])
            if value == -math.inf:
                continue
            if word == END:
                finished.append((ids_WL[row, 1:].tolist(), math.exp(value / length)))
            elif len(beams) < width:
                beams.append((row, word, value))
        if not beams or _is_settled(finished, beams[0][2], n, max_tokens):
            break
        parents = [row for row, _, _ in beams]
        ids_WL = np.concatenate([ids_WL[parents], np.array([[word] for _, word, _ in beams], np.int64)], axis=1)
        logp_W = np.array([value for _, _, value in beams], np.float32)
    return sorted(finished, key=lambda pair: (-pair[1], pair[0]))[:n]


def _log_softmax(logits_WV: Matrix) -> Matrix:
    shifted_WV = logits_WV - logits_WV.max(axis=1, keepdims=True)
    out_WV: Matrix = shifted_WV - np.log(np.exp(shifted_WV).sum(axis=1, keepdims=True))
    return out_WV


def _is_settled(finished: list[tuple[list[int], float]], best_beam: float, n: int, max_length: int) -> bool:
    """Whether no unfinished beam can still reach the best ``n``: each further word can only reduce the probability."""
    if len(finished) < n:
        return False
    nth = sorted((score for _, score in finished), reverse=True)[n - 1]
    return math.exp(best_beam / max_length) <= nth
