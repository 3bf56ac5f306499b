"""How one batch is divided among processes and micro-batches: part ``index`` takes every ``count``-th sample.

Strided rather than contiguous, so that work on the first samples of a batch only (captioning) is spread evenly.
"""

from __future__ import annotations

from typing import TypeVar, cast

T = TypeVar("T")


def shard(samples: T, index: int, count: int) -> T:
    """Samples ``index, index + count, index + 2 · count, …`` of a sequence (an array, a tensor, a list)."""
    return cast(T, samples[index::count]) if count > 1 else samples  # type: ignore[index]  # a sequence


def shard_size(total: int, index: int, count: int) -> int:
    """The number of samples of ``shard`` among the first ``total`` samples."""
    return len(shard(range(total), index, count))
