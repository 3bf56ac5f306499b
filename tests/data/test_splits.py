"""Splits depend on the concept and on nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from clerestory.data.splits import connected_components, hash_position, split_of


def test_the_shares_come_out() -> None:
    counts = Counter(split_of(f"concept {i}") for i in range(20_000))
    assert abs(counts["test"] / 20_000 - 0.1) < 0.01
    assert abs(counts["val"] / 20_000 - 0.1) < 0.01
    assert set(counts) == {"train", "val", "test"}


def test_another_process_with_another_hash_seed_splits_alike() -> None:
    code = "from clerestory.data.splits import split_of; print([split_of(str(i)) for i in range(50)])"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert runs == {str([split_of(str(i)) for i in range(50)]) + "\n"}


@given(st.text(), st.text())
def test_a_position_lies_in_the_unit_interval(concept: str, salt: str) -> None:
    assert 0 <= hash_position(concept, salt) < 1


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=40))
def test_connected_agrees_with_the_naive_walk(links: list[tuple[int, int]]) -> None:
    groups = [{a, b} for a, b in links]
    merged = True
    while merged:
        merged = False
        for one in groups:
            for other in groups:
                if one is not other and one & other:
                    one |= other
                    groups.remove(other)
                    merged = True
                    break
            if merged:
                break
    together = connected_components(links)
    nodes = sorted(together)
    for a in nodes:
        for b in nodes:
            assert (together[a] == together[b]) == any({a, b} <= group for group in groups)
