"""What a training run says about its data: nothing that was found stays unsaid."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.shapes import counted_shapes, shapes
from tests.support.tiny_hf import make_clip

from clerestory.cli.main import run
from clerestory.core.errors import DataError
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.data import open_data
from clerestory.models.resolve import open_folder
from clerestory.stages.train import TrainConfig, train
from clerestory.stages.train.findings import SHARED_CAPTIONS, TRUNCATED_TEXTS
from clerestory.stages.train.monitor.findings import NO_NEGATIVES, PLATEAU
from clerestory.stages.train.sampling import shared_captions
from clerestory.stages.train.tune import TuneConfig, tune
from clerestory.store import open_store


def recaptioned(change: Any) -> Dataset:
    """The shapes with other captions: ``change`` is a function of the sample and its place."""
    base = shapes()
    return Dataset("shapes", [change(sample, i) for i, sample in enumerate(base)], base.read)


def tiny(**changes: Any) -> TrainConfig:
    return TrainConfig(**({"preset": "tiny", "steps": 6, "batch_size": 16, "threads": 1} | changes))


@pytest.mark.parametrize("loss", ["bank_softmax", "softmax", "sigmoid"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_batch_of_one_trains_with_every_loss_and_the_monitor_says_that_it_has_no_negatives(
    loss: Any, batch_size: int, tmp_path: Path
) -> None:
    result = train(shapes(), tiny(loss=loss, batch_size=batch_size, steps=12), open_store(tmp_path))
    codes = {finding.code for finding in result.evidence.findings}
    assert result.evidence.facts["batch_size"] == batch_size
    assert (NO_NEGATIVES.code in codes) == (batch_size == 1 and loss != "bank_softmax")
    assert result.evidence.facts["skipped_steps"] == 0
    if batch_size == 1:
        assert PLATEAU.code not in codes


@pytest.mark.parametrize("changes", [{"grad_accum_steps": 4}, {"precision": "bf16"}, {"parallel_caption_share": 1.0}])
def test_a_batch_of_one_trains_with_every_way_of_a_step(changes: dict[str, Any], tmp_path: Path) -> None:
    result = train(shapes(), tiny(batch_size=1, steps=2, **changes), open_store(tmp_path))
    assert result.evidence.facts["skipped_steps"] == 0


@pytest.mark.parametrize("loss", ["softmax", "auto"])
def test_fine_tuning_with_a_batch_of_one_is_finite(loss: Any, tmp_path: Path) -> None:
    data = counted_shapes()
    config = TuneConfig(steps=2, batch_size=1, threads=1, num_validations=1, alphas=(1.0,), lock="none", loss=loss)
    result = tune(open_folder(make_clip(tmp_path / "clip")), data, data, config, open_store(tmp_path / "home"))
    assert result.evidence.facts["skipped_steps"] == 0


def test_captions_shared_by_different_concepts_are_a_finding(tmp_path: Path) -> None:
    def change(sample: Sample, i: int) -> Sample:
        shared = sample.concept.startswith(("red", "blue"))
        return replace(sample, captions=(Caption("product photo [bold]"),)) if shared else sample

    result = train(recaptioned(change), tiny(steps=1), open_store(tmp_path))
    (finding,) = [each for each in result.evidence.findings if each.code == SHARED_CAPTIONS.code]
    concepts = {s.concept for s in shapes() if s.split == "train" and s.concept.startswith(("red", "blue"))}
    assert finding.count == len(concepts)
    assert "'product photo [bold]'" in finding.message
    ordinary = train(shapes(), tiny(steps=1), open_store(tmp_path))
    assert SHARED_CAPTIONS.code not in {each.code for each in ordinary.evidence.findings}


def test_data_whose_captions_are_all_equal_is_refused_before_any_image_is_read(tmp_path: Path) -> None:
    base = recaptioned(lambda sample, i: replace(sample, captions=(Caption("product photo"),)))
    unread = Dataset("shapes", list(base), lambda sample: pytest.fail("read"))
    with pytest.raises(DataError, match="have the caption 'product photo'"):
        train(unread, tiny(), open_store(tmp_path))


def test_shared_captions_are_counted_by_concept() -> None:
    found = shared_captions([("a", "x"), ("b", "x"), ("b", "y"), ("c", "y"), ("d", "z"), ("d", "z"), ("e", "x")])
    assert found == (4, 5, "x", 3)
    assert shared_captions([("a", "x"), ("a", "x"), ("b", "y")]) == (0, 2, "", 0)


def test_images_without_captions_and_unreadable_ones_are_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder where every second image has a caption, one file is not an image, and one caption is very long."""
    folder, home = tmp_path / "pictures", str(tmp_path / "home")
    folder.mkdir()
    base = shapes()
    for i, sample in enumerate(list(base)[::3][:24]):
        (folder / f"{i}.png").write_bytes(base.read(sample))
        if i % 2:
            text = sample.caption if i > 1 else "red [bold]square[/bold] " + "very " * 300
            (folder / f"{i}.txt").write_text(text, encoding="utf-8")
    for name in ("broken", "half", "empty", "spoilt"):
        (folder / f"{name}.png").write_bytes(b"not an image" if name != "empty" else b"")
    command = ["train", "--data", str(folder), "--preset", "tiny", "--steps", "1", "--set", "threads=1", "--home", home]
    assert run(command) == 0
    shown = capsys.readouterr()
    for name in ("broken.png", "empty.png", "half.png"):
        assert name in shown.err, "the first ones of each kind are named"
    assert "1 more: clerestory data show" in shown.err
    assert "CLR-T003" in shown.out
    training = [sample for sample in open_data(str(folder)) if sample.split in ("train", "")]
    missing = sum(not sample.caption for sample in training)
    assert missing > 0
    assert f"{missing} of {len(training)} training images have no caption" in shown.out
    assert f"images_without_captions {missing}" in shown.out
    assert TRUNCATED_TEXTS.code in shown.out
    assert shown.out.count("model     ") == 1
    assert "\nmodel" not in shown.out.replace("\nmodel     ", "", 1)
    assert run([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"CLR-T003", "CLR-T006"} <= {finding["code"] for finding in result["findings"]}
    assert result["facts"]["images_without_captions"] == missing
