"""The order of the samples as a formula: the state of a whole run is one integer, its position.

A shuffled list must be rebuilt for every epoch, kept in memory and divided among workers, and a resumed run has to
rebuild it and skip forward. Here every epoch is a *keyed permutation*: a generalised Feistel network over
``rows × columns ≥ size`` cells, where the few cells beyond ``size`` are skipped by cycle walking (Black and Rogaway,
"Ciphers with arbitrary finite domains", 2002). Every position is computed on its own, so the order is the same for any
number of workers and ranks, and a run resumes at any position at no cost.

Random numbers are keyed in the same way: those of a sample depend on (seed, epoch, sample) and on nothing else, so it
makes no difference which worker prepares it, in which batch, or whether the run was interrupted.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import ConfigError

Rows = NDArray[np.int64]
Words = NDArray[np.uint64]
ROUNDS = 8  # four suffice for pseudo-randomness (Luby and Rackoff); small sets mix more slowly
_GOLDEN, _FIRST, _SECOND = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_MANTISSA = 2.0**-53


class ShuffledOrder:
    """A shuffle of ``size`` samples, another one in each epoch; a pure function of (seed, epoch, index).

    The tests check the definition of a shuffle: each epoch contains every sample exactly once.

    Args:
        size: the number of samples.
        seed: of the shuffles.

    Raises:
        ConfigError: there are no samples.
    """

    def __init__(self, size: int, seed: int) -> None:
        if size < 1:
            raise ConfigError(f"cannot shuffle {size} samples", "give at least one")
        self.size, self.seed = size, seed
        self._rows = math.isqrt(size - 1) + 1  # the smallest near-square that fits all: few unused cells
        self._columns = -(-size // self._rows)

    def take(self, start: int, count: int) -> Rows:
        """The samples at positions ``start … start + count - 1``, across the ends of epochs, ``(count,)``."""
        if start < 0 or count < 0:
            raise ConfigError(f"positions {start} to {start + count} do not exist", "positions count from 0")
        pieces, position, end = [np.empty(0, np.int64)], start, start + count
        while position < end:
            epoch, index = divmod(position, self.size)
            stop = min(self.size, index + end - position)
            pieces.append(self._permute(epoch, np.arange(index, stop, dtype=np.uint64)))
            position += stop - index
        return np.concatenate(pieces)

    def index_of(self, epoch: int, sample: int) -> int:
        """The place of a sample in an epoch: the inverse of the shuffle."""
        if not 0 <= sample < self.size:
            raise ConfigError(f"sample {sample} does not exist", f"samples are 0 to {self.size - 1}")
        keys = self._keys(epoch)
        cells = np.array([sample], np.uint64)
        while True:
            cells = self._backward(cells, keys)
            if cells[0] < self.size:
                return int(cells[0])

    def _permute(self, epoch: int, index: Words) -> Rows:
        keys, cells = self._keys(epoch), index
        cells = self._forward(cells, keys)
        outside = np.flatnonzero(cells >= self.size)
        while outside.size:  # cycle walking; ends, because the cycle leads back to a cell inside
            cells[outside] = self._forward(cells[outside], keys)
            outside = outside[cells[outside] >= self.size]
        return cells.astype(np.int64)

    def _keys(self, epoch: int) -> Words:
        raw = hashlib.blake2b(_tag("order", self.seed, epoch, self.size), digest_size=8 * ROUNDS).digest()
        return np.frombuffer(raw, "<u8").astype(np.uint64)

    def _forward(self, cells: Words, keys: Words) -> Words:
        rows, columns = np.uint64(self._rows), np.uint64(self._columns)
        row, column = np.divmod(cells, columns)
        for number, key in enumerate(keys):
            if number % 2:
                column = (column + _mix(row + key) % columns) % columns
            else:
                row = (row + _mix(column + key) % rows) % rows
        out: Words = row * columns + column
        return out

    def _backward(self, cells: Words, keys: Words) -> Words:
        rows, columns = np.uint64(self._rows), np.uint64(self._columns)
        row, column = np.divmod(cells, columns)
        for number in reversed(range(ROUNDS)):
            if number % 2:
                column = (column + columns - _mix(row + keys[number]) % columns) % columns
            else:
                row = (row + rows - _mix(column + keys[number]) % rows) % rows
        out: Words = row * columns + column
        return out


class SampleRng:
    """Random numbers as a function of (seed, epoch, sample), independent of the process and the order of the draws.

    Args:
        seed: of all of them.
        purpose: the name of the random stream; different purposes give independent numbers.
    """

    def __init__(self, seed: int, purpose: str = "augment") -> None:
        self.seed, self.purpose = seed, purpose

    def generator(self, epoch: int, sample: int | str) -> np.random.Generator:
        """The generator of one sample in one epoch; ``sample`` is its row or its id."""
        return np.random.Generator(np.random.Philox(key=self._key(epoch, sample)))

    def torch_seed(self, epoch: int, sample: int | str) -> int:
        """A seed for ``torch.Generator().manual_seed``."""
        return self._key(epoch, sample) % 2**63

    def uniforms(self, epochs: Sequence[int] | Rows, samples: Sequence[int] | Rows, count: int) -> NDArray[np.float64]:
        """``count`` numbers in [0, 1) for each of a batch's samples at once, ``(len(samples), count)``.

        Row ``i`` depends only on ``(seed, purpose, epochs[i], samples[i])``, not on the rest of the batch.
        """
        key = int.from_bytes(hashlib.blake2b(_tag(self.purpose, self.seed), digest_size=8).digest(), "little")
        epoch = np.asarray(epochs, np.int64).astype(np.uint64)
        sample = np.asarray(samples, np.int64).astype(np.uint64)
        row = _mix(sample + _mix(epoch + np.uint64(key)))
        words = _mix(row[:, None] + _mix(np.arange(count, dtype=np.uint64))[None])
        out: NDArray[np.float64] = (words >> np.uint64(11)).astype(np.float64) * _MANTISSA
        return out

    def _key(self, epoch: int, sample: int | str) -> int:
        return int.from_bytes(
            hashlib.blake2b(_tag(self.purpose, self.seed, epoch, sample), digest_size=16).digest(), "little"
        )


def _tag(*parts: int | str) -> bytes:
    """Distinct bytes for distinct parts: ``repr`` distinguishes 1 from "1" and quotes separators."""
    return b"\0".join(repr(part).encode() for part in parts)


def _mix(x: Words) -> Words:
    """SplitMix64's output function (Steele, Lea and Flood, 2014): every input bit changes half of the output bits."""
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    out: Words = x ^ (x >> np.uint64(31))
    return out
