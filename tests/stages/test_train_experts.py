"""Experts in a real training: balance moves, padding stays out, settings are checked, a dense model is gone on from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.shapes import shapes

from clerestory.cli.settings import merged_settings
from clerestory.core.codec import decode
from clerestory.core.digest import digest
from clerestory.core.errors import ConfigError
from clerestory.core.progress import QUIET
from clerestory.core.sample import Dataset
from clerestory.models import open_model
from clerestory.models.moe import mixtures
from clerestory.models.moe.expert_report import ExpertReport
from clerestory.report.experts import read_experts
from clerestory.stages.train import TrainConfig, TrainResult, train
from clerestory.stages.train import run as stage
from clerestory.stages.train.loop import Run
from clerestory.stages.train.model_overrides import ModelOverrides
from clerestory.store import Store, open_store

TINY = TrainConfig(preset="tiny", steps=6, batch_size=16, threads=1, checkpoint_every=3, validate_every=0)
EXPERTS = ModelOverrides(experts=4, decoder_experts=4, expert_balance="bias")
SPARSE = replace(TINY, model=EXPERTS)
IDENTICAL = 1e-6


@pytest.fixture(scope="module")
def data() -> Dataset:
    return shapes()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def dense(data: Dataset, store: Store) -> TrainResult:
    return train(data, TINY, store)


@pytest.fixture(scope="module")
def sparse(data: Dataset, store: Store) -> TrainResult:
    return train(data, SPARSE, store)


def begun(data: Dataset, config: TrainConfig, folder: Path, earlier: Path | None = None) -> Run:
    folder.mkdir(exist_ok=True)
    return stage.prepare_run(data, config.resolved(), folder, QUIET, earlier)


def biases(run: Run) -> dict[str, torch.Tensor]:
    return {name: m.expert_bias_E.clone() for name, m in mixtures(run.model).items() if m.expert_bias_E is not None}


def renamed(data: Dataset, old: str, new: str) -> Dataset:
    return Dataset(
        "other",
        [replace(s, captions=(replace(s.captions[0], text=s.caption.replace(old, new)),)) for s in data],
        data.read,
    )


def test_each_step_moves_the_biases_by_their_rate_and_counts_anew(data: Dataset, tmp_path: Path) -> None:
    run = begun(data, replace(SPARSE, bias_update_speed=0.01), tmp_path)
    assert len(biases(run)) == 2
    for _ in range(3):
        before = biases(run)
        run.step()
        for name, bias in biases(run).items():
            assert 0.004 < float((bias - before[name]).abs().max()) <= 0.02  # recentred, so not always the rate itself
            assert abs(float(bias.sum())) < 1e-6
        assert all(not m.counts_E.any() for m in mixtures(run.model).values())
    still = begun(data, replace(SPARSE, model=replace(EXPERTS, expert_balance="loss")), tmp_path / "loss")
    still.step()
    assert not biases(still)


def test_only_words_and_patches_are_counted(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the padding of captions nor what the monitor tries out with exchanged pictures."""
    longer = renamed(renamed(data, "e ", "e or the like "), "d ", "d or so ")  # of some colours
    run, seen = begun(longer, replace(SPARSE, caption_share=1.0), tmp_path), {}

    def note(model: torch.nn.Module, rate: float) -> None:
        seen.update({name: int(m.counts_E.sum()) for name, m in mixtures(model).items()})

    monkeypatch.setattr("clerestory.stages.train.objectives.experts.rebalance", note)
    given: list[torch.Tensor] = []
    states = run.model.decoder.states
    monkeypatch.setattr(run.model.decoder, "states", lambda ids, *more: given.append(ids) or states(ids, *more))
    assert run.instrumentation.is_full_check(0), "the monitor looks at captions with exchanged pictures in this step"
    run.step()
    ids, config = given[0], run.model.config
    words, all_places = int((ids != config.pad_token_id).sum()), ids.numel()
    assert words < all_places
    assert len(given) > 1, "once to learn, and for the monitor"
    assert seen == {"image_tower.blocks.0.mlp": 16 * config.grid**2 * 2, "decoder.blocks.0.mlp": words * 2}


def test_a_skipped_step_counts_for_nothing(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skipped, other = begun(data, SPARSE, tmp_path / "a"), begun(data, SPARSE, tmp_path / "b")
    monkeypatch.setattr("clerestory.stages.train.loop.clip_gradients", lambda *_: float("nan"))
    skipped.step()
    assert not any(b.any() for b in biases(skipped).values())
    monkeypatch.undo()
    other.position = skipped.position
    skipped.step()
    other.step()
    for name, bias in biases(skipped).items():
        assert torch.equal(bias, biases(other)[name])


def test_a_resumed_run_keeps_its_biases(data: Dataset, tmp_path: Path) -> None:
    whole, first = begun(data, SPARSE, tmp_path / "whole"), begun(data, SPARSE, tmp_path / "part")
    for _ in range(6):
        whole.step()
    for _ in range(3):
        first.step()
    first.save()
    again = begun(data, SPARSE, tmp_path / "part")
    again.restore()
    for _ in range(3):
        again.step()
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, again.state()[name]), name


def test_a_training_with_experts_leaves_their_report_card(
    data: Dataset, store: Store, dense: TrainResult, sparse: TrainResult
) -> None:
    assert "experts" not in dense.evidence.artifacts
    report = json.loads(store.blobs.get(sparse.evidence.artifacts["experts"]))
    card = ExpertReport.from_dict(report)
    pictures = [s for s in data if s.split == "val"]
    assert (report["images"], report["split"]) == (len(pictures), "val")
    tower, words = "image_tower.blocks.0.mlp", "decoder.blocks.0.mlp"
    assert card.layers == (tower, words)
    assert card.load[tower].sum() == len(pictures) * 3**2 * 2
    assert card.load[words].sum() == len(pictures) * 4 * 2  # a mark, two words, a mark
    assert sorted(card.values["skin_tone"]) == ["dark", "none"]
    assert card.table("modality", tower).sum(1).tolist() == [card.load[tower].sum(), 0]
    assert card.table("modality", words).sum(1).tolist() == [0, card.load[words].sum()]
    usage = read_experts(
        store.blobs.get(sparse.evidence.artifacts["experts"])
    )  # the report draws its heat maps from it
    assert all("skin_tone" in {group.name for group in layer.groups} for layer in usage.layers)
    assert sparse.evidence.facts["experts"] == 4


def test_settings_of_the_model_are_part_of_the_digest_and_checked() -> None:
    assert digest(TINY) != digest(SPARSE)
    read = decode(TrainConfig, {"preset": "tiny", "model": {"experts": 4, "expert_balance": "bias"}})
    assert read.model == ModelOverrides(experts=4, expert_balance="bias")
    with pytest.raises(ConfigError, match="did you mean experts") as raised:
        decode(TrainConfig, {"model": {"exprts": 4}})
    assert raised.value.closest[0] == "experts"
    with pytest.raises(ConfigError, match="bias"):
        decode(TrainConfig, {"model": {"expert_balance": "biased"}})
    with pytest.raises(ConfigError, match="layers must be .*, not 0"):
        ModelOverrides(layers=0)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"expert_balance": "bias"}, "no effect on a model without experts"),
        ({"experts": 2, "experts_per_token": 3}, "experts_per_token"),
        ({"width": 33}, "multiple of heads"),
    ],
)
def test_what_does_not_fit_is_said_before_pictures_are_read(
    data: Dataset, tmp_path: Path, model: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        begun(data, decode(TrainConfig, {"preset": "tiny", "model": model}), tmp_path)


def test_any_setting_can_be_given_by_its_name(tmp_path: Path) -> None:
    pairs = ["style_strength=0.25", "model.experts=8", "model.expert_balance=bias", "model.stem_channels=[8, 16, 32]"]
    file = tmp_path / "tiny.toml"
    file.write_text('preset = "tiny"\n[model]\nexperts = 2\nlayers = 2\n', encoding="utf-8")
    found = merged_settings(file, {}, pairs, TrainConfig)
    assert decode(TrainConfig, found) == TrainConfig(
        preset="tiny",
        style_strength=0.25,
        model=ModelOverrides(experts=8, layers=2, expert_balance="bias", stem_channels=(8, 16, 32)),
    )
    with pytest.raises(ConfigError) as raised:
        merged_settings(None, {}, ["experts=8"], TrainConfig)
    assert raised.value.closest == ("model.experts",)
    with pytest.raises(ConfigError) as raised:
        merged_settings(None, {}, ["learning_rat=8"], TrainConfig)
    assert raised.value.closest[0] == "learning_rate"
    with pytest.raises(ConfigError, match="has no value"):
        merged_settings(None, {}, ["style_strength"], TrainConfig)


@torch.no_grad()
@pytest.mark.parametrize(
    "wanted",
    [
        ModelOverrides(),
        ModelOverrides(experts=4),
        ModelOverrides(experts=4, decoder_experts=2, expert_balance="bias"),
        ModelOverrides(experts=4, expert_split=False),
    ],
    ids=["plain", "upcycled", "both", "copied"],
)
def test_a_run_starts_as_the_model_it_starts_from(
    data: Dataset, store: Store, dense: TrainResult, tmp_path: Path, wanted: ModelOverrides
) -> None:
    config = replace(TINY, start_from=dense.model, model=wanted, seed=3)
    folder = store.model_folder(dense.model)
    run, before = begun(data, config, tmp_path, stage.start_model_folder(config, store)), open_model(folder)
    assert run.model.config.experts == (wanted.experts or 0)
    pixels = torch.randn(5, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 4, 5, 2], [1, 6, 4, 2]])
    old, new = before.network(pixels, caption_ids=ids), run.model.eval()(pixels, caption_ids=ids)
    assert (old.image_embeds - new.image_embeds).abs().max() <= IDENTICAL
    assert (old.caption_logits - new.caption_logits).abs().max() <= 10 * IDENTICAL  # logits, not unit rows
    texts = torch.randn(3, 384, generator=torch.Generator().manual_seed(1))
    assert torch.equal(before.network.get_text_features(texts), run.model.get_text_features(texts))


def test_words_of_new_captions_are_added_and_the_old_keep_their_numbers(
    data: Dataset, store: Store, dense: TrainResult, tmp_path: Path
) -> None:
    folder = store.model_folder(dense.model)
    run, before = begun(renamed(data, "red", "crimson"), TINY, tmp_path, folder), open_model(folder)
    old, new = before.processor.tokenizer.get_vocab(), run.processor.tokenizer.get_vocab()
    assert {word: new[word] for word in old} == old
    assert new["crimson"] == len(old)
    assert run.model.config.vocab_size == len(old) + 1
    pixels, ids = torch.randn(2, 3, 24, 24), torch.tensor([[1, 4, 5, 2], [1, 6, 4, 2]])
    with torch.no_grad():
        wider = run.model.eval()(pixels, caption_ids=ids).caption_logits
        assert torch.equal(before.network(pixels, caption_ids=ids).caption_logits, wider[..., : len(old)])
    run.model.train()
    run.step()


def test_going_on_from_a_model_is_told_and_is_a_training_of_its_own(
    data: Dataset, store: Store, dense: TrainResult
) -> None:
    config = replace(TINY, start_from=dense.model, steps=2, model=ModelOverrides(experts=4))
    result = train(data, config, store)
    assert not result.cached
    assert result.evidence.facts["start_from"] == dense.model
    assert result.evidence.facts["experts"] == 4
    assert "experts" in result.evidence.artifacts
    assert train(data, config, store).cached


@pytest.mark.parametrize(
    ("from_", "wanted", "said"),
    [
        ("dense", ModelOverrides(width=64), "width cannot become 64"),
        ("dense", ModelOverrides(experts=3), "multiples of top_k"),
        ("sparse", ModelOverrides(experts=8), "has experts already"),
        ("sparse", ModelOverrides(expert_balance="loss"), "expert_balance cannot become loss"),
    ],
)
def test_what_would_lose_what_was_learnt_is_refused(
    data: Dataset, store: Store, dense: TrainResult, sparse: TrainResult, tmp_path: Path,
    from_: str, wanted: ModelOverrides, said: str,
) -> None:  # fmt: skip
    digest_ = (dense if from_ == "dense" else sparse).model
    with pytest.raises(ConfigError, match=said):
        begun(data, replace(TINY, model=wanted), tmp_path, store.model_folder(digest_))


@torch.no_grad()
def test_experts_go_on_as_they_are(data: Dataset, store: Store, sparse: TrainResult, tmp_path: Path) -> None:
    folder, pixels = store.model_folder(sparse.model), torch.randn(3, 3, 24, 24)
    run, before = begun(data, replace(TINY, model=ModelOverrides(experts=4)), tmp_path, folder), open_model(folder)
    assert torch.equal(before.network(pixels).image_embeds, run.model.eval()(pixels).image_embeds)
    assert all(bool(m.expert_bias_E.any()) for m in mixtures(run.model).values() if m.expert_bias_E is not None)
