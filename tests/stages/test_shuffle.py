"""The order of the data: a shuffle, the same for everyone, at any place of a run."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from torch.utils.data import DataLoader, Dataset

from clerestory.core.errors import ConfigError
from clerestory.stages.train.sharding import shard, shard_size
from clerestory.stages.train.shuffle import SampleRng, ShuffledOrder


class KeyedNumbers(Dataset[tuple[int, int, float]]):
    """Returns the requested epoch and sample, and a random number of that sample."""

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, int, float]:
        return *key, float(SampleRng(3).generator(*key).random())


@settings(max_examples=200, deadline=None)
@given(size=st.integers(1, 5000), seed=st.integers(0, 2**63), epoch=st.integers(0, 1000))
def test_an_epoch_holds_every_sample_exactly_once(size: int, seed: int, epoch: int) -> None:
    rows = ShuffledOrder(size, seed).take(epoch * size, size)
    np.testing.assert_array_equal(np.sort(rows), np.arange(size))


@settings(max_examples=100, deadline=None)
@given(size=st.integers(1, 400), start=st.integers(0, 2000), count=st.integers(0, 900))
def test_any_place_of_the_run_can_be_computed_on_its_own(size: int, start: int, count: int) -> None:
    order = ShuffledOrder(size, 7)
    whole = order.take(0, start + count)
    np.testing.assert_array_equal(order.take(start, count), whole[start:])
    assert order.index_of(start // size, int(order.take(start, 1)[0])) == start % size


def test_a_billion_samples_cost_nothing() -> None:
    order = ShuffledOrder(10**12 + 39, 1)
    few = order.take(10**11, 1000)
    assert len(set(few.tolist())) == 1000
    assert few.max() < order.size
    assert [order.index_of(0, int(row)) for row in few[:20]] == list(range(10**11, 10**11 + 20))


def test_epochs_and_seeds_are_shuffled_anew() -> None:
    first, second = ShuffledOrder(500, 0).take(0, 500), ShuffledOrder(500, 0).take(500, 500)
    other = ShuffledOrder(500, 1).take(0, 500)
    # Two independent shuffles agree in one place on average; 12 is beyond one in a billion.
    assert (first == second).sum() < 12
    assert (first == other).sum() < 12
    assert (first == np.arange(500)).sum() < 12


@pytest.mark.parametrize("size", [2, 3, 4, 5, 24])
def test_no_place_prefers_a_sample(size: int) -> None:
    epochs = 3000
    order = ShuffledOrder(size, 11)
    place_of = order.take(0, epochs * size).reshape(epochs, size)
    for place in range(size):
        assert chisquare(np.bincount(place_of[:, place], minlength=size)).pvalue > 1e-6


def test_every_order_of_four_is_equally_likely() -> None:
    rows = ShuffledOrder(4, 5).take(0, 4 * 12_000).reshape(-1, 4)
    counts = Counter(map(tuple, rows.tolist()))
    assert len(counts) == 24
    assert chisquare(list(counts.values())).pvalue > 1e-6


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_change_nothing(workers: int) -> None:
    order, start = ShuffledOrder(37, 2), 5
    batches = [
        [(p // 37, sample) for p, sample in enumerate(order.take(s * 8, 8).tolist(), s * 8)] for s in range(start, 12)
    ]
    loader = DataLoader(
        KeyedNumbers(),
        batch_sampler=batches,  # type: ignore[arg-type]  # torch asks for lists of int
        num_workers=workers,
    )
    got = [torch.stack([e, s]).T.tolist() for e, s, _ in loader]
    whole = order.take(0, 96).tolist()
    assert got == [[[p // 37, whole[p]] for p in range(s * 8, s * 8 + 8)] for s in range(start, 12)]
    numbers = [value for *_, values in loader for value in values.tolist()]
    keyed = SampleRng(3)
    assert numbers == [float(keyed.generator(e, s).random()) for batch in batches for e, s in batch]


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_shards_partition_a_batch_and_spread_its_first_samples_evenly(count: int) -> None:
    batch = ShuffledOrder(50, 9).take(48, 16)
    shards = [shard(batch, index, count) for index in range(count)]
    for position, sample in enumerate(batch):
        assert shards[position % count][position // count] == sample
    for total in range(17):
        sizes = [shard_size(total, index, count) for index in range(count)]
        assert sizes == [len(shard(batch[:total], index, count)) for index in range(count)]
        assert sum(sizes) == total
        assert max(sizes) - min(sizes) <= 1
    assert shard(list(batch), 0, 1) == list(batch)
    assert torch.equal(shard(torch.from_numpy(batch), count - 1, count), torch.from_numpy(shards[-1]))


def test_random_numbers_belong_to_the_sample() -> None:
    keyed = SampleRng(4)
    batch = keyed.uniforms([0, 0, 1], [5, 6, 5], 3)
    np.testing.assert_array_equal(keyed.uniforms([1], [5], 3)[0], batch[2])
    np.testing.assert_array_equal(keyed.uniforms([0, 0], [6, 5], 5)[:, :3], batch[[1, 0]])
    assert len(np.unique(batch)) == 9
    assert not np.array_equal(SampleRng(4, "text").uniforms([0], [5], 3)[0], batch[0])
    assert not np.array_equal(SampleRng(5).uniforms([0], [5], 3)[0], batch[0])
    assert keyed.torch_seed(0, "a") != keyed.torch_seed(1, "a")
    assert keyed.generator(0, "1").random() != keyed.generator(0, 1).random()
    assert keyed.generator(2, "cat").random() == SampleRng(4).generator(2, "cat").random()


def test_random_numbers_are_uniform_and_unrelated() -> None:
    numbers = SampleRng(0).uniforms(np.repeat(np.arange(20), 500), np.tile(np.arange(500), 20), 4)
    assert kstest(numbers.ravel(), "uniform").pvalue > 1e-6
    related = np.corrcoef(numbers.T)
    assert np.abs(related - np.eye(4)).max() < 0.05
    assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.05


def test_nothing_to_order_is_refused() -> None:
    for wrong in (
        lambda: ShuffledOrder(0, 0),
        lambda: ShuffledOrder(3, 0).take(-1, 1),
        lambda: ShuffledOrder(3, 0).index_of(0, 3),
    ):
        with pytest.raises(ConfigError):
            wrong()
