"""The head of the photo encoder: fitted on captions, measured in folds, offered only where it gains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.tiny_hf import make_clip

from clerestory.cli.main import run
from clerestory.core.errors import CapabilityError, DataError, IntegrityError
from clerestory.core.sample import Dataset
from clerestory.data import open_data
from clerestory.data.images import decode_sample
from clerestory.models.adapters.headed import HeadedEncoder
from clerestory.models.adapters.hf_dual import DualEncoder
from clerestory.models.photo.encoder import PhotoEncoder, save_with_own_head
from clerestory.models.photo.space import LinearHead, PhotoSpace, unit_rows
from clerestory.models.resolve import open_folder, open_reference
from clerestory.report.provenance import components_of, training_of
from clerestory.stages.train.tune import tune_head
from clerestory.stages.train.tune.head import fit
from clerestory.stages.train.tune.head.encoders import DualHeadEncoder, OwnParts
from clerestory.stages.train.tune.head.fit import (
    HeadData,
    assign_folds,
    cross_fitted,
    fit_head,
    near_duplicates,
    reciprocal_ranks,
)
from clerestory.stats.aggregate import recompute
from clerestory.stats.rows import read_rows
from clerestory.store import Store, open_store


def head_data(images: int, signal: float, seed: int = 0) -> HeadData:
    """Captions that follow from features by a linear map, beside an encoder that knows little about them."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(images, 40))
    true = unit_rows(features @ rng.normal(size=(40, 12)))
    owner = np.repeat(np.arange(images), 2)
    texts = unit_rows(signal * true[owner] + (1 - signal) * unit_rows(rng.normal(size=(2 * images, 12))))
    embeddings = unit_rows(0.3 * true + 0.7 * unit_rows(rng.normal(size=(images, 12))))
    return HeadData(features, embeddings, texts, texts, owner, np.arange(images))


def test_a_head_that_knows_more_gets_most_of_the_mixture_and_gains_on_left_out_images() -> None:
    data = head_data(150, signal=0.9)
    fitted = fit_head(data)
    assert fitted.head.share < 0.5
    before = reciprocal_ranks(data.texts, data.embeddings, data.owner).mean()
    assert reciprocal_ranks(data.texts, cross_fitted(data), data.owner).mean() > before + 0.2


def test_captions_without_signal_leave_the_encoder_as_it_is() -> None:
    data = head_data(60, signal=0.0)
    fitted = fit_head(data)
    assert fitted.head.share >= 0.9
    assert cross_fitted(data) == pytest.approx(data.embeddings, abs=0.2)


def test_an_image_is_never_embedded_by_a_head_that_saw_it() -> None:
    data = head_data(60, signal=0.9)
    changed = HeadData(
        data.features, data.embeddings, np.where(data.owner[:, None] == 7, -data.directions, data.directions),
        data.texts, data.owner, data.groups,
    )  # fmt: skip
    assert (cross_fitted(changed)[7] == cross_fitted(data)[7]).all()
    assert (cross_fitted(changed) != cross_fitted(data)).any()


def test_near_duplicates_and_equal_keys_are_one_group_and_in_one_fold() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(12, 50))
    features[5] = features[2] + 0.05 * rng.normal(size=50)
    keys = [str(i) for i in range(12)]
    keys[9] = "5"
    groups = near_duplicates(features, keys)
    assert groups[2] == groups[5] == groups[9]
    assert len(set(groups.tolist())) == 10
    folds = assign_folds(groups)
    assert folds[2] == folds[5] == folds[9]
    assert np.bincount(folds).max() <= 3


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Photographs with random cut-outs: 45 images of 15 things."""
    folder = tmp_path_factory.mktemp("photographs")
    source, lines = open_data("photographs"), ["image,caption"]
    rng = np.random.default_rng(0)
    for number, sample in enumerate(source):
        image = decode_sample(source, sample)
        image.thumbnail((300, 300))
        for part in range(3):
            left, top = (int(rng.integers(0, side // 4 + 1)) for side in image.size)
            cut = image.crop((left, top, left + image.width * 3 // 4, top + image.height * 3 // 4))
            cut.save(folder / f"{number}-{part}.jpg")
            lines.append(f'{number}-{part}.jpg,"{sample.caption} {part}"')
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return open_data(str(folder))


@pytest.fixture(scope="module")
def photos() -> PhotoEncoder:
    model = open_reference("photos")
    assert isinstance(model, PhotoEncoder)
    return model


def test_the_gain_is_evidence_that_can_be_computed_again(
    photos: PhotoEncoder, photographs: Dataset, tmp_path: Path
) -> None:
    store = open_store(tmp_path)
    result = tune_head(photos, photographs, store, base="photos")
    evidence = result.evidence
    rows = read_rows(store.blobs.get(evidence.rows))
    assert all(recompute(rows, measured) == measured for measured in evidence.measurements)
    change = evidence.measurements[0]
    assert change.name == "mrr_change"
    before, after = (
        evidence.find("mrr", {"task": "text_to_image", "phase": phase}) for phase in ("without head", "with head")
    )
    assert before is not None
    assert after is not None
    assert change.value == pytest.approx(after.value - before.value)
    assert change.clusters is not None
    assert change.clusters <= 15, "cut-outs of one photograph are one group"
    # With 15 things nothing can be gained for sure, and then no model is made.
    assert result.model == ""
    assert [finding.code for finding in evidence.findings] == ["CLR-T044"]
    again = tune_head(photos, photographs, store, base="photos")
    assert again.cached
    assert again.evidence == evidence


def test_what_is_held_out_and_a_head_without_a_share_are_named(
    photographs: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "_choose_share", lambda data, head, predicted: 1.0)
    source = photographs.file_of(photographs.samples[0])
    assert source is not None
    num_test = sum(sample.split == "test" for sample in photographs)
    assert num_test > 1
    assert run(["tune", "photos", "--data", str(source.parent), "--home", str(tmp_path)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"with {45 - num_test} captioned images (not counting {num_test} in the split test, held out" in said
    assert "no share of the head above 0 ranks better" in said
    assert f"held out {num_test} captioned images in the split test" in said
    assert "head 0% of the embedding" in said


def test_a_model_with_a_head_is_an_ordinary_model(photos: PhotoEncoder, photographs: Dataset, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=photos.space.general.weight.shape) * 0.01
    head = LinearHead(photos.space.general.mean + 0.01, weight, 0.5)
    folder, image = tmp_path / "model", Image.new("RGB", (60, 40), (200, 30, 30))
    folder.mkdir()
    save_with_own_head(photos, head, "a head on 45 captioned images", "photos", folder)
    tuned = open_folder(folder)
    assert isinstance(tuned, PhotoEncoder)
    assert tuned.digest != photos.digest
    assert tuned.facts()["own_head"] is True
    assert (tuned.embed_texts(["red"]) == photos.embed_texts(["red"])).all()
    assert tuned.embed_images([image])[0] @ photos.embed_images([image])[0] < 0.999
    assert "45 captioned images" in (folder / "README.md").read_text(encoding="utf-8")
    second = tmp_path / "second"
    second.mkdir()
    save_with_own_head(tuned, head, "a head on 45 captioned images", "photos", second)
    assert open_folder(second).digest == tuned.digest, "a head is replaced, not added"


def test_too_few_captions_are_named(photos: PhotoEncoder, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.jpg")
    (tmp_path / "captions.csv").write_text("image,caption\na.jpg,red\n", encoding="utf-8")
    store: Store = open_store(tmp_path / "home")
    with pytest.raises(DataError, match="has 1 image with captions to fit on, and at least 20 are needed"):
        tune_head(photos, open_data(str(tmp_path)), store)


def test_a_dual_encoder_gets_a_head_in_the_same_way(photographs: Dataset, tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "clip")
    store = open_store(tmp_path / "home")
    base = open_reference(f"hf:{folder}")
    assert isinstance(base, DualEncoder)
    result = tune_head(base, photographs, store, base="hf:clip")
    assert result.evidence.facts.text("base") == "hf:clip"
    assert result.evidence.facts.text("method") == "ridge regression"
    encoder = DualHeadEncoder(base)
    images = [decode_sample(photographs, sample) for sample in photographs][:4]
    features = encoder.features([decode_sample(photographs, sample) for sample in photographs])
    captions = [sample.caption for sample in photographs]
    data, _ = encoder.prepare(features, captions, np.arange(len(captions)), np.arange(len(captions)))
    head = replace(fit_head(data).head, share=0.4)
    target = tmp_path / "headed"
    target.mkdir()
    encoder.save(OwnParts(head), "a head on 45 captioned images", "hf:clip", target)
    headed = open_reference(str(target))
    assert isinstance(headed, HeadedEncoder)
    expected = PhotoSpace.mix(data.embeddings[:4], head.predict(data.features[:4]), head)
    assert headed.embed_images(images) == pytest.approx(expected, abs=1e-4)
    assert headed.embed_texts(captions[:4]) == pytest.approx(data.texts[:4], abs=1e-4)
    assert open_reference(f"hf:{target / 'base'}").digest == base.digest, "the unchanged model is inside"
    stored = store.model_folder(store.put_model(target))
    assert open_folder(stored).digest == headed.digest
    (target / "model.safetensors").write_bytes((target / "base" / "model.safetensors").read_bytes())
    with pytest.raises(IntegrityError, match="does not fit its model"):
        open_reference(str(target))


def test_other_models_are_refused_with_what_would_do(photographs: Dataset, tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match="a head can be fitted on photos and on Hugging Face dual encoders"):
        tune_head(open_reference("starter"), photographs, open_store(tmp_path))


def test_images_of_one_thing_are_refused_with_the_reason(photos: PhotoEncoder, tmp_path: Path) -> None:
    rng, lines = np.random.default_rng(0), ["image,caption,concept"]
    for number in range(20):
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,noise {number},noise")
    (tmp_path / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"are of 1 thing by their concept or label \(noise\)"):
        tune_head(photos, open_data(str(tmp_path)), open_store(tmp_path / "home"))


@pytest.mark.parametrize(
    ("captions", "problem"),
    [
        (["A photo."], "all 20 captioned images of .* have the caption 'A photo.', so there is nothing"),
        (["A photo.", "a photo", "A PHOTO!"], "all 20 captioned images of .* have the caption"),
        (
            ["A photo."] * 9 + ["a dog"],
            "have only 2 different captions, and at least 5 are needed; 18 have the caption",
        ),
    ],
)
def test_equal_captions_are_named_in_the_words_of_the_data(
    captions: list[str], problem: str, photos: PhotoEncoder, tmp_path: Path
) -> None:
    rng, lines = np.random.default_rng(0), ["image,caption,split"]
    for number in range(20):
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        lines.append(f'{number}.png,"{captions[number % len(captions)]}",train')
    (tmp_path / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=problem) as caught:
        tune_head(photos, open_data(str(tmp_path)), open_store(tmp_path / "home"))
    assert "concept" not in str(caught.value) + caught.value.fix


def test_images_that_look_the_same_are_named(photos: PhotoEncoder, tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    lines = ["image,caption,split"]
    for number in range(20):
        image.save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,thing {number},train")
    (tmp_path / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="are nearly the same, in 1 group of near-duplicates"):
        tune_head(photos, open_data(str(tmp_path)), open_store(tmp_path / "home"))


def test_a_refused_head_says_nothing_about_the_base_model(
    photos: PhotoEncoder, photographs: Dataset, tmp_path: Path
) -> None:
    """The base model was never trained on the data, and its licence is known although it is not in the store."""
    store = open_store(tmp_path)
    refused = tune_head(photos, photographs, store, base="photos").evidence
    assert refused.subject.model == ""
    assert training_of(store, photos.digest) is None
    made = replace(refused, subject=replace(refused.subject, model="a" * 64))
    store.put_evidence(made)
    parts = {part.role: part for part in components_of(store, "a" * 64) if not part.part_of}
    assert [each.licence for each in parts["base model"].licences] == ["apache-2.0"]
