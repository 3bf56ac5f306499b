"""Training: order of pictures, losses, optimizer, and that neither kill -9 nor Ctrl-C changes the result."""

from __future__ import annotations

import json
import math
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.stages.train_worker import train_shapes
from tests.support.forked import ForkedProcess
from tests.support.shapes import shapes

from clerestory.core.codec import decode
from clerestory.core.errors import ClerestoryError, ConfigError, DataError
from clerestory.core.progress import QUIET
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.models import open_model
from clerestory.models.text_tower import load_text_tower
from clerestory.stages.train import TrainConfig, train
from clerestory.stages.train import run as stage
from clerestory.stages.train.augment import UNIFORMS, augment
from clerestory.stages.train.checkpoint import NAME, Position, read, write
from clerestory.stages.train.loop import MAX_CONSECUTIVE_SKIPS, Run
from clerestory.stages.train.losses import bank_softmax_loss
from clerestory.stages.train.objectives import Captions, LossTerm, StepContext
from clerestory.stages.train.optimizer import _newton_schulz, _newton_schulz_gram, orthogonalise
from clerestory.stages.train.sampling import ConceptRows, ConceptSampler, group_concepts
from clerestory.stages.train.shuffle import SampleRng
from clerestory.stages.train.train_data import prepare
from clerestory.store import Store, open_store

TINY = TrainConfig(preset="tiny", steps=12, batch_size=16, threads=1, checkpoint_every=4, validate_every=8)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return shapes()


@pytest.fixture
def run(data: Dataset, tmp_path: Path) -> Run:
    return stage.prepare_run(data, TINY.resolved(), tmp_path, QUIET)


def start(home: Path, steps: int, workers: int = 0) -> ForkedProcess:
    """Train in another process, which prints to the files ``out`` and ``errors``."""
    home.mkdir(exist_ok=True)
    return ForkedProcess(train_shapes, home, steps, workers, out=home / "out", errors=home / "errors")


def wait_for_step(home: Path, step: int, process: ForkedProcess) -> None:
    while process.poll() is None:
        for log in home.glob("runs/*/log.jsonl"):
            lines = log.read_text(encoding="utf-8").splitlines()
            if lines and lines[-1].endswith("}") and json.loads(lines[-1])["step"] >= step:
                return
        time.sleep(0.01)
    raise AssertionError(f"the worker ended before step {step}: {(home / 'errors').read_text(encoding='utf-8')}")


def weights(home: Path, digest: str) -> bytes:
    return (open_store(home).model_folder(digest) / "model.safetensors").read_bytes()


def test_kill_and_ctrl_c_change_nothing(tmp_path: Path) -> None:
    steps, chance = 60, random.Random()  # a different moment in every run of the test
    moments = sorted(chance.sample(range(1, steps - 8), 3))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    uninterrupted = start(whole, steps)

    ends = (signal.SIGKILL, signal.SIGINT, signal.SIGKILL)
    for moment, number, workers in zip(moments, ends, (1, 2, 0), strict=True):
        process = start(broken, steps, workers)
        wait_for_step(broken, moment, process)
        process.send_signal(number)
        assert process.wait() != 0, "the worker was to be interrupted before its end"
        if number == signal.SIGINT:
            assert "KeyboardInterrupt" in (broken / "errors").read_text(encoding="utf-8")
            (folder,) = broken.glob("runs/train-*")
            found = read(folder)
            assert found is not None
            assert found[0].step >= moment, "Ctrl-C writes a checkpoint of the step it came in"
    resumed = start(broken, steps, workers=2)
    assert uninterrupted.wait() == resumed.wait() == 0
    digests = [(home / "out").read_text(encoding="utf-8").strip() for home in (whole, broken)]

    assert digests[0] == digests[1], f"interrupted at {moments}"
    assert weights(whole, digests[0]) == weights(broken, digests[1])
    logs = [_steps(home) for home in (whole, broken)]
    assert logs[0] == logs[1]
    assert [row["step"] for row in logs[0] if "loss" in row] == list(range(1, steps + 1))


def _steps(home: Path) -> list[dict[str, Any]]:
    store = open_store(home)
    (evidence,) = store.find_evidence("train")
    lines = store.blobs.get(evidence.artifacts["log"]).decode().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_training_leaves_models_log_and_evidence(data: Dataset, store: Store) -> None:
    result = train(data, TINY, store)
    facts = result.evidence.facts
    assert (result.model, result.early) == (facts["model"], facts["early_model"])
    assert result.model != result.early
    assert (facts["early_step"], facts["steps"], facts["preset"]) == (1, 12, "tiny")
    assert result.evidence.subject.model == result.model
    assert result.evidence.subject.data == data.digest
    assert store.evidence(result.evidence.id) == result.evidence
    (recall,) = result.evidence.measurements
    assert (recall.name, recall.n) == ("recall@10", 10)
    rows = [json.loads(line) for line in store.blobs.get(result.evidence.artifacts["log"]).decode().splitlines()]
    assert [r["step"] for r in rows if "val_recall@10" in r] == [8, 12]
    assert {"loss", "contrastive", "caption", "lr", "seconds"} <= rows[0].keys()
    assert not list(store.runs.glob("train-*")), "a finished run leaves no scratch folder"
    model = open_model(store.model_folder(result.model))
    assert facts["parameters"] == model.network.num_parameters()

    again = train(data, TINY, store)
    assert again.cached
    assert again.evidence == result.evidence
    other = train(data, decode(TrainConfig, {"preset": "tiny", "steps": 2, "batch_size": 16, "threads": 1}), store)
    assert not other.cached


def test_it_learns(data: Dataset, tmp_path: Path) -> None:
    config = TrainConfig(preset="tiny", steps=150, batch_size=30, threads=1, validate_every=0, seed=1)
    run = stage.prepare_run(data, config.resolved(), tmp_path, QUIET)
    first = run.step()
    while run.position.step < 150:
        last = run.step()
    assert last < first - 1.5
    pictures = run.train_data.train
    with run.ema_model(), torch.inference_mode():
        pixels = augment(pictures.pixels_NHWC, run.model.config.image_size, 0.0, _chances(len(pictures.pixels_NHWC), 0))
        captions = next(o for o in run.objectives if isinstance(o, Captions))
        found = (run.model.get_image_features(pixels) @ captions.bank_NE.T).argmax(dim=1)
    right = (found == captions.bank_row_M[pictures.caption_N]).float().mean()
    assert right > 0.4, "30 captions: chance is 0.03"


def test_what_is_kept_is_the_average(run: Run) -> None:
    for _ in range(3):
        run.step()
    own = {name: t.clone() for name, t in run.model.state_dict().items()}
    run.export("final")
    kept = open_model(run.folder / "final").network.state_dict()
    for name, tensor in run.ema_state.items():
        assert torch.equal(kept[name], tensor)
    assert not torch.equal(kept["projection.image.weight"], own["projection.image.weight"])
    assert all(torch.equal(t, own[name]) for name, t in run.model.state_dict().items())


def test_only_train_and_val_are_read_and_only_trains_words_are_known(data: Dataset, tmp_path: Path) -> None:
    seen: set[str] = set()

    def read_image(sample: Sample) -> bytes:
        seen.add(sample.split)
        return data.read(sample)

    watched = Dataset("watched", data.samples, read_image)
    run = stage.prepare_run(watched, TINY.resolved(), tmp_path, QUIET)
    assert seen == {"train", "val"}
    assert not any(word.startswith(("test", "val")) for word in run.train_data.train.texts)
    assert {data[s.id].caption for s in data if s.split == "train"} == {
        run.train_data.train.texts[i] for i in run.train_data.train.captions.tolist()
    }
    alone = data.filter(lambda s: s.split == "train")
    other = prepare(alone, 32, 24, load_text_tower(), QUIET)
    np.testing.assert_array_equal(other.rotation_EE, run.train_data.rotation_EE)


def test_data_with_nothing_to_learn_from_is_refused(data: Dataset, store: Store) -> None:
    one = data.filter(lambda s: s.concept == "red-square")
    with pytest.raises(DataError, match=r"all \d+ training images of .* have the caption 'red square'"):
        train(one, TINY, store)
    others = [replace(s, captions=(Caption(f"red square {i}"),)) for i, s in enumerate(one)]
    with pytest.raises(DataError, match="only one concept"):
        train(Dataset("numbered", others, data.read), TINY, store)


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.step()
    before = {name: t.clone() for name, t in run.model.state_dict().items() if t.is_floating_point()}
    average = {name: t.clone() for name, t in run.ema_state.items()}
    right = run.losses

    def broken(step: StepContext) -> dict[str, LossTerm]:
        parts = right(step)
        return parts | {"contrastive": LossTerm(parts["contrastive"].value * math.nan)}

    monkeypatch.setattr(run, "losses", broken)
    run.step()
    now = run.model.state_dict()
    assert all(torch.equal(now[name], t) for name, t in before.items())
    assert all(torch.equal(run.ema_state[name], t) for name, t in average.items())
    assert (run.position.step, run.position.skipped) == (2, 1)
    monkeypatch.setattr(run, "losses", right)
    assert math.isfinite(run.step())
    monkeypatch.setattr(run, "losses", broken)
    for _ in range(MAX_CONSECUTIVE_SKIPS - 1):
        run.step()
    with pytest.raises(ClerestoryError, match="lower learning_rate"):
        run.step()


def test_every_concept_once_a_step_and_equally_often() -> None:
    concepts = [ConceptRows((2 * i,), (2 * i + 1,) if i % 2 else ()) for i in range(50)]
    sampler = ConceptSampler(concepts, 10, seed=3, variant_prob=0.5)
    draws = [sampler.draw(step) for step in range(500)]
    for rows in draws:
        assert len({row // 2 for row in rows}) == 10
    counts = np.bincount(np.concatenate(draws) // 2, minlength=50)
    assert (counts == 100).all()
    variants = np.concatenate(draws) % 2
    assert 0.2 < variants.mean() < 0.3, "half of the concepts have variants, each drawn half of the time"
    np.testing.assert_array_equal(ConceptSampler(concepts, 10, 3, 0.5).draw(321), draws[321])
    assert not np.array_equal(ConceptSampler(concepts, 10, 4, 0.5).draw(321), draws[321])
    assert ConceptSampler(concepts, 512, 0, 0.0).batch_size == 50


def test_concepts_are_grouped_by_name_with_variants_apart() -> None:
    names, concepts = group_concepts(["b", "a", "b", "b"], [False, False, True, False])
    assert names == ["a", "b"]
    assert concepts == [ConceptRows((1,), ()), ConceptRows((0, 3), (2,))]


def _chances(count: int, seed: int) -> NDArray[np.float64]:
    return SampleRng(seed).uniforms(np.zeros(count), np.arange(count), UNIFORMS)


def test_augmentation_belongs_to_the_sample_not_to_its_batch_and_keeps_white_white() -> None:
    pixels = torch.randint(0, 255, (16, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    one, chances = augment(pixels, 24, 1.0, _chances(16, 7)), _chances(16, 7)
    assert one.shape == (16, 3, 24, 24)
    for few in ([11], [3, 2, 9], list(range(1, 16))):
        torch.testing.assert_close(augment(pixels[few], 24, 1.0, chances[few]), one[few], rtol=0, atol=1e-6)
    assert not torch.equal(one, augment(pixels, 24, 1.0, _chances(16, 8)))
    white = augment(torch.full((64, 32, 32, 3), 255, dtype=torch.uint8), 24, 1.0, _chances(64, 0))
    assert white.flatten(1).std(dim=1).max() < 1e-6, "a blank page stays blank in every style"
    assert white.min() > 0.5


def test_contrastive_loss_equals_the_naive_loop() -> None:
    random_ = torch.Generator().manual_seed(0)
    images, texts, bank = (
        torch.nn.functional.normalize(torch.randn(n, 8, generator=random_), dim=1) for n in (4, 4, 6)
    )
    own, tau = torch.tensor([0, 3, 3, 5]), 0.1
    to_text, to_image = [], []
    for i in range(4):
        others = [j for j in range(4) if j == i or own[j] != own[i]]
        wrong = [n for n in range(6) if n != own[i]]
        scores = torch.stack([images[i] @ texts[j] for j in others] + [images[i] @ bank[n] for n in wrong]) / tau
        to_text.append(torch.logsumexp(scores, 0) - images[i] @ texts[i] / tau)
        scores = torch.stack([images[j] @ texts[i] for j in others]) / tau
        to_image.append(torch.logsumexp(scores, 0) - images[i] @ texts[i] / tau)
    expected = 0.5 * (torch.stack(to_text).mean() + torch.stack(to_image).mean())
    got = bank_softmax_loss(images, texts, bank, own, (8,), tau, nested=0.5)
    torch.testing.assert_close(got, expected)
    more = bank_softmax_loss(images, texts, bank, own, (2, 4, 8), tau, nested=0.5)
    assert more > got


@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (20, 20)])
def test_muon_makes_every_direction_alike(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    scale = math.sqrt(max(1, shape[0] / shape[1]))
    values = torch.linalg.svdvals(orthogonalise(matrix)) / scale
    assert values.max() < 1.4
    assert values.max() / values.min() < torch.linalg.svdvals(matrix).max() / torch.linalg.svdvals(matrix).min()


@pytest.mark.parametrize("shape", [(16, 48), (20, 20), (1, 9)])
def test_the_cheap_iteration_equals_the_published_one(shape: tuple[int, int]) -> None:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    x = x / x.norm()
    torch.testing.assert_close(_newton_schulz_gram(x), _newton_schulz(x), rtol=1e-3, atol=1e-4)


def test_a_checkpoint_is_whole_or_absent(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    state = {"a": torch.arange(5.0), "n": torch.tensor(3)}
    write(tmp_path, Position(7, 1, 2.5), state)
    (tmp_path / f".{NAME}.999.tmp").write_bytes(b"half of a later che")
    found = read(tmp_path)
    assert found is not None
    assert found[0] == Position(7, 1, 2.5)
    assert all(torch.equal(found[1][k], state[k]) for k in state)
    assert [p.name for p in tmp_path.iterdir()] == [NAME]
    (tmp_path / NAME).write_bytes(b"damaged")
    assert read(tmp_path) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stepz": 3}, "steps"),
        ({"preset": "nanoo"}, "nano"),
        ({"steps": 0}, "at least 1"),
        ({"style_strength": 1.5}, "at most 1"),
        ({"temperature": 0.0}, "above 0"),
        ({"max_grad_norm": -1.0}, "above 0"),
        ({"learning_rate": math.nan}, "finite"),
        ({"weight_decay": math.inf}, "finite"),
        ({"num_workers": -1}, "at least 0"),
        ({"loss": "softmacks"}, "softmax"),
        ({"model": {"stem_channels": [8, 0]}}, "at least 1"),
        ({"steps": "many"}, "an integer"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decode(TrainConfig, settings)


def test_settings_built_in_python_are_checked_alike() -> None:
    for wrong in ({"max_grad_norm": -1.0}, {"temperature": math.nan}, {"steps": 1.5}, {"parallelism": "dp"}):
        with pytest.raises(ConfigError):
            TrainConfig(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_learning_rate_rises_and_falls_to_zero() -> None:
    settings = TrainConfig(steps=100, warmup_ratio=0.1).resolved()
    rates = [settings.learning_rate(step) for step in range(100)]
    assert max(rates) == rates[9] == pytest.approx(settings.config.learning_rate)
    assert rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-5
