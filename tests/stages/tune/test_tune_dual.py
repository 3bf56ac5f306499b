"""Locked towers, cached embeddings, and the line between the original and the tuned weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.support.tiny_hf import make_siglip2
from tests.support.tiny_model import make_tiny_model

from clerestory.core.errors import CapabilityError, ConfigError, DataError
from clerestory.core.progress import QUIET
from clerestory.core.sample import Dataset
from clerestory.models.resolve import open_folder
from clerestory.report.collect import collect
from clerestory.report.page import build
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.train.tune import TuneConfig, TuneResult, cache, tune
from clerestory.stages.train.tune.cache import EmbeddingCache
from clerestory.stages.train.tune.caption_pairs import split_pairs, train_pairs
from clerestory.stages.train.tune.dual import TrainableDualEncoder
from clerestory.stages.train.tune.weights import all_weights, copy_weights, interpolate_weights, train_only
from clerestory.stats.aggregate import recompute
from clerestory.stats.rows import read_rows
from clerestory.store import Store, open_store

QUICK: dict[str, Any] = {
    "batch_size": 32,
    "threads": 1,
    "num_validations": 2,
    "steps": 12,
    "learning_rate": 1e-3,
    "alphas": (0.5,),
}

# A key's bias cancels in the softmax of attention, so its gradient is nothing but rounding, which Adam makes large.
ROUNDING = "k_proj.bias"


def quick(**changes: Any) -> TuneConfig:
    return TuneConfig(**(QUICK | changes))


def tuned(folder: Path, data: Dataset, retained: Dataset, store: Store, **changes: Any) -> TuneResult:
    return tune(open_folder(folder), data, retained, quick(**changes), store)


def weights_of(store: Store, result: TuneResult) -> dict[str, torch.Tensor]:
    return load_file(store.model_folder(result.model) / "model.safetensors")


def original(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def tower(name: str) -> str:
    return "image" if "vision" in name or "visual" in name else "text" if "text" in name else "between"


@pytest.mark.parametrize("lock", ["image", "text"])
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_locked_tower_is_unchanged_to_the_bit(
    kind: str, lock: str, new: Dataset, retained: Dataset, store: Store, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    result = tuned(folder, new, retained, store, lock=lock)
    before, after = original(folder), weights_of(store, result)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    towers = {tower(name) for name in changed}
    assert lock not in towers
    assert {"image", "text"} - {lock} <= towers
    learnt = {name for name in before if tower(name) not in (lock, "between")}
    assert not {name for name in learnt - changed if not name.endswith((ROUNDING, "position_ids"))}


def test_siglip_2_learns_with_patches_of_any_shape(
    tmp_path: Path, new: Dataset, retained: Dataset, store: Store
) -> None:
    folder = make_siglip2(tmp_path / "siglip2")
    result = tuned(folder, new, retained, store, lock="text", steps=4)
    before, after = original(folder), weights_of(store, result)
    assert {tower(n) for n in before if not torch.equal(before[n], after[n])} == {"image", "between"}
    assert result.evidence.facts["loss"] == "sigmoid"


@pytest.mark.parametrize("lock", ["image", "text"])
def test_cached_and_uncached_training_agree(
    lock: str, clip: Path, new: Dataset, retained: Dataset, tmp_path: Path
) -> None:
    results = []
    for cached in (True, False):
        store = open_store(tmp_path / str(cached))
        result = tuned(clip, new, retained, store, lock=lock, cache_embeddings=cached)
        results.append(weights_of(store, result))
        assert bool(list((store.home / "embeddings").glob("*.npy"))) == cached
    before = original(clip)
    for name, tensor in results[0].items():
        if not name.endswith(ROUNDING):
            torch.testing.assert_close(tensor, results[1][name], atol=2e-5, rtol=0)
    assert any(float((results[0][n] - before[n]).abs().max()) > 1e-3 for n in before)


def test_a_locked_tower_is_asked_once_and_then_never_again(
    clip: Path, new: Dataset, retained: Dataset, store: Store
) -> None:
    model: Any = open_folder(clip)
    asked: list[int] = []
    embed = model.encode_images
    model.encode_images = lambda inputs: asked.append(len(inputs["pixel_values"])) or embed(inputs)
    tune(model, new, retained, quick(lock="image"), store)
    pictures = len(train_pairs(new, 0, 0)) + len(split_pairs(new, "val")) + len(split_pairs(retained, "val"))
    assert sum(asked) == pictures + 1  # and the grey picture that shows which weights the tower has
    asked.clear()
    again: Any = open_folder(clip)
    embed_again = again.encode_images
    again.encode_images = lambda inputs: asked.append(len(inputs["pixel_values"])) or embed_again(inputs)
    tune(again, new, retained, quick(lock="image", seed=1), store)
    assert sum(asked) == 1


def test_a_damaged_cache_is_not_learnt_from(tmp_path: Path) -> None:
    kept = EmbeddingCache(tmp_path, QUIET)
    wanted = np.arange(12, dtype=np.float32).reshape(6, 2)

    def rows() -> Any:
        return kept.rows("m", "image", "i", 6, 2, lambda part: wanted[part.start : part.stop])

    assert isinstance(rows(), np.memmap)
    np.testing.assert_array_equal(rows(), wanted)
    assert kept.num_computed == 6
    (file,) = tmp_path.glob("*.npy")
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(bytes(content))
    np.testing.assert_array_equal(rows(), wanted)
    assert kept.num_computed == 12
    file.write_bytes(b"")
    np.testing.assert_array_equal(rows(), wanted)
    kept.rows("other", "image", "i", 6, 2, lambda part: wanted[part.start : part.stop])
    assert len(list(tmp_path.glob("*.npy"))) == 2
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".npy", ".sha256")]


def test_the_loss_is_that_of_the_formula(clip: Path, new: Dataset, tmp_path: Path) -> None:
    model: Any = open_folder(clip)
    trainable = TrainableDualEncoder(model, quick(lock="image").resolved("dual"), EmbeddingCache(tmp_path, QUIET))
    pairs = train_pairs(new, 0, 0)
    trainable.prepare(pairs)
    train_only(trainable.network, trainable.trained)
    rows = np.array([0, 7, 20, 30, 77])
    loss = trainable.backward(rows, np.zeros_like(rows))
    images = torch.from_numpy(model.embed_images([pairs.image(row) for row in rows]))
    texts = torch.from_numpy(model.embed_texts([pairs.captions[i] for i in pairs.captions_N[rows]]))
    similar = model.network.logit_scale.detach().exp() * images @ texts.T
    same = torch.from_numpy(pairs.captions_N[rows][:, None] == pairs.captions_N[rows][None]) & ~torch.eye(
        5, dtype=torch.bool
    )
    similar = similar.masked_fill(same, -torch.inf)
    own = torch.arange(5)
    cross = torch.nn.functional.cross_entropy
    assert loss == pytest.approx(float(cross(similar, own) + cross(similar.T, own)) / 2, abs=1e-4)


@pytest.mark.parametrize(("lock", "changes"), [("text", "image_tower"), ("image", "projection.rotation_EE")])
def test_our_own_model_keeps_the_tower_that_is_locked(
    lock: str, changes: str, tmp_path: Path, new: Dataset, retained: Dataset, store: Store
) -> None:
    folder = make_tiny_model(tmp_path / "own")
    result = tuned(folder, new, retained, store, lock=lock, steps=4)
    before, after = original(folder), weights_of(store, result)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith(changes) for name in changed)
    locked = ("projection.rotation_EE",) if lock == "text" else ("image_tower", "projection.image")
    assert not [name for name in changed if name.startswith(locked)]
    assert not [name for name in changed if "running_" in name or name.startswith("decoder")]
    codes = {finding.code for finding in result.evidence.findings}
    assert ("CLR-T046" in codes) == (lock == "text")


def test_the_line_between_two_weights_ends_in_their_bits(clip: Path) -> None:
    network: Any = open_folder(clip).network  # type: ignore[attr-defined]  # a dual encoder has one
    before = copy_weights(all_weights(network))
    after = {name: tensor + torch.randn_like(tensor) for name, tensor in before.items()}
    for alpha, end in ((0.0, before), (1.0, after)):
        interpolate_weights(network, before, after, 0.3)
        interpolate_weights(network, before, after, alpha)
        assert all(torch.equal(tensor, end[name]) for name, tensor in all_weights(network).items())
    interpolate_weights(network, before, after, 0.25)
    for name, tensor in all_weights(network).items():
        torch.testing.assert_close(tensor, 0.75 * before[name] + 0.25 * after[name])


def test_the_curve_begins_and_ends_with_the_two_models(
    clip: Path, new: Dataset, retained: Dataset, store: Store
) -> None:
    evidence = tuned(clip, new, retained, store, lock="none", steps=20).evidence
    for name in ("retention", "new"):
        own = [m for m in evidence.measurements if m.slice["set"] == name]
        found = {m.slice.get("alpha", m.slice["phase"]): m.value for m in own}
        assert found["0"] == found["before"]
        assert found["1"] == found["after"]
        assert found["change"] == pytest.approx(found["after"] - found["before"])
        assert "0.5" in found
    validations = [m for m in evidence.measurements if m.slice["phase"] == "validation"]
    assert validations[-1].slice["step"] == "20"
    assert validations[-1].value == next(
        m.value for m in evidence.measurements if m.slice["set"] == "retention" and m.slice.get("alpha") == "1"
    )


def test_every_number_follows_from_the_rows(clip: Path, new: Dataset, retained: Dataset, store: Store) -> None:
    evidence = tuned(clip, new, retained, store).evidence
    rows = read_rows(store.blobs.get(evidence.rows))
    assert len(evidence.measurements) > 10
    for measured in evidence.measurements:
        assert recompute(rows, measured) == measured
        assert measured.interval is not None or measured.no_interval
    assert store.verify_evidence(evidence.id) == []
    assert evidence.subject.data == new.digest


def test_the_tuned_model_is_examined_like_any_other(clip: Path, new: Dataset, retained: Dataset, store: Store) -> None:
    result = tuned(clip, new, retained, store, lock="image", steps=60, learning_rate=3e-3)
    model = open_folder(store.model_folder(result.model))
    assert model.digest == result.model
    examined = evaluate(model, new, EvaluateConfig(suites=("retrieval",), splits=("val",)), store)
    found = examined.find("recall@1", {"task": "image_to_text", "split": "val"})
    before = evaluate(open_folder(clip), new, EvaluateConfig(suites=("retrieval",), splits=("val",)), store)
    assert found is not None
    was = before.find("recall@1", {"task": "image_to_text", "split": "val"})
    assert was is not None
    assert found.value > was.value


def test_a_second_run_is_taken_from_the_store(clip: Path, new: Dataset, retained: Dataset, store: Store) -> None:
    first = tuned(clip, new, retained, store)
    second = tuned(clip, new, retained, store)
    assert not first.cached
    assert second.cached
    assert second.model == first.model
    assert not tuned(clip, new, retained, store, steps=13).cached
    assert not list(store.runs.iterdir())


def test_an_interrupted_run_goes_on_to_the_same_weights(
    clip: Path, new: Dataset, retained: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = open_store(tmp_path / "whole")
    wanted = weights_of(whole, tuned(clip, new, retained, whole, lock="none", on_forgetting="stop", min_retention=0.01))
    store = open_store(tmp_path / "halves")
    left = [9]
    real = TrainableDualEncoder.backward

    def backward(self: TrainableDualEncoder, rows: Any, epochs: Any) -> float:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(self, rows, epochs)

    monkeypatch.setattr(TrainableDualEncoder, "backward", backward)
    with pytest.raises(KeyboardInterrupt):
        tuned(clip, new, retained, store, lock="none", on_forgetting="stop", min_retention=0.01)
    assert list(store.runs.iterdir())
    left[0] = 6  # steps 7 to 12 are left after the validation at step 6
    result = tuned(clip, new, retained, store, lock="none", on_forgetting="stop", min_retention=0.01)
    assert left[0] == 0
    for name, tensor in weights_of(store, result).items():
        assert torch.equal(tensor, wanted[name]), name
    log = store.blobs.get(result.evidence.artifacts["log"]).decode().splitlines()
    assert len(log) == 12


def test_bad_input_is_told_in_a_sentence(clip: Path, new: Dataset, store: Store, known: Dataset) -> None:
    with pytest.raises(ConfigError, match="learning_rate must be .*, not 0"):
        TuneConfig(learning_rate=0.0)
    with pytest.raises(ConfigError, match="min_retention"):
        TuneConfig(min_retention=1.5)
    with pytest.raises(ConfigError, match="alphas"):
        TuneConfig(alphas=(0.5, 2.0))
    with pytest.raises(DataError, match="'elsewhere' of new has 0 different captions"):
        tune(open_folder(clip), new, new, quick(), store, retention_split="elsewhere")
    only_test = new.filter(lambda s: s.split == "val")
    with pytest.raises(DataError, match="no sample of new is in the split"):
        tune(open_folder(clip), only_test, known, quick(), store)
    with pytest.raises(CapabilityError, match="sigmoid loss needs"):
        tune(open_folder(clip), new, known, quick(loss="sigmoid"), store)


def test_chunks_do_not_change_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    for chunk in (1, 3, 10, 64):
        monkeypatch.setattr(cache, "CHUNK_SIZE", chunk)
        np.testing.assert_array_equal(cache.uncached_rows(10, 3, lambda part: rows[part.start : part.stop]), rows)


def test_the_report_of_a_tuned_model_has_its_training(
    clip: Path, new: Dataset, retained: Dataset, store: Store
) -> None:
    result = tuned(clip, new, retained, store)
    data = collect(store, result.model[:12], new)
    assert data.training is not None
    assert data.training.losses[0].points[-1][0] == result.evidence.facts.integer("steps")
    assert not [reason for reason in data.missing if "training" in reason]
    [chapter] = [chapter for chapter in build(data).chapters if chapter.anchor == "training"]
    assert f"Fine-tuned from a model ({open_folder(clip).digest[:12]})" in chapter.lead
    assert [figure.title for figure in chapter.figures] == ["Training loss"]
