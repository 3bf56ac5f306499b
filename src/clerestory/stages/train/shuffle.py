"""Which sample comes when, without a list: position → sample is a formula, so a whole run's place is one integer.

A shuffled list has to be made anew for every epoch, kept in memory and split among workers, and a run that resumes has
to rebuild it and skip forward. Here every epoch is a *keyed permutation*: a generalised Feistel network over
``rows × columns ≥ size`` cells, the few cells beyond ``size`` skipped by walking on along their cycle (Black and
Rogaway, "Ciphers with arbitrary finite domains", 2002). Any position is computed on its own, so the order is the same
for every number of workers and ranks, and a run goes on at any integer at no cost.

Random numbers are keyed in the same way: those of a sample depend on (seed, epoch, sample) and on nothing that came
before, so it makes no difference which worker prepares it, in which batch, or whether the run was interrupted.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import ConfigError

Rows = NDArray[np.int64]
Words = NDArray[np.uint64]
ROUNDS = 8  # four suffice against guessing (Luby and Rackoff); small sets mix more slowly
_GOLDEN, _FIRST, _SECOND = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_MANTISSA = 2.0**-53


class Drawn(NamedTuple):
    """One sample of one epoch.

    Attributes:
        position: its place in the whole run, counted from 0.
        epoch: how often everything has been seen before.
        sample: its row in the data.
    """

    position: int
    epoch: int
    sample: int


class Order:
    """A shuffle of ``size`` samples, another one in each epoch; a pure function of (seed, epoch, index).

    The oracle in the tests is the definition of a shuffle: each epoch holds every sample exactly once.

    Args:
        size: how many samples there are.
        seed: of the shuffles.

    Raises:
        ConfigError: there is nothing to order.
    """

    def __init__(self, size: int, seed: int) -> None:
        if size < 1:
            raise ConfigError(f"there are {size} samples to put in order", "bring in at least one")
        self.size, self.seed = size, seed
        self._rows = math.isqrt(size - 1) + 1  # the smallest near-square that holds all: few cells are left over
        self._columns = -(-size // self._rows)

    def at(self, position: int) -> Drawn:
        """The sample at one position of the run."""
        epoch, index = divmod(position, self.size)
        return Drawn(position, epoch, int(self._permute(epoch, np.array([index], np.uint64))[0]))

    def take(self, start: int, count: int) -> Rows:
        """The samples at positions ``start … start + count - 1``, across the ends of epochs, ``(count,)``."""
        if start < 0 or count < 0:
            raise ConfigError(f"positions {start} to {start + count} are not there", "count from 0")
        pieces, position, end = [np.empty(0, np.int64)], start, start + count
        while position < end:
            epoch, index = divmod(position, self.size)
            stop = min(self.size, index + end - position)
            pieces.append(self._permute(epoch, np.arange(index, stop, dtype=np.uint64)))
            position += stop - index
        return np.concatenate(pieces)

    def index_of(self, epoch: int, sample: int) -> int:
        """Where in an epoch a sample comes: the inverse of the shuffle."""
        if not 0 <= sample < self.size:
            raise ConfigError(f"there is no sample {sample}", f"they are 0 to {self.size - 1}")
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
        while outside.size:  # walk on along the cycle; ends, because the cycle leads back to a cell inside
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


class Batches:
    """Batches of an ``Order`` for torch's ``DataLoader(dataset, batch_sampler=Batches(…))``, from any step on.

    A batch is a list of ``Drawn``, which is what ``dataset[…]`` is then asked for: it knows its epoch, so the data set
    can vary it with ``Keyed``. Batch ``s`` of a run covers positions ``s·batch … (s+1)·batch - 1`` whatever the number
    of workers; of several ranks each takes an equal, contiguous part, so the batch as a whole is the same again.

    Args:
        order: of the samples.
        batch: samples in a step, over all ranks.
        steps: how many steps the whole run has.
        start: the step to begin with.
        rank, world: which of how many ranks this is.

    Raises:
        ConfigError: the batch cannot be split evenly over the ranks.
    """

    def __init__(self, order: Order, batch: int, steps: int, start: int = 0, rank: int = 0, world: int = 1) -> None:
        if batch < 1 or batch % world or not 0 <= rank < world:
            raise ConfigError(
                f"a batch of {batch} cannot be split over {world} ranks (this is rank {rank})",
                f"make batch a multiple of {world}",
            )
        self.order, self.batch, self.steps, self.start, self.rank, self.world = order, batch, steps, start, rank, world

    def __len__(self) -> int:
        """Batches that are left."""
        return max(0, self.steps - self.start)

    def __iter__(self) -> Iterator[list[Drawn]]:
        """The batches of steps ``start … steps - 1``."""
        for step in range(self.start, self.steps):
            yield self.batch_of(step)

    def batch_of(self, step: int) -> list[Drawn]:
        """This rank's part of the batch of one step."""
        share = self.batch // self.world
        first = step * self.batch + self.rank * share
        samples = self.order.take(first, share).tolist()
        return [Drawn(first + i, (first + i) // self.order.size, sample) for i, sample in enumerate(samples)]


class Keyed:
    """Random numbers of (seed, epoch, sample): the same whoever draws them, and in whichever order.

    Args:
        seed: of all of them.
        purpose: what they are for; different purposes give independent numbers.
    """

    def __init__(self, seed: int, purpose: str = "augment") -> None:
        self.seed, self.purpose = seed, purpose

    def generator(self, epoch: int, sample: int | str) -> np.random.Generator:
        """A generator of its own for one sample of one epoch; ``sample`` is its row or its id."""
        return np.random.Generator(np.random.Philox(key=self._key(epoch, sample)))

    def torch_seed(self, epoch: int, sample: int | str) -> int:
        """A seed for ``torch.Generator().manual_seed``."""
        return self._key(epoch, sample) % 2**63

    def uniforms(self, epochs: Sequence[int] | Rows, samples: Sequence[int] | Rows, count: int) -> NDArray[np.float64]:
        """``count`` numbers in [0, 1) for each of a batch's samples at once, ``(len(samples), count)``.

        Row ``i`` depends on ``(seed, purpose, epochs[i], samples[i])`` alone, not on the rest of the batch.
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
    """Bytes that no other parts give: ``repr`` tells 1 from "1", and quotes what could be a separator."""
    return b"\0".join(repr(part).encode() for part in parts)


def _mix(x: Words) -> Words:
    """SplitMix64's output function (Steele, Lea and Flood, 2014): every input bit changes half of the output bits."""
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    out: Words = x ^ (x >> np.uint64(31))
    return out
