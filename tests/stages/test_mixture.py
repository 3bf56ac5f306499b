"""Batches from a main pool and a supplement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.support.shapes import shapes

from clerestory.core.codec import Tags
from clerestory.core.progress import QUIET
from clerestory.core.sample import SUPPLEMENT, TRAIN, Caption, Dataset
from clerestory.stages.train import TrainConfig
from clerestory.stages.train.mixture import MixtureSampler
from clerestory.stages.train.objectives import Captions
from clerestory.stages.train.run import prepare_run
from clerestory.stages.train.sampling import ConceptRows, ConceptSampler


def pool(first: int, size: int) -> tuple[ConceptRows, ...]:
    return tuple(ConceptRows((first + i,), ()) for i in range(size))


@pytest.mark.parametrize("step", [0, 3, 17, 1000])
def test_a_batch_has_main_rows_first_and_is_a_function_of_the_step(step: int) -> None:
    mixed = MixtureSampler(ConceptSampler(pool(0, 10), 4, 7, 0.0), ConceptSampler(pool(10, 50), 3, 7, 0.0))
    rows = mixed.draw(step)
    assert mixed.batch_size == len(rows) == 7
    assert (rows[:4] < 10).all()
    assert (rows[4:] >= 10).all()
    assert len(np.unique(rows)) == 7
    again = MixtureSampler(ConceptSampler(pool(0, 10), 4, 7, 0.0), ConceptSampler(pool(10, 50), 3, 7, 0.0))
    assert (again.draw(step) == rows).all()
    assert mixed.epoch(step) == step // 2


def test_both_sources_are_drawn_evenly() -> None:
    mixed = MixtureSampler(ConceptSampler(pool(0, 8), 4, 0, 0.0), ConceptSampler(pool(8, 24), 4, 0, 0.0))
    rows = np.concatenate([mixed.draw(step) for step in range(12)])
    counts = np.bincount(rows, minlength=32)
    assert (counts[:8] == 6).all()
    assert (counts[8:] == 2).all()


def test_the_decoder_learns_no_caption_of_the_supplement(tmp_path: Path) -> None:
    data = shapes()
    beside = sorted({s.concept for s in data if s.split == TRAIN})[::2]
    marked = [
        replace(s, captions=(Caption(f"extra {s.caption}"),), groups=Tags({**s.groups, SUPPLEMENT: "yes"}))
        if s.concept in beside and s.split == TRAIN
        else s
        for s in data
    ]
    both = Dataset("both", marked, data.read)
    config = TrainConfig(preset="tiny", steps=2, batch_size=8, threads=1, caption_share=1.0, supplement_share=0.5)
    run = prepare_run(both, config.resolved(), tmp_path, QUIET)
    assert "extra" not in run.processor.tokenizer.get_vocab()
    captions = run.objectives[0]
    assert isinstance(captions, Captions)
    step = run.context(0)
    captioned = captions.num_captioned(step)
    assert 0 < captioned < len(step.rows)
    texts = [run.train_data.train.caption(row) for row in step.rows]
    assert [caption.startswith("extra") for caption in texts] == [i >= captioned for i in range(len(texts))]
    pad = run.model.config.pad_token_id
    assert (captions.ids_ML[run.train_data.train.caption_N[step.rows[captioned:]]] == pad).all()
    assert run.step() > 0
