"""All pairs of bit codes that differ in few bits, without comparing every code with every other.

The bits of a code are divided into bands of 16. Two codes that differ in at most 15 of 256 bits agree in at least one
of 16 bands (the pigeonhole principle), so it is enough to compare codes with an equal band. For larger radii the
division is repeated with the bits in other random orders: a pair at distance d is missed by one order with the
probability that none of its bands is free of differing bits, and by all with the product (``recall``). Four orders find
at least 0.999 of the pairs at distance 31.

Codes are sorted by band, so that those to compare lie side by side: the comparison runs over whole arrays, of the k-th
codes of many groups at a time. Equal codes are compared once. In a band whose values are very common (icons on white
have many) at most ``max_bucket`` codes are compared with each one, those that are alike in the next band first, and the
result says how many comparisons were left out.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

BAND_BITS = 16
MAX_BUCKET = 2048  # codes compared with each one,
MAX_COMPARISONS = 1 << 28  # fewer if a band could have more comparisons than these, but at least
MIN_BUCKET = 256
ORDERS = 4  # of the bits, for radii of one or more differing bits a band
SEED = 20
THREADS = 2
BRUTE_FORCE_PAIRS = 4_000_000  # fewer are all compared
BLOCK = 1 << 14  # pairs compared at a time, so that they stay in the processor's cache
LARGE_GROUP = 256  # codes with an equal band; larger groups are compared one by one
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
    codes: Codes, others: Codes | None = None, *, radius: int, max_bucket: int | None = None, threads: int = THREADS
) -> NearPairs:
    """All pairs of codes that differ in at most ``radius`` bits.

    Args:
        codes: (N, B) bits as bytes; B is a multiple of 8.
        others: (M, B), whose pairs with ``codes`` are sought; by default the pairs within ``codes``, each once with
            ``first < second``.
        radius: the most bits that differ; below half of the bits.
        max_bucket: the most codes with an equal band that are compared with each one; by default 2,048 of up to
            130,000 codes, and fewer of more.
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
    if max_bucket is None:
        max_bucket = max(MIN_BUCKET, min(MAX_BUCKET, MAX_COMPARISONS // max(1, len(first))))
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
    mixed = np.zeros(len(words), np.uint64)
    for word, factor in zip(words.T, _mixing_factors(words.shape[1]), strict=True):
        mixed ^= word * factor  # one number to sort by, four times as fast as by all words
    order = np.argsort(mixed)
    ordered = words[order]
    new = np.ones(len(words), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    mixed = mixed[order]
    if (new[1:] & (mixed[1:] == mixed[:-1])).any():  # two codes with the same number may lie mixed with one another
        order = np.lexsort(tuple(words.T))
        ordered = words[order]
        new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    position = np.empty(len(words), dtype=np.int64)
    position[order] = np.cumsum(new) - 1
    return ordered[new], position


def _mixing_factors(count: int) -> Words:
    return np.random.default_rng(SEED).integers(1, 1 << 64, count, dtype=np.uint64) | np.uint64(1)


def _words(codes: Codes) -> Words:
    return np.ascontiguousarray(codes, dtype=np.uint8).view(np.uint64)


def _unique_pairs(
    first: Words, second: Words, within: bool, radius: int, max_bucket: int, threads: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int, float]:
    """Pairs of different distinct codes (of two sets: also of equal ones), comparisons left out, and the recall."""
    bits = first.shape[1] * 64
    if len(first) * len(second) <= BRUTE_FORCE_PAIRS:
        one, other = (_Side.of(each, np.arange(len(each)), np.zeros(len(each), np.uint16)) for each in (first, second))
        whole = _Ranges(*(np.array([value]) for value in (0, len(first), 0, len(second))))
        pairs = _near_of_large(one, other, whole, within, radius, max(len(first), len(second)))
        return pairs // max(1, len(second)), pairs % max(1, len(second)), 0, 1.0
    orders = 1 if radius < bits // BAND_BITS else ORDERS
    draw = np.random.default_rng(SEED)
    found: list[NDArray[np.int64]] = []
    left_out = 0
    with ThreadPoolExecutor(threads) as pool:
        for number in range(orders):
            order = None if number == 0 else draw.permutation(bits)
            keys = _band_keys(first, order, pool)
            other_keys = keys if within else _band_keys(second, order, pool)
            search = partial(_pairs_of_band, (first, keys), (second, other_keys), within, radius, max_bucket)
            for pairs, skipped in pool.map(search, range(bits // BAND_BITS)):
                found.append(pairs)
                left_out += skipped
            found = [_distinct(found)]  # so that the pairs of four orders are never all in memory
    pairs = _distinct(found)
    return pairs // len(second), pairs % len(second), left_out, expected_recall(radius, orders, bits)


def _distinct(pairs: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.unique(np.concatenate(pairs)) if pairs else np.zeros(0, np.int64)


def _band_keys(words: Words, order: NDArray[np.int64] | None, pool: ThreadPoolExecutor) -> NDArray[np.uint16]:
    """The values of the bands (bands, N) of every code, with its bits in this order."""
    keys = np.empty((words.shape[1] * 64 // BAND_BITS, len(words)), np.uint16)
    table = None if order is None else _reordering(order)

    def fill(start: int) -> None:
        block = words[start : start + KEY_BLOCK]
        if table is not None:
            codes = np.ascontiguousarray(block.view(np.uint8).reshape(len(block), -1).T)
            block = table[0].take(codes[0], axis=0)
            for part, values in zip(table[1:], codes[1:], strict=True):
                block ^= part.take(values, axis=0)
        keys[:, start : start + len(block)] = block.view(np.uint16).reshape(len(block), -1).T

    list(pool.map(fill, range(0, len(words), KEY_BLOCK)))
    return keys


def _reordering(order: NDArray[np.int64]) -> Words:
    """What each value of each byte becomes (bytes, 256, W) when bits are put in this order; a code is their union."""
    size = len(order) // 8
    codes = np.zeros((size, 256, size), np.uint8)
    codes[np.arange(size), :, np.arange(size)] = np.arange(256)
    bits = np.unpackbits(codes, axis=2)
    return np.packbits(np.take(bits, order, axis=2), axis=2).view(np.uint64)


@dataclass(frozen=True)
class _Side:
    """Codes in the order of a band's values.

    Attributes:
        places: (N,) their positions among all distinct codes.
        words: (N, W).
        head: (H, N) the first half of the words, which rules out most pairs.
        tie_break: (N,) the values by which codes of a large group are sorted.
    """

    places: NDArray[np.int64]
    words: Words
    head: Words
    tie_break: NDArray[np.uint16]

    @classmethod
    def of(cls, words: Words, places: NDArray[np.int64], tie_break: NDArray[np.uint16]) -> _Side:
        half = (words.shape[1] + 1) // 2
        chosen = words.take(places, axis=0)
        return cls(places, chosen, np.ascontiguousarray(chosen[:, :half].T), tie_break[places])


@dataclass(frozen=True)
class _Ranges:
    """Groups of codes with the same value of a band: where they start in the two sides, and how many they are."""

    first: NDArray[np.int64]
    first_sizes: NDArray[np.int64]
    second: NDArray[np.int64]
    second_sizes: NDArray[np.int64]

    def __getitem__(self, chosen: NDArray[np.int64] | NDArray[np.bool_] | slice) -> _Ranges:
        return _Ranges(self.first[chosen], self.first_sizes[chosen], self.second[chosen], self.second_sizes[chosen])


def _pairs_of_band(
    first: tuple[Words, NDArray[np.uint16]],
    second: tuple[Words, NDArray[np.uint16]],
    within: bool,
    radius: int,
    max_bucket: int,
    band: int,
) -> tuple[NDArray[np.int64], int]:
    """Near pairs among the codes with an equal value of a band, as ``left * M + right``, and comparisons left out."""
    first_keys, second_keys = first[1][band], second[1][band]
    first_counts, second_counts = (np.bincount(keys, minlength=1 << BAND_BITS) for keys in (first_keys, second_keys))
    shared = (first_counts > 1) if within else (first_counts > 0) & (second_counts > 0)
    is_large = shared & (np.maximum(first_counts, second_counts) > LARGE_GROUP)
    one = _side_of_band(*first, band, shared, is_large)
    other = one if within else _side_of_band(*second, band, shared, is_large)
    sizes, other_sizes = first_counts[shared], second_counts[shared]
    ranges = _Ranges(np.cumsum(sizes) - sizes, sizes, np.cumsum(other_sizes) - other_sizes, other_sizes)
    large = is_large[shared]
    found = [
        _near_of_small(one, other, ranges[~large], within, radius),
        _near_of_large(one, other, ranges[large], within, radius, max_bucket),
    ]
    pairs = _distinct(found)
    left, right = pairs // max(1, len(other.places)), pairs % max(1, len(other.places))
    left, right = one.places[left], other.places[right]
    if within:
        left, right = np.minimum(left, right), np.maximum(left, right)
        beyond = np.maximum(sizes - 1 - max_bucket, 0)
        left_out = int((beyond * (beyond + 1) // 2).sum())
    else:
        left_out = int((sizes * np.maximum(other_sizes - max_bucket, 0)).sum())
    return left * len(second[0]) + right, left_out


def _side_of_band(
    words: Words, keys: NDArray[np.uint16], band: int, used: NDArray[np.bool_], is_large: NDArray[np.bool_]
) -> _Side:
    """The codes whose value of the band is used, in the order of the values; large groups by the next band."""
    places = np.flatnonzero(used[keys[band]])
    tie_break = keys[(band + 1) % len(keys)]
    values = keys[band, places]
    crowded = np.flatnonzero(is_large[values])
    if len(crowded):
        places[crowded] = places[crowded][np.argsort(tie_break[places[crowded]], kind="stable")]
        values = keys[band, places]
    return _Side.of(words, places[np.argsort(values, kind="stable")], tie_break)


def _near_of_small(first: _Side, second: _Side, groups: _Ranges, within: bool, radius: int) -> NDArray[np.int64]:
    """Near pairs within groups, many groups at a time: the k-th codes of all groups lie side by side.

    Groups of similar sizes are put together, and shorter ones are filled up with codes that follow, so that every
    operation runs over a whole array.
    """
    groups = groups[np.argsort(groups.first_sizes * (LARGE_GROUP + 1) + groups.second_sizes)]
    found = []
    start = 0
    while start < len(groups.first):
        widest = int(groups.second_sizes[start : start + BLOCK // 4].max())
        block = groups[start : start + max(1, BLOCK // widest)]
        start += len(block.first)
        depth, widest = int(block.first_sizes[-1]), int(block.second_sizes.max())
        rows = np.minimum(block.first + np.arange(depth)[:, None], len(first.places) - 1)
        columns = np.minimum(block.second + np.arange(widest)[:, None], len(second.places) - 1)
        left, right = first.head[:, rows], second.head[:, columns]
        for i in range(depth):
            skip = i + 1 if within else 0
            j, group = np.nonzero(_differing_heads(left[:, i], right[:, skip:]) <= radius)
            if len(j):
                j += skip
                real = (i < block.first_sizes[group]) & (j < block.second_sizes[group])
                found.append(_confirmed(first, second, rows[i, group[real]], columns[j[real], group[real]], radius))
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _near_of_large(
    first: _Side, second: _Side, groups: _Ranges, within: bool, radius: int, max_bucket: int
) -> NDArray[np.int64]:
    """Near pairs within groups, one group after another: at most ``max_bucket`` codes are compared with each one.

    Those are the ones beside it in the order of the sides, which is by a second band.
    """
    found = []
    for start, size, other_start, other_size in zip(
        groups.first.tolist(),
        groups.first_sizes.tolist(),
        groups.second.tolist(),
        groups.second_sizes.tolist(),
        strict=True,
    ):
        others = slice(other_start, other_start + other_size)
        # Within one set each code is compared with those after it.
        lows = np.arange(start + 1, start + size + 1)
        if not within:
            beside = np.searchsorted(second.tie_break[others], first.tie_break[start : start + size])
            lows = other_start + np.clip(beside - max_bucket // 2, 0, max(0, other_size - max_bucket))
        highs = np.minimum(lows + max_bucket, others.stop)
        height = max(1, BLOCK // max(1, min(other_size, max_bucket)))
        for k in range(0, size, height):
            low, high = lows[k : k + height], highs[k : k + height]
            top, left = start + k, int(low[0])
            ours = first.head[:, top : top + len(low)]
            theirs = second.head[:, left : high[-1]]
            if len(low) >= theirs.shape[1]:  # the longer side is the inner one
                column, row = np.nonzero(_differing_heads(ours, theirs[..., None]) <= radius)
            else:
                row, column = np.nonzero(_differing_heads(ours[..., None], theirs) <= radius)
            column += left
            real = (column >= low[row]) & (column < high[row])
            if real.any():
                found.append(_confirmed(first, second, row[real] + top, column[real], radius))
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _differing_heads(first: Words, second: Words) -> NDArray[np.uint8] | NDArray[np.int64]:
    """The number of bits in which the first halves of codes (H, …) differ; the other axes are broadcast."""
    wide = len(first) * 64 > np.iinfo(np.uint8).max
    total: NDArray[Any] = np.bitwise_count(first[0] ^ second[0])
    total = total.astype(np.int64) if wide else total
    for one, other in zip(first[1:], second[1:], strict=True):
        total += np.bitwise_count(one ^ other)
    return total


def _confirmed(
    first: _Side, second: _Side, rows: NDArray[np.int64], columns: NDArray[np.int64], radius: int
) -> NDArray[np.int64]:
    """Those of the pairs that differ in at most ``radius`` of all bits, as ``row * M + column``."""
    near = _differing(first.words.T, second.words.T, rows, columns) <= radius
    return rows[near] * len(second.places) + columns[near]


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
