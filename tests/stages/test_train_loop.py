"""The loop's promises: the same batches from any number of workers, the same gradients in pieces, a full disk."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.shapes import shapes

from clerestory.core.errors import ClerestoryError, ConfigError
from clerestory.core.progress import QUIET
from clerestory.core.sample import Dataset
from clerestory.models import open_model
from clerestory.stages.train import TrainConfig, train
from clerestory.stages.train import run as stage
from clerestory.stages.train.checkpoint import read
from clerestory.stages.train.loop import Run, device_of, rows_digest
from clerestory.stages.train.losses import autoregressive_inputs, cappa_inputs
from clerestory.store import Store, open_store

TINY = TrainConfig(preset="tiny", steps=12, batch_size=16, threads=1, checkpoint_every=4, validate_every=0)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return shapes()


def begin(data: Dataset, folder: Path, **changes: object) -> Run:
    folder.mkdir(exist_ok=True)
    return stage.prepare_run(data, replace(TINY, **changes).resolved(), folder, QUIET)  # type: ignore[arg-type]  # fields of the config


def test_workers_make_the_batches_that_the_loop_makes_and_their_death_is_no_fault(
    data: Dataset, tmp_path: Path
) -> None:
    alone, helped = begin(data, tmp_path / "0"), begin(data, tmp_path / "2", num_workers=2)
    helped.loader.wait()
    first, second = helped.loader._workers
    for step in range(12):
        (epoch, rows, pixels), (epoch2, rows2, pixels2) = alone.loader.batch(step), helped.loader.batch(step)
        assert epoch == epoch2
        np.testing.assert_array_equal(rows, rows2)
        assert torch.equal(pixels, pixels2)
        assert pixels.is_contiguous(memory_format=torch.channels_last) == pixels2.is_contiguous(
            memory_format=torch.channels_last
        )
        if step == 4:
            assert helped.loader.lost == 0
            assert (first._last, second._last) == (8, 7), "both are asked ahead"
            first._process.kill()
    assert helped.loader.lost == 1
    assert second._process.stdin is not None
    second._process.stdin.close()  # what happens when the training is killed
    assert second._process.wait(timeout=60) == 0
    helped.loader.close()
    assert helped.loader.lost >= 1, "the count outlives the workers"
    assert "CLR-T004" in {finding.code for finding in stage._findings(helped)}
    assert not list((tmp_path / "2").glob("pixels*"))


def test_another_number_of_workers_is_the_same_training(data: Dataset) -> None:
    assert stage.training_subject(data, TINY) == stage.training_subject(data, replace(TINY, num_workers=2))
    assert stage.training_subject(data, TINY) != stage.training_subject(data, replace(TINY, seed=1))


@pytest.mark.parametrize("loss", ["bank_softmax", "softmax", "sigmoid"])
def test_pieces_of_a_batch_give_the_gradients_of_the_whole(data: Dataset, tmp_path: Path, loss: str) -> None:
    gradients, values = [], []
    for pieces in (1, 5):
        run = begin(data, tmp_path / str(pieces), grad_accum_steps=pieces, loss=loss, caption_share=0.5)
        run.model.eval()  # batch norm would see the piece
        parts = run.forward_backward(run.context(0))
        gradients.append({name: p.grad for name, p in run.parameters().items()})
        values.append({name: float(part.value.detach()) for name, part in parts.items()})
    assert values[0] == pytest.approx(values[1], abs=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    for name, whole in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], whole, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_a_learnt_scale_moves_and_the_kept_model_knows_it(data: Dataset, tmp_path: Path, loss: str) -> None:
    run = begin(data, tmp_path, loss=loss, precision="bf16", parallel_caption_share=0.75)
    before = run.objectives[0].contrastive.scale()  # type: ignore[union-attr,operator]  # the captions come first
    for _ in range(3):
        assert np.isfinite(run.step())
    now = run.objectives[0].contrastive.scale()  # type: ignore[union-attr,operator]  # the same
    assert now != before
    run.export("final")
    assert open_model(tmp_path / "final").logit_scale == pytest.approx(now)
    assert "optimizer.adam.exp_avg.captions.contrastive.log_scale" in run.state()


def test_the_decoder_says_masked_captions_from_the_picture_alone(data: Dataset, tmp_path: Path) -> None:
    decoder, config = (run := begin(data, tmp_path)).model.decoder.eval(), run.model.config
    ids, tokens = torch.tensor([[1, 5, 6, 7, 2], [1, 8, 2, 0, 0]]), torch.randn(2, 9, config.width)
    plain = autoregressive_inputs(ids, pad=0)
    causal, _ = decoder.states(plain.inputs_BT, tokens)
    masked, _ = decoder.states(plain.inputs_BT, tokens, plain.attention_mask())
    torch.testing.assert_close(causal, masked)
    torch.testing.assert_close(causal @ decoder.words.weight.T, decoder(plain.inputs_BT, tokens))
    all_at_once = cappa_inputs(ids, 1.0, mask=decoder.mask_token_id, pad=0)
    other = cappa_inputs(torch.tensor([[1, 9, 9, 9, 2], [1, 9, 9, 9, 2]]), 1.0, mask=decoder.mask_token_id, pad=0)
    one, two = (decoder.states(b.inputs_BT, tokens, b.attention_mask())[0] for b in (all_at_once, other))
    assert torch.equal(one, two), "no word of the caption leaks"


def test_the_log_names_the_samples_of_each_step(data: Dataset, tmp_path: Path) -> None:
    run = begin(data, tmp_path)
    run.step()
    assert f'"samples": "{rows_digest(run.sampler.draw(0))}"' in run.log.path.read_text()
    assert rows_digest(np.array([1, 2])) != rows_digest(np.array([2, 1]))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_in_one_sentence_and_the_run_goes_on_when_there_is_room(
    data: Dataset, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, limit = Run.save, files_of_at_most(100_000)

    def filling(run: Run) -> None:
        if run.position.step == 8:
            limit.__enter__()
        save(run)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", filling)
        with pytest.raises(ClerestoryError, match="no space left") as caught:
            train(data, TINY, store)
        limit.__exit__(None, None, None)
    assert "same command resumes" in caught.value.fix
    (folder,) = store.runs.glob("train-*")
    found = read(folder)
    assert found is not None
    assert found[0].step == 4, "the last checkpoint is whole"
    assert not list(folder.glob(".*tmp")), "nothing of the next one takes up room"
    resumed = train(data, TINY, store)
    whole = train(data, TINY, open_store(tmp_path / "whole"))
    assert resumed.model == whole.model


def test_a_gpu_that_is_not_there_is_told() -> None:
    assert device_of(replace(TINY, device="cpu")) == torch.device("cpu")
    if not torch.cuda.is_available():
        assert device_of(TINY) == torch.device("cpu")
        with pytest.raises(ConfigError, match="no GPU"):
            device_of(replace(TINY, device="cuda"))
