"""Caption drafts: a decoder learns what captions say about embeddings, and is measured where it was not trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.stages.tune.scenes import NUM_IMAGES
from tests.support.tiny_hf import make_clip

from clerestory.apps.describing import look_at_images
from clerestory.cli.main import run
from clerestory.core.errors import CapabilityError, DataError, IntegrityError
from clerestory.core.progress import QUIET, Progress
from clerestory.data import open_data
from clerestory.data.images import decode_sample
from clerestory.models.folder_check import CONFIG
from clerestory.models.photo.caption_decoder import repeats_itself
from clerestory.models.photo.captioner import PhotoCaptioner
from clerestory.models.photo.encoder import PhotoEncoder, save_with_own_head
from clerestory.models.photo.space import LinearHead, unit_rows
from clerestory.models.protocols import capabilities
from clerestory.models.resolve import open_folder, open_reference
from clerestory.stages.train.tune import tune_head
from clerestory.stages.train.tune.head import drafts
from clerestory.stages.train.tune.head import run as head_run
from clerestory.stages.train.tune.head.drafts import DECODER, FREQUENT, NEAREST, DraftData, TrainedDecoder
from clerestory.stages.train.tune.head.drafts import measure_drafts as measure
from clerestory.stages.train.tune.head.drafts import train_decoder as train
from clerestory.stages.train.tune.head.fit import HeadData, Ints
from clerestory.stats.aggregate import recompute
from clerestory.stats.rows import read_rows
from clerestory.store import open_store

THINGS = ("dog", "boat", "tree", "train", "flower", "house")
COLOURS = ("red", "green", "blue", "white")
STEPS = 60
IMAGES = 100


@pytest.fixture(scope="module")
def photos() -> PhotoEncoder:
    model = open_reference("photos")
    assert isinstance(model, PhotoEncoder)
    return model


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """As many steps as these few words need; one fold is measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drafts, "MIN_STEPS", STEPS)
        patch.setattr(drafts, "MAX_STEPS", STEPS)
        patch.setattr(drafts, "WARMUP_STEPS", 10)
        patch.setattr(drafts, "MIN_MEASURED", IMAGES // 5)
        yield


def draft_data(photos: PhotoEncoder, images: int = IMAGES) -> DraftData:
    """Photographs whose embeddings are near to their captions, each of a thing and a colour."""
    rng = np.random.default_rng(0)
    kinds = [(COLOURS[i % 4], THINGS[i % 6]) for i in range(images)]
    captions = [(f"A {colour} {thing}.", f"A {colour} {thing} in the park.") for colour, thing in kinds]
    texts = photos.embed_texts([caption for own in captions for caption in own])[:, 1:]
    noise = unit_rows(rng.normal(size=(images, texts.shape[1])))
    return DraftData(
        unit_rows(unit_rows(texts[::2]) + 0.5 * noise), captions, texts, np.repeat(np.arange(images), 2),
        np.arange(images), np.arange(images),
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(photos: PhotoEncoder) -> DraftData:
    return draft_data(photos)


@pytest.fixture(scope="module")
def trained(photos: PhotoEncoder, data: DraftData) -> TrainedDecoder:
    return train(data, photos.embed_texts)


@pytest.fixture(scope="module")
def folder(photos: PhotoEncoder, trained: TrainedDecoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a caption decoder."""
    path = tmp_path_factory.mktemp("captioner")
    rng = np.random.default_rng(0)
    head = LinearHead(photos.space.general.mean + 0.01, rng.normal(size=photos.space.general.weight.shape) * 0.01, 0.5)
    save_with_own_head(photos, head, "a head and a decoder", "photos", path, None, trained)
    return path


def test_drafts_of_other_photographs_name_their_thing_and_colour(photos: PhotoEncoder, data: DraftData) -> None:
    measured = measure(data, photos.embed_texts)
    by_source = {source: [each for each in measured if each.source == source] for source in drafts.SOURCES}
    assert len({each.image for each in by_source[DECODER]}) == len(by_source[DECODER]) == IMAGES // 5
    right = [f"{COLOURS[each.image % 4]} {THINGS[each.image % 6]}" in each.text for each in by_source[DECODER]]
    assert np.mean(right) > 0.8
    assert all(each.text[0] == "A" and each.text[-1] == "." for each in by_source[DECODER])
    cider = {source: np.mean([each.cider for each in some]) for source, some in by_source.items()}
    assert cider[DECODER] > 2 * cider[FREQUENT]
    own = {caption: i for i, captions in enumerate(data.captions) for caption in captions}
    assert all(each.text in own for each in by_source[NEAREST])


def test_the_nearest_caption_is_one_of_another_fold(
    photos: PhotoEncoder, data: DraftData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each caption occurs once here, so a photograph's own one would be the nearest."""
    monkeypatch.setattr(drafts, "MAX_STEPS", 2)
    captions = [(f"{own[0]} {i}",) for i, own in enumerate(data.captions)]
    texts = photos.embed_texts([own[0] for own in captions])[:, 1:]
    unique = DraftData(texts, captions, texts, np.arange(IMAGES), data.groups, data.rows)
    measured = [each for each in measure(unique, photos.embed_texts) if each.source == NEAREST]
    assert measured
    assert all(each.text != captions[each.image][0] for each in measured)


def test_training_twice_gives_the_same_weights(
    photos: PhotoEncoder, data: DraftData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "MAX_STEPS", 5)
    first = train(data, photos.embed_texts)
    torch.rand(3)  # whatever is drawn in between
    again = train(data, photos.embed_texts)
    assert again.words == first.words
    for name, tensor in again.decoder.state_dict().items():
        assert torch.equal(tensor, first.decoder.state_dict()[name]), name


@pytest.mark.parametrize(("images", "folds"), [(300, 5), (500, 3), (1000, 2), (20_000, 1), (40, 5)])
def test_small_datasets_are_measured_on_more_folds(images: int, folds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "MIN_MEASURED", 300)
    assert drafts.measured_folds(images) == folds


def test_the_model_is_a_captioner_of_photographs(photos: PhotoEncoder, folder: Path) -> None:
    model = open_folder(folder)
    assert isinstance(model, PhotoCaptioner)
    assert "Captioner" in capabilities(model)
    assert "Captioner" not in capabilities(photos)
    source = open_data("photographs")
    images = [decode_sample(source, sample) for sample in source][:3]
    captions = model.caption_images(images, 3)
    assert [len(own) for own in captions] == [3, 3, 3]
    assert all(len({c.text for c in own}) == 3 and all(0 < c.score <= 1 for c in own) for own in captions)
    assert model.caption_images(images[1:2], 3) == captions[1:2], "a photograph's drafts do not depend on the others"
    assert model.caption_images([], 3) == []
    seen = look_at_images(model, [*images, Image.new("RGB", (300, 200), "white")], 2)
    assert [each.drafts for each in seen[:3]] == [tuple(own[:2]) for own in model.caption_images(images, 2)]
    assert seen[3].drafts == (), "an empty picture is not a photograph"
    assert model.facts()["vocab_size"] == len(model.words)


def test_a_new_head_replaces_the_decoder(folder: Path, tmp_path: Path) -> None:
    model = open_folder(folder)
    assert isinstance(model, PhotoEncoder)
    assert model.space.own is not None
    save_with_own_head(model, model.space.own, "another head", "photos", tmp_path)
    assert not isinstance(open_folder(tmp_path), PhotoCaptioner)


@pytest.mark.parametrize("words", ['{"spellings": []}', "3", '{"spellings": ["<pad>", "<bos>", "<eos>", "<unk>"]}'])
def test_a_damaged_vocabulary_is_one_sentence(folder: Path, tmp_path: Path, words: str) -> None:
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    settings = json.loads((copy / CONFIG).read_text(encoding="utf-8"))
    (copy / CONFIG).write_text(json.dumps({**settings, "caption_words": json.loads(words)}), encoding="utf-8")
    model = open_folder(copy)
    assert isinstance(model, PhotoCaptioner)
    with pytest.raises(IntegrityError, match="vocabulary|weights"):
        model.caption_images([Image.new("RGB", (300, 200), "red")])


def test_too_few_captions_and_other_models_are_refused(photos: PhotoEncoder, tmp_path: Path) -> None:
    store = open_store(tmp_path / "home")
    with pytest.raises(DataError, match=r"at least 300 are needed for caption drafts.*--caption-drafts"):
        tune_head(photos, open_data("photographs"), store, with_drafts=True)
    dual = open_folder(make_clip(tmp_path / "clip"))
    with pytest.raises(CapabilityError, match="caption drafts need the model photos"):
        tune_head(dual, open_data("photographs"), store, with_drafts=True)


def head_data(data: DraftData) -> HeadData:
    owner: Ints = data.owner
    return HeadData(data.embeddings, data.embeddings, data.texts, data.texts, owner, data.groups)


def test_captions_are_assigned_to_their_photographs(data: DraftData) -> None:
    captions = [caption for own in data.captions for caption in own]
    again = DraftData.of(head_data(data), data.embeddings, captions)
    assert [tuple(own) for own in again.captions] == [tuple(own) for own in data.captions]
    wordless = ["!!!" if i in (0, 1, 4) else caption for i, caption in enumerate(captions)]
    some = DraftData.of(head_data(data), data.embeddings, wordless)
    assert some.rows.tolist() == list(range(1, IMAGES)), "a photograph without words is left out"
    assert list(some.captions[1]) == [captions[5]]
    assert (some.embeddings == data.embeddings[1:]).all()
    assert (some.texts[:3] == data.texts[[2, 3, 5]]).all()
    assert some.owner[:3].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("ids", "repeats"), [([4, 5, 6, 4, 5, 6], True), ([4, 5, 4, 5], False), ([4], False), ([], False)]
)
def test_a_draft_that_says_three_words_twice_is_left_out(ids: list[int], repeats: bool) -> None:
    assert repeats_itself(ids) is repeats


def test_captions_without_a_known_word_have_no_drafts_and_score_nothing(photos: PhotoEncoder, data: DraftData) -> None:
    captions = [(f"{'xyz'[i % 3]}{i}",) for i in range(IMAGES)]
    texts = photos.embed_texts([own[0] for own in captions])[:, 1:]
    unknown = DraftData(data.embeddings, captions, texts, np.arange(IMAGES), data.groups, data.rows)
    measured = measure(unknown, photos.embed_texts)
    drafts_of = [each for each in measured if each.source == DECODER]
    assert drafts_of
    assert all((each.text, each.cider, each.chrf) == ("", 0, 0) for each in drafts_of)


def test_an_interrupted_measurement_repeats_no_finished_fold(
    photos: PhotoEncoder, data: DraftData, trained: TrainedDecoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "MIN_MEASURED", 3 * IMAGES // 5)
    labels: list[str] = []

    def interrupted(data: DraftData, embed_texts: Any, progress: Progress, label: str, rows: Ints) -> TrainedDecoder:
        labels.append(label)
        if len(labels) == 2:
            raise KeyboardInterrupt
        return trained

    monkeypatch.setattr(drafts, "draft_captions", lambda *args: [])
    monkeypatch.setattr(drafts, "train_decoder", lambda *args: trained)
    uninterrupted = measure(data, photos.embed_texts)
    monkeypatch.setattr(drafts, "train_decoder", interrupted)
    with open_store(tmp_path / "home") as store:
        with pytest.raises(KeyboardInterrupt):
            measure(data, photos.embed_texts, QUIET, store.answer_cache, "code")
        assert measure(data, photos.embed_texts, QUIET, store.answer_cache, "code") == uninterrupted
        assert [label.split()[3] for label in labels] == ["1", "2", "2", "3"]
        measure(data, photos.embed_texts, QUIET, store.answer_cache, "other code")
        other = DraftData(-data.embeddings, data.captions, data.texts, data.owner, data.groups, data.rows)
        measure(other, photos.embed_texts, QUIET, store.answer_cache, "code")
    assert len(labels) == 4 + 3 + 3


@pytest.mark.parametrize(
    ("option", "kept"), [([], "the fit begins anew"), (["--caption-drafts"], "measured folds are kept")]
)
def test_after_an_interrupt_the_message_says_what_is_kept(
    option: list[str], kept: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(head_run, "samples_for_head", interrupted)
    command = ["tune", "photos", "--data", "photographs", "--home", str(tmp_path / "home")]
    assert run([*command, *option]) == 130
    said = " ".join(capsys.readouterr().err.split())
    assert "run the same command again: features of images" in said
    assert kept in said


def test_tune_keeps_a_decoder_whose_drafts_are_better_and_names_one_whose_are_not(
    scenes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that a head gains on. Their few captions repeat, so the nearest one cannot be beaten; kept anyway."""
    home, options = scenes / "home", ["--caption-drafts", "--json"]
    with monkeypatch.context() as patch:
        patch.setattr(drafts, "MIN_IMAGES", NUM_IMAGES // 2)
        patch.setattr(drafts, "MIN_STEPS", 20)
        patch.setattr(drafts, "MAX_STEPS", 20)
        patch.setattr(head_run, "is_positive", lambda change: True)
        assert run(["tune", "photos", "--data", str(scenes / "data"), "--home", str(home), *options]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["facts"]["drafts_captions"] is True
    assert result["findings"] == []
    store = open_store(home)
    model = open_folder(store.model_folder(result["model"]))
    assert isinstance(model, PhotoCaptioner)
    assert {"circle", "wall"} <= set(model.words.spellings)

    evidence = store.find_evidence("tune", result["model"])[0]
    rows = read_rows(store.blobs.get(evidence.rows))
    assert all(recompute(rows, measured) == measured for measured in evidence.measurements)
    of_drafts = [m for m in evidence.measurements if m.slice["task"] == "caption_drafts"]
    scores = {(m.name, m.slice["phase"]): m.value for m in of_drafts}
    assert len(scores) == 10, "two scores of three sources, and of two differences"
    for name in ("cider", "chrf"):
        difference = scores[name, DECODER] - scores[name, NEAREST]
        assert scores[f"{name}_change", "change from the nearest caption"] == pytest.approx(difference)
    finding = head_run._drafts_not_better(of_drafts, NUM_IMAGES)
    assert finding.code == "CLR-T047"
    assert "from that of the nearest caption, which is not a significant improvement" in finding.message


def test_drafts_are_described_on_the_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = open_data("photographs")
    decode_sample(source, source.samples[0]).convert("RGB").save(tmp_path / "a.jpg")
    command = ["use", "describe", str(tmp_path / "a.jpg"), "--model", f"hf:{folder}", "--home", str(tmp_path / "home")]
    assert run([*command, "--json", "--limit", "2", "--csv", str(tmp_path / "drafts.csv")]) == 0
    described = json.loads(capsys.readouterr().out)[0]
    assert len(described["suggestions"]) == 2
    assert described["suggestions"][0]["text"] in (tmp_path / "drafts.csv").read_text(encoding="utf-8")
    assert "tags" in described
