"""Images with several captions: every one is trained on, and each is right."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.shapes import shapes

from clerestory.core.progress import QUIET
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.stages.train import TrainConfig, run
from clerestory.stages.train.sampling import captions_of, draw_captions
from clerestory.stages.train.train_data import TrainData
from clerestory.stages.train.tune.caption_pairs import split_pairs
from clerestory.stages.train.tune.forgetting import chance_score
from clerestory.stages.train.validate import recall_at_k

TINY = TrainConfig(preset="tiny", steps=6, batch_size=16, threads=1, loss="softmax", style_strength=0.0)
TEMPLATES = ("{}", "a drawing of a {}", "one {} on white", "this is a {}", "{} in the middle")


def described(captions: int) -> Dataset:
    """The shapes with several captions for each image, and a keyword."""
    base = shapes()

    def with_captions(sample: Sample) -> Sample:
        texts = [Caption(template.format(sample.caption)) for template in TEMPLATES[:captions]]
        return replace(sample, captions=(*texts, Caption("shape", kind="keyword"), Caption("Form", lang="de")))

    return Dataset("described", [with_captions(sample) for sample in base], base.read)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=20),
    st.integers(0, 2**40),
    st.integers(0, 1000),
)
@settings(deadline=None)
def test_a_draw_depends_on_seed_epoch_and_image_alone(sizes: list[int], seed: int, epoch: int) -> None:
    captions = [tuple(range(10 * i, 10 * i + size)) for i, size in enumerate(sizes)]
    rows = np.arange(len(sizes))
    together = draw_captions(captions, rows, np.full(len(rows), epoch), seed)
    for row in rows.tolist():
        alone = draw_captions(captions, np.array([row]), np.array([epoch]), seed)
        assert together[row] == alone[0]
        assert together[row] in captions[row]
        if sizes[row] == 1:
            assert together[row] == captions[row][0], "a single caption needs no draw"


def test_over_the_epochs_every_caption_is_drawn_equally_often() -> None:
    drawn: Counter[int] = Counter()
    for epoch in range(2000):
        drawn.update(draw_captions([tuple(range(5))], np.array([0]), np.array([epoch]), seed=3).tolist())
    assert set(drawn) == set(range(5))
    assert max(abs(count - 400) for count in drawn.values()) < 5 * np.sqrt(2000 * 0.2 * 0.8)


def test_further_captions_are_captions_and_only_keywords_are_keywords(tmp_path: Path) -> None:
    training = run.prepare_run(described(5), TINY.resolved(), tmp_path, QUIET)
    images = training.train_data.train
    texts = {images.texts[row] for row in images.distinct_captions()}
    assert {template.format("red square") for template in TEMPLATES} <= texts
    assert {images.texts[row] for rows in images.keywords for row in rows} == {"shape"}
    assert "Form" not in images.texts
    assert set(training.train_data.decoder_captions()) == set(images.distinct_captions())
    words = training.processor.tokenizer.get_vocab()
    assert {"drawing", "middle", "white"} <= set(words), "the decoder can write the words of all captions"
    seen = set()
    for epoch in range(40):
        step = replace(training.context(0), epoch=epoch)
        seen |= set(step.caption_rows().tolist())
        ids = training.objectives[0].ids_ML[step.caption_rows()]  # type: ignore[operator, index]  # of Captions
        assert (ids[:, 1] != training.model.config.pad_token_id).all()
    assert seen >= {row for image in training.context(0).rows for row in images.all_captions[image]}


def test_micro_batches_and_the_whole_batch_draw_the_same(tmp_path: Path) -> None:
    training = run.prepare_run(described(5), TINY.resolved(), tmp_path, QUIET)
    step = training.context(2)
    parts = [step.micro_batch(i, 3) for i in range(3)]
    drawn = {
        int(row): int(caption) for part in parts for row, caption in zip(part.rows, part.caption_rows(), strict=True)
    }
    assert drawn == dict(zip(step.rows.tolist(), step.caption_rows().tolist(), strict=True))


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path: Path) -> None:
    weights = []
    for interrupted in (False, True):
        folder = tmp_path / str(interrupted)
        folder.mkdir()
        training = run.prepare_run(described(5), TINY.resolved(), folder, QUIET)
        for number in range(6):
            if interrupted and number == 3:
                training.save()
                training = run.prepare_run(described(5), TINY.resolved(), folder, QUIET)
                training.restore()
            training.step()
        weights.append(training.state())
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_data_with_one_caption_is_trained_on_exactly_that_caption(tmp_path: Path) -> None:
    training = run.prepare_run(shapes(), TINY.resolved(), tmp_path, QUIET)
    images: TrainData = training.train_data
    for number in (0, 5):
        step = training.context(number)
        assert torch.equal(step.caption_rows(), images.train.caption_N[step.rows])
    assert images.train.distinct_captions() == images.train.captions.tolist()


def test_any_of_an_images_captions_is_a_hit_in_validation(tmp_path: Path) -> None:
    training = run.prepare_run(described(5), TINY.resolved(), tmp_path, QUIET)
    val = training.train_data.val
    assert val is not None
    with training.ema_model() as model:
        for k in (1, 3, 10):
            found, n = recall_at_k(model, val, k)
            assert found == pytest.approx(naive_recall(training, k)), k
    assert n == len(val.pixels_NHWC)


@torch.inference_mode()
def naive_recall(training: run.Run, k: int) -> float:
    from clerestory.models.processor import normalise

    val = training.train_data.val
    assert val is not None
    hits = 0
    captions = val.distinct_captions()
    texts = training.model.get_text_features(torch.from_numpy(val.texts_ME)[captions])
    images = training.model.get_image_features(normalise(val.pixels_NHWC.numpy()))
    for i, image in enumerate(images):
        ranked = sorted(
            range(len(captions)), key=lambda c: (-float(image @ texts[c]), captions[c] in val.all_captions[i])
        )
        others_before = 0
        for c in ranked:
            if captions[c] in val.all_captions[i]:
                break
            others_before += 1
        hits += others_before < k
    return hits / len(images)


def test_fine_tuning_draws_from_all_captions_and_ranks_the_best(tmp_path: Path) -> None:
    pairs = split_pairs(described(3), "train")
    assert all(len(own) == 3 for own in pairs.all_captions)
    rows = np.arange(len(pairs))
    seen = {int(c) for epoch in range(60) for c in pairs.draw(rows, np.full(len(rows), epoch), 0)}
    assert seen == set(range(len(pairs.captions)))
    own = pairs.own(range(4))
    assert own.sum(axis=1).tolist() == [3] * 4
    one = split_pairs(shapes(), "train")
    assert (one.draw(rows, rows, 7) == one.captions_N).all()


@pytest.mark.parametrize(("candidates", "own"), [(6, 1), (6, 2), (7, 3), (5, 5), (4, 4)])
def test_the_chance_of_the_best_of_several_captions_is_that_of_all_orders(candidates: int, own: int) -> None:
    ranks = [1 + min(places) for places in combinations(range(candidates), own)]
    assert chance_score(candidates, own) == pytest.approx(np.mean([1 / rank for rank in ranks]))


def test_captions_are_those_of_the_first_captions_language_and_kind() -> None:
    german = [Caption(text, "de") for text in ("ein Hund", "der Hund", "ein Hund")]
    sample = Sample("x", "y", (german[0], Caption("a dog"), *german[1:], Caption("Tier", "de", "keyword")))
    assert captions_of(sample) == ("ein Hund", "der Hund")
    assert captions_of(Sample("x", "y")) == ()
