"""Choosing and cutting: which samples stand for a split, and how many go to the model at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from clerestory.core.sample import Sample

T = TypeVar("T")


def choose(samples: Iterable[Sample], count: int, seed: int) -> list[Sample]:
    """``count`` samples, by a hash of seed and id; others that come or go do not change who is ahead of whom."""
    return sorted(samples, key=lambda s: hashlib.sha256(f"{seed}/{s.id}".encode()).digest())[:count]


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items; the last may be shorter."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some
