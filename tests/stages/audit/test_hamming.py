"""The join of bit codes finds exactly the pairs that comparing every code with every other finds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from clerestory.stages.audit import hamming
from clerestory.stages.audit.hamming import expected_recall, group_pairs, near_pairs


def codes(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32), dtype=np.uint8)


def changed(code: NDArray[np.uint8], bits: int, seed: int) -> NDArray[np.uint8]:
    flips = np.zeros(256, np.uint8)
    flips[np.random.default_rng(seed).choice(256, bits, replace=False)] = 1
    return code ^ np.packbits(flips)


def all_pairs(first: NDArray[np.uint8], second: NDArray[np.uint8], radius: int, within: bool) -> set[tuple[int, int]]:
    distance = np.bitwise_count(first[:, None] ^ second[None]).sum(axis=2)
    pairs = {(int(i), int(j)) for i, j in np.argwhere(distance <= radius)}
    return {(i, j) for i, j in pairs if i < j} if within else pairs


def as_set(pairs: hamming.NearPairs) -> set[tuple[int, int]]:
    found = list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert len(found) == len(set(found))
    assert found == sorted(found)
    return set(found)


@pytest.fixture
def by_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few codes are searched by bands, too."""
    monkeypatch.setattr(hamming, "BRUTE_FORCE_PAIRS", 0)


@pytest.mark.parametrize("radius", [0, 7, 15])
@pytest.mark.parametrize("within", [True, False])
@pytest.mark.usefixtures("by_bands")
def test_every_pair_within_15_bits_is_found(radius: int, within: bool) -> None:
    base = codes(300)
    near = np.stack([changed(base[k], bits=k % 20, seed=k) for k in range(200)])
    first = np.concatenate([base, near, base[:5]])  # with equal codes
    second = first if within else np.concatenate([near[50:], base[100:]])
    found = near_pairs(first, None if within else second, radius=radius)
    assert as_set(found) == all_pairs(first, second, radius, within)
    assert (found.recall, found.left_out) == (1.0, 0)


@pytest.mark.usefixtures("by_bands")
def test_nearly_every_pair_within_31_bits_is_found() -> None:
    base = codes(4000)
    near = np.stack([changed(base[k], bits=31, seed=k) for k in range(4000)])
    found = near_pairs(base, near, radius=31)
    assert found.recall == pytest.approx(0.99994, abs=1e-5)
    assert len(as_set(found) & {(k, k) for k in range(4000)}) >= 3996
    assert found.distance.max() <= 31


def test_the_recall_agrees_with_simulated_codes() -> None:
    draw = np.random.default_rng(1)
    touched = [len(set((draw.permutation(256)[:31] // 16).tolist())) for _ in range(20_000)]
    missed = np.mean([bands == 16 for bands in touched])
    assert expected_recall(31, 1) == pytest.approx(1 - missed, abs=4 * np.sqrt(missed / 20_000))
    assert expected_recall(15, 1) == 1.0


def test_few_codes_are_compared_one_by_one_at_any_radius() -> None:
    first = np.concatenate([codes(60), codes(40)])
    found = near_pairs(first, radius=110)
    assert as_set(found) == all_pairs(first, first, 110, within=True)


@pytest.mark.usefixtures("by_bands")
def test_a_common_value_is_capped_and_the_cap_reported() -> None:
    skewed = codes(500)
    skewed[:, :2] = 7  # one band with the same value in all codes
    found = near_pairs(skewed, radius=15, max_bucket=100)
    assert found.left_out == sum(range(400))
    assert near_pairs(skewed, radius=15).left_out == 0


@pytest.mark.usefixtures("by_bands")
def test_codes_that_are_all_equal_are_found_without_comparing_all_pairs() -> None:
    equal = np.repeat(codes(1), 50, axis=0)
    assert as_set(near_pairs(equal, radius=3)) == {(i, j) for i in range(50) for j in range(i + 1, 50)}


def test_no_codes_have_no_pairs() -> None:
    assert len(near_pairs(codes(0), radius=31)) == len(near_pairs(codes(1), radius=31)) == 0
    assert len(near_pairs(codes(3), codes(0), radius=31)) == 0


@pytest.mark.parametrize("radius", [-1, 128, 300])
def test_a_radius_that_means_nothing_is_refused(radius: int) -> None:
    with pytest.raises(ValueError, match="radius"):
        near_pairs(codes(2), radius=radius)


def test_groups_are_chains_of_pairs() -> None:
    first, second = np.array([5, 0, 3, 9]), np.array([3, 7, 8, 9])
    assert group_pairs(first, second, 10) == [[0, 7], [3, 5, 8]]
    assert group_pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), 4) == []


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("large_group", [1, 20, 1000])
@pytest.mark.usefixtures("by_bands")
def test_groups_of_any_size_are_compared_in_full(
    within: bool, large_group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many codes with a common band, near ones among them, and blocks that end amid a group."""
    monkeypatch.setattr(hamming, "LARGE_GROUP", large_group)
    monkeypatch.setattr(hamming, "BLOCK", 64)
    base = codes(260)
    base[:150, 4:6] = 9
    base[150:190, 30:] = 3
    near = np.stack([changed(base[k], bits=k % 16, seed=k) for k in range(0, 260, 2)])
    first = np.concatenate([base, near])
    second = first if within else np.concatenate([near[::-1], base[::3]])
    found = near_pairs(first, None if within else second, radius=15)
    assert as_set(found) == all_pairs(first, second, 15, within)
    assert found.left_out == 0


@pytest.mark.usefixtures("by_bands")
def test_in_a_common_band_the_codes_beside_each_one_are_compared() -> None:
    """Of 600 codes with one value of a band each is compared with 8, which agree in the next band; no other does."""
    base = codes(600)
    base[:, :2] = 7
    near = codes(600, seed=1)
    near[:, :4] = base[:, :4]
    near[:, 18:] = base[:, 18:] ^ 1  # one bit of every band
    near[:, 4:18] = base[:, 4:18] ^ 1
    found = near_pairs(base, near, radius=31, max_bucket=8)
    assert found.left_out == 600 * 592
    assert as_set(found) == {(k, k) for k in range(600)}


def test_equal_codes_are_counted_once_even_if_the_number_they_are_sorted_by_is_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hamming, "_mixing_factors", lambda count: np.zeros(count, np.uint64))
    distinct, position = hamming._unique(np.concatenate([codes(40), codes(40)[::-1], codes(7)]))
    assert len(distinct) == 40
    assert position[:40].tolist() == position[40:80][::-1].tolist()
    assert position[80:].tolist() == position[:7].tolist()


def test_bits_are_put_in_another_order() -> None:
    order = np.random.default_rng(3).permutation(256)
    base = codes(50)
    with ThreadPoolExecutor(1) as pool:
        keys = hamming._band_keys(hamming._words(base), order, pool)
    expected = np.packbits(np.take(np.unpackbits(base, axis=1), order, axis=1), axis=1)
    assert np.array_equal(keys, expected.view(np.uint16).T)
