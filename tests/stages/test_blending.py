"""Batches from a main pool and a supplement."""

from __future__ import annotations

import numpy as np
import pytest

from clerestory.stages.train.blending import Blend
from clerestory.stages.train.sampling import Concept, Sampler


def pool(first: int, size: int) -> tuple[Concept, ...]:
    return tuple(Concept((first + i,), ()) for i in range(size))


@pytest.mark.parametrize("step", [0, 3, 17, 1000])
def test_a_batch_has_main_rows_first_and_is_a_function_of_the_step(step: int) -> None:
    blend = Blend(Sampler(pool(0, 10), 4, 7, 0.0), Sampler(pool(10, 50), 3, 7, 0.0))
    rows = blend.draw(step)
    assert blend.batch == len(rows) == 7
    assert (rows[:4] < 10).all()
    assert (rows[4:] >= 10).all()
    assert len(np.unique(rows)) == 7
    again = Blend(Sampler(pool(0, 10), 4, 7, 0.0), Sampler(pool(10, 50), 3, 7, 0.0))
    assert (again.draw(step) == rows).all()
    assert blend.epoch(step) == step // 2


def test_both_pools_are_gone_through_evenly() -> None:
    blend = Blend(Sampler(pool(0, 8), 4, 0, 0.0), Sampler(pool(8, 24), 4, 0, 0.0))
    rows = np.concatenate([blend.draw(step) for step in range(12)])
    counts = np.bincount(rows, minlength=32)
    assert (counts[:8] == 6).all()
    assert (counts[8:] == 2).all()
