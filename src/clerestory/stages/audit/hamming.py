"""All pairs of bit codes that differ in few bits, without comparing every code with every other.

The bits of a code are divided into bands of 16. Two codes that differ in at most 15 of 256 bits agree in at least one
of 16 bands (the pigeonhole principle), so it is enough to compare codes with an equal band. For larger radii the
division is repeated with the bits in other random orders: a pair at distance d is missed by one order with the
probability that none of its bands is free of differing bits, and by all with the product (``recall``). Four orders find
at least 0.999 of the pairs at distance 31.

Codes are sorted by band, so that those to compare lie side by side: the comparison runs over whole arrays. Equal codes
are compared once. In a band whose values are very common (icons on white have many) at most ``max_bucket`` codes are
compared with each one, and the result says how many comparisons were left out.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

BAND_BITS = 16
MAX_BUCKET = 2048
ORDERS = 4  # of the bits, for radii of one or more differing bits a band
SEED = 20
THREADS = 2
BRUTE_FORCE_PAIRS = 4_000_000  # fewer are all compared
BLOCK = 1 << 18  # pairs compared at a time, so that they stay in the processor's cache
KEY_BLOCK = 1 << 14

Words = NDArray[np.uint64]
Codes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class NearPairs:
    """Pairs of near codes.

    Attributes:
        first, second: positions of the two codes of each pair; ascending by first, then second.
        distance: the number of bits in which they differ.
        recall: the least expected share of all such pairs that is found, if differing bits fall anywhere; 1 if all are.
        left_out: the number of comparisons left out because a value of a band was too common.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    distance: NDArray[np.int64]
    recall: float
    left_out: int

    def __len__(self) -> int:
        return len(self.first)


def near_pairs(
    codes: Codes, others: Codes | None = None, *, radius: int, max_bucket: int = MAX_BUCKET, threads: int = THREADS
) -> NearPairs:
    """All pairs of codes that differ in at most ``radius`` bits.

    Args:
        codes: (N, B) bits as bytes; B is a multiple of 8.
        others: (M, B), whose pairs with ``codes`` are sought; by default the pairs within ``codes``, each once with
            ``first < second``.
        radius: the most bits that differ; below half of the bits.
        max_bucket: the most codes with an equal band that are compared with each one.
        threads: bands that are searched at the same time.

    Raises:
        ValueError: the shapes do not fit, or the radius is negative or at least half of the bits.
    """
    bits = codes.shape[1] * 8
    if bits % 64 or (others is not None and others.shape[1] != codes.shape[1]):
        raise ValueError("codes need a multiple of 64 bits, and all of them the same number")
    if not 0 <= radius < bits // 2:
        raise ValueError(f"the radius must be at least 0 and below {bits // 2}")
    first, first_of = _unique(codes)
    second, second_of = (first, first_of) if others is None else _unique(others)
    left, right, left_out, recall = _unique_pairs(first, second, others is None, radius, max_bucket, threads)
    if others is None:  # a distinct code stands for its copies, which are near one another
        copied = np.flatnonzero(np.bincount(first_of) > 1)
        left, right = np.concatenate([left, copied]), np.concatenate([right, copied])
    left, right = _all_copies(left, right, first_of, second_of, others is None)
    distance = _differing(_words(codes).T, _words(codes if others is None else others).T, left, right)
    order = np.lexsort((right, left))
    return NearPairs(left[order], right[order], distance[order], recall, left_out)


def expected_recall(radius: int, orders: int, bits: int = 256) -> float:
    """The share of pairs at distance ``radius`` that agree in a band of at least one of ``orders`` random orders.

    The number of ways to put ``radius`` differing bits into bands so that none stays free, by inclusion and exclusion.
    """
    bands = bits // BAND_BITS
    if radius < bands:
        return 1.0
    ways = sum(
        (-1) ** free * math.comb(bands, free) * math.comb(bits - free * BAND_BITS, radius)
        for free in range(bands)
        if bits - free * BAND_BITS >= radius
    )
    missed: float = ways / math.comb(bits, radius)
    return 1.0 - missed**orders


def group_pairs(first: NDArray[np.int64], second: NDArray[np.int64], size: int) -> list[list[int]]:
    """The connected components of two or more of ``size`` items, each ascending, in the order of their first items."""
    import scipy.sparse  # here, because most callers of this module need no graph

    ones = np.ones(len(first), dtype=np.int8)
    graph = scipy.sparse.coo_array((ones, (first, second)), shape=(size, size))
    _, labels = scipy.sparse.csgraph.connected_components(graph, directed=False)
    members: dict[int, list[int]] = {}
    touched = np.unique(np.concatenate([first, second])) if len(first) else np.zeros(0, np.int64)
    for item in touched.tolist():
        members.setdefault(int(labels[item]), []).append(item)
    return [group for group in members.values() if len(group) > 1]


def _unique(codes: Codes) -> tuple[Words, NDArray[np.int64]]:
    """The distinct codes as words, and the position among them of every code."""
    words = _words(codes)
    order = np.lexsort(tuple(words.T))
    ordered = words[order]
    new = np.ones(len(words), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    position = np.empty(len(words), dtype=np.int64)
    position[order] = np.cumsum(new) - 1
    return ordered[new], position


def _words(codes: Codes) -> Words:
    return np.ascontiguousarray(codes, dtype=np.uint8).view(np.uint64)


def _unique_pairs(
    first: Words, second: Words, within: bool, radius: int, max_bucket: int, threads: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int, float]:
    """Pairs of different distinct codes (of two sets: also of equal ones), comparisons left out, and the recall."""
    bits = first.shape[1] * 64
    if len(first) * len(second) <= BRUTE_FORCE_PAIRS:
        left, right = _brute_force(first, second, within, radius)
        return left, right, 0, 1.0
    orders = 1 if radius < bits // BAND_BITS else ORDERS
    draw = np.random.default_rng(SEED)
    found: list[NDArray[np.int64]] = []
    left_out = 0
    with ThreadPoolExecutor(threads) as pool:
        for number in range(orders):
            order = None if number == 0 else draw.permutation(bits)
            keys = _band_keys(first, order, pool)
            other_keys = keys if within else _band_keys(second, order, pool)
            sides = (_Side(first, keys), _Side(second, other_keys))
            search = partial(_pairs_of_band, *sides, within, radius, max_bucket)
            for pairs, skipped in pool.map(search, range(bits // BAND_BITS)):
                found.append(pairs)
                left_out += skipped
            found = [_distinct(found)]  # so that the pairs of four orders are never all in memory
    pairs = _distinct(found)
    return pairs // len(second), pairs % len(second), left_out, expected_recall(radius, orders, bits)


@dataclass(frozen=True)
class _Side:
    """Distinct codes (N, W) and the values of their bands (bands, N) in one order of the bits."""

    words: Words
    keys: NDArray[np.uint16]


def _distinct(pairs: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.unique(np.concatenate(pairs)) if pairs else np.zeros(0, np.int64)


def _brute_force(first: Words, second: Words, within: bool, radius: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lefts, rights = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    rows = max(1, BLOCK // max(1, len(second)))
    for start in range(0, len(first), rows):
        differing = np.bitwise_count(first[start : start + rows, None] ^ second[None]).sum(axis=2, dtype=np.int64)
        left, right = np.nonzero(differing <= radius)
        left += start
        keep = left < right if within else np.ones(len(left), bool)
        lefts.append(left[keep])
        rights.append(right[keep])
    return np.concatenate(lefts), np.concatenate(rights)


def _band_keys(words: Words, order: NDArray[np.int64] | None, pool: ThreadPoolExecutor) -> NDArray[np.uint16]:
    """The values of the bands (bands, N) of every code, with its bits in this order."""
    keys = np.empty((words.shape[1] * 64 // BAND_BITS, len(words)), np.uint16)

    def fill(start: int) -> None:
        block = words[start : start + KEY_BLOCK]
        codes = block.view(np.uint8).reshape(len(block), -1)
        if order is not None:
            codes = np.packbits(np.take(np.unpackbits(codes, axis=1), order, axis=1), axis=1)
        keys[:, start : start + len(block)] = codes.view(np.uint16).T

    list(pool.map(fill, range(0, len(words), KEY_BLOCK)))
    return keys


def _pairs_of_band(
    first: _Side, second: _Side, within: bool, radius: int, max_bucket: int, band: int
) -> tuple[NDArray[np.int64], int]:
    """Near pairs among the codes with an equal value of a band, as ``left * M + right``."""
    first_keys, second_keys = first.keys[band], second.keys[band]
    first_counts, second_counts = (np.bincount(keys, minlength=1 << BAND_BITS) for keys in (first_keys, second_keys))
    shared = (first_counts > 1) if within else (first_counts > 0) & (second_counts > 0)
    first_places = _sorted_places(first_keys, shared)
    second_places = first_places if within else _sorted_places(second_keys, shared)
    ends = np.cumsum(np.where(shared, second_counts, 0))[first_keys[first_places]]
    # Within one set each code is compared with those after it.
    starts = np.arange(1, len(first_places) + 1) if within else ends - second_counts[first_keys[first_places]]
    counts = ends - starts
    left_out = int(np.maximum(counts - max_bucket, 0).sum())
    ordered_first = np.ascontiguousarray(first.words[first_places].T)
    ordered_second = ordered_first if within else np.ascontiguousarray(second.words[second_places].T)
    found = []
    active = np.arange(len(first_places))
    for shift in range(min(int(counts.max(initial=0)), max_bucket)):
        active = active[counts[active] > shift]
        for block in range(0, len(active), BLOCK):
            rows = active[block : block + BLOCK]
            places = starts[rows] + shift
            near = _near(ordered_first, ordered_second, rows, places, radius)
            left, right = first_places[rows[near]], second_places[places[near]]
            if within:
                left, right = np.minimum(left, right), np.maximum(left, right)
            found.append(left * len(second.words) + right)
    return _distinct(found), left_out


def _sorted_places(keys: NDArray[np.uint16], used: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The positions of the keys that are used, in the order of the keys."""
    places = np.flatnonzero(used[keys])
    return places[np.argsort(keys[places], kind="stable")]


def _near(
    first: Words, second: Words, rows: NDArray[np.int64], places: NDArray[np.int64], radius: int
) -> NDArray[np.int64]:
    """The positions of the pairs of codes (W, N) that differ in at most ``radius`` bits.

    Most are ruled out by half of their words.
    """
    half = first.shape[0] // 2
    differing = _differing(first[: half or None], second[: half or None], rows, places)
    near = np.flatnonzero(differing <= radius)
    if half:
        rest = _differing(first[half:], second[half:], rows[near], places[near])
        near = near[differing[near] + rest <= radius]
    return near


def _differing(first: Words, second: Words, rows: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    total = np.zeros(len(rows), np.int64)
    for one, other in zip(first, second, strict=True):
        total += np.bitwise_count(one[rows] ^ other[places])
    return total


def _all_copies(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    first_of: NDArray[np.int64],
    second_of: NDArray[np.int64],
    within: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of distinct codes as pairs of all codes."""
    first_members, first_starts, first_counts = _members(first_of)
    second_members, second_starts, second_counts = _members(second_of)
    sizes = first_counts[left] * second_counts[right]
    pair = np.repeat(np.arange(len(left)), sizes)
    inside = np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    width = second_counts[right][pair]
    firsts = first_members[first_starts[left][pair] + inside // width]
    seconds = second_members[second_starts[right][pair] + inside % width]
    if not within:
        return firsts, seconds
    firsts, seconds = np.minimum(firsts, seconds), np.maximum(firsts, seconds)
    # The copies of one code form a square, of which every pair is there twice.
    keep = (firsts < seconds) & ((left != right)[pair] | (inside // width < inside % width))
    return firsts[keep], seconds[keep]


def _members(position: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    members = np.argsort(position, kind="stable")
    counts = np.bincount(position)
    return members, np.cumsum(counts) - counts, counts
