"""Balance of groups, wrong labels and shortcuts: planted ones are found, clean data has none."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import cohen_kappa_score

from clerestory.core.codec import Tags
from clerestory.core.digest import digest_bytes
from clerestory.core.errors import InputError, NotFound, SettingError
from clerestory.core.progress import QUIET
from clerestory.core.sample import SUPPLEMENT, TEST, TEST_STYLE, TRAIN, Caption, Dataset, Sample
from clerestory.stages.audit.balance_check import check_balance
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.group_findings import (
    CODES,
    SHORTCUT,
    SPLIT_GAP,
    UNBALANCED,
    WITHOUT_VALUE,
    WRONG_LABEL,
)
from clerestory.stages.audit.image_facts import read_image_facts
from clerestory.stages.audit.label_classes import FOLDS, label_classes, stratified_folds
from clerestory.stages.audit.run import audit
from clerestory.stages.audit.shortcut_check import check_shortcuts, shortcut_score
from clerestory.stages.audit.wrong_labels import cohen_kappa, detect_wrong_labels
from clerestory.store import open_store

CONFIG = AuditConfig()


def grouped(values: Sequence[tuple[str, str]], group: str = "camera") -> Dataset:
    """Samples of a split and a value of one group each; an empty value is none."""
    samples = [
        Sample(f"{i:05}", f"{i:064}", groups=Tags({group: value} if value else {}), split=split)
        for i, (split, value) in enumerate(values)
    ]
    return Dataset("grouped", samples, lambda sample: b"")


def balance(values: Sequence[tuple[str, str]], config: AuditConfig = CONFIG) -> list[Detection]:
    return check_balance(grouped(values), None, config)


def spread(**counts: int) -> list[tuple[str, str]]:
    """Of each value four in train and one in test."""
    return [(TEST if i % 5 == 0 else TRAIN, value) for value, count in counts.items() for i in range(count)]


def test_a_value_with_few_images_is_named_with_its_images() -> None:
    (found,) = balance(spread(a=500, b=300, c=20))
    assert found.code is UNBALANCED
    assert len(found.samples) == 20
    assert set(found.notes.values()) == {"camera 'c'"}
    assert "'c' (20)" in found.message
    assert balance(spread(a=500, b=300, c=25)) == []
    (found,) = balance(spread(a=60, b=9))
    assert len(found.samples) == 9
    assert balance(spread(a=60, b=9), AuditConfig(min_group_images=9)) == []


def test_small_data_is_not_called_unbalanced() -> None:
    assert balance(spread(a=9, b=9)) == []


def test_groups_of_many_values_and_those_of_the_sources_are_not_checked() -> None:
    assert balance([(TRAIN, f"v{i % 31}") for i in range(3100)] + [(TRAIN, "rare")]) == []
    assert check_balance(grouped([(TRAIN, "yes")] * 90 + [(TRAIN, "")] * 9, SUPPLEMENT), None, CONFIG) == []


def test_images_without_a_value_are_counted_where_most_have_one() -> None:
    (found,) = balance([*spread(a=60, b=60), *[(TRAIN, "")] * 12])
    assert found.code is WITHOUT_VALUE
    assert len(found.samples) == 12
    assert "9.1%" in found.message
    assert balance([*spread(a=20, b=20), *[(TRAIN, "")] * 60]) == []


def test_values_of_one_split_only() -> None:
    both = spread(a=50, b=50)
    (found,) = balance([*both, *[(TRAIN, "c")] * 30])
    assert (found.code, found.reason, found.severity, len(found.samples)) == (SPLIT_GAP, "unevaluated", None, 30)
    (found,) = balance([*both, *[(TEST, "c")] * 30])
    assert (found.reason, len(found.samples)) == ("untrained", 30)


def test_an_unseen_style_is_only_information() -> None:
    (found,) = balance([*spread(a=50, b=50), *[(TEST_STYLE, "c")] * 40])
    assert (found.reason, found.severity, len(found.samples)) == ("separate", "info", 40)


def test_a_personal_value_is_not_in_the_message() -> None:
    (found,) = balance([*spread(a=300, b=300), *spread(**{"ada@example.org": 12})])
    assert "ada@" not in found.message + " ".join(found.notes.values())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([TRAIN, TEST, ""]), st.sampled_from(["", "a", "b", "c"])), max_size=60))
def test_findings_concern_samples_of_the_data_once(values: list[tuple[str, str]]) -> None:
    for found in balance(values):
        assert len(set(found.samples)) == len(found.samples) > 0
        assert set(found.notes) <= set(found.samples)
        split, value = values[int(found.samples[0])]
        assert (value == "") == (found.code is WITHOUT_VALUE)
        if found.code is SPLIT_GAP:
            assert split


Look = Callable[[int, np.random.Generator], Image.Image]


def shapes(label: int, rng: np.random.Generator) -> Image.Image:
    """A square (0), a circle (1) or a cross (2) in the middle, on noise that says nothing."""
    pixels = rng.integers(90, 166, (64, 64, 3)).astype(np.uint8)
    y, x = np.mgrid[-32:32, -32:32] + rng.integers(-2, 3)
    inside = [np.maximum(abs(x), abs(y)) < 17, x**2 + y**2 < 230, (abs(x) < 6) | (abs(y) < 6)][label]
    pixels[inside & (np.maximum(abs(x), abs(y)) < 20)] -= np.uint8(rng.integers(50, 90))
    return Image.fromarray(pixels)


def labelled(count: int, look: Look = shapes, classes: int = 3, level: int = 0) -> Dataset:
    """Three classes in turn; without compression, so that the bytes say nothing."""
    rng = np.random.default_rng(0)
    contents, samples = {}, []
    for i in range(count):
        out = io.BytesIO()
        look(i % classes, rng).save(out, "PNG", compress_level=level)
        contents[f"{i:04}.png"] = out.getvalue()
        groups = Tags({"class": "abc"[i % classes]})
        captions = (Caption(f"drawing number {i}"),)
        split = TEST if i % 5 == 0 else TRAIN
        samples.append(Sample(f"{i:04}.png", digest_bytes(out.getvalue()), captions, groups=groups, split=split))
    return Dataset("labelled", samples, lambda sample: contents[sample.id])


def shortcuts(data: Dataset, tmp_path: Path, **set_: float) -> list[Detection]:
    facts, _ = read_image_facts(data, open_store(tmp_path).answer_cache, QUIET)
    return check_shortcuts(data, facts, label_classes(data), AuditConfig(**set_))


def test_clean_data_has_none_of_these_findings(tmp_path: Path) -> None:
    result = audit(labelled(300), open_store(tmp_path), AuditConfig(max_crop_images=0))
    assert {each.code for each in result.detections} & set(CODES) == set()


def test_classes_of_another_size_are_told_by_the_size(tmp_path: Path) -> None:
    def look(label: int, rng: np.random.Generator) -> Image.Image:
        return shapes(label, rng).resize((64 + 6 * label + int(rng.integers(0, 3)), 80))

    found = next(each for each in shortcuts(labelled(180, look), tmp_path) if each.reason == "file")
    assert (found.code, found.severity) == (SHORTCUT, None)
    assert "most by the size in pixels" in found.message
    assert len(found.samples) >= 170


def test_bytes_per_pixel_are_only_information(tmp_path: Path) -> None:
    def look(label: int, rng: np.random.Generator) -> Image.Image:
        return Image.fromarray(rng.integers(100, 110 + 50 * label, (64, 64, 3)).astype(np.uint8))

    found = {each.reason: each for each in shortcuts(labelled(90, look, level=6), tmp_path)}
    assert (found["bytes"].severity, "file" in found) == ("info", False)


def test_classes_with_another_border_are_told_by_the_border(tmp_path: Path) -> None:
    def look(label: int, rng: np.random.Generator) -> Image.Image:
        framed = Image.new("RGB", (72, 72), tuple(int(v) for v in (60 + 60 * label + rng.integers(0, 30, 3))))
        framed.paste(shapes(0, rng), (4, 4))
        return framed

    data = labelled(180, look)
    found = {each.reason: each for each in shortcuts(data, tmp_path)}
    assert len(found["border"].samples) >= 170
    assert "by chance 33.3%" in found["border"].message
    assert [each for each in shortcuts(data, tmp_path, max_shortcut=1.0) if each.reason == "border"] == []


def test_the_source_is_a_shortcut(tmp_path: Path) -> None:
    data = labelled(120)
    samples = [replace(sample, source="shop" if sample.groups["class"] == "a" else "film") for sample in data]
    (found,) = shortcuts(Dataset("sources", samples, data.read), tmp_path)
    assert "most by the source" in found.message


@pytest.mark.parametrize("sizes", [(400, 40), (30, 30, 30, 30)])
def test_a_classifier_that_knows_nothing_is_at_chance_whatever_the_sizes(sizes: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    above = 0
    for seed in range(20):
        features = np.random.default_rng(seed).normal(size=(len(labels), 10))
        score = shortcut_score(features, labels, np.arange(len(labels)))
        above += score.low > 1 / len(sizes)
    assert above <= 2
    constant = shortcut_score(np.ones((len(labels), 3)), labels, np.arange(len(labels)))
    assert constant.accuracy == pytest.approx(1 / len(sizes))


def test_five_per_cent_of_wrong_labels_are_named_with_the_right_class() -> None:
    rng = np.random.default_rng(1)
    truth = np.arange(600) % 3
    embeddings = np.eye(3, 16)[truth] + rng.normal(scale=0.2, size=(600, 16))
    embeddings[7] = np.nan
    given_ = truth.copy()
    wrong = rng.choice(np.arange(8, 600), 30, replace=False)
    given_[wrong] = (given_[wrong] + 1) % 3
    samples = [Sample(f"{i:04}", f"{i:064}", groups=Tags({"class": "abc"[label]})) for i, label in enumerate(given_)]
    data = Dataset("wrong", samples, lambda sample: b"")
    classes = label_classes(data)
    assert classes is not None
    (found,) = detect_wrong_labels(data, classes, embeddings.astype(np.float32))
    planted = {f"{i:04}" for i in wrong}
    assert found.code is WRONG_LABEL
    assert found.samples[0] in planted
    assert found.checked == 599
    assert len(planted & set(found.samples)) >= 24
    assert len(set(found.samples) - planted) <= 3
    first = int(found.samples[0])
    assert f"more likely '{'abc'[truth[first]]}'" in found.notes[found.samples[0]]


def test_a_model_that_cannot_tell_the_classes_names_nothing() -> None:
    data = labelled(90)
    classes = label_classes(data)
    assert classes is not None
    (found,) = detect_wrong_labels(data, classes, np.random.default_rng(0).normal(size=(90, 8)).astype(np.float32))
    assert (found.state, found.reason, found.samples) == ("not_run", "low_agreement", ())


def test_the_agreement_is_that_of_scikit_learn() -> None:
    one, other = np.random.default_rng(0).integers(0, 4, (2, 200))
    other[:120] = one[:120]
    assert cohen_kappa(one, other) == pytest.approx(cohen_kappa_score(one, other))


def test_folds_keep_clusters_whole_and_spread_classes() -> None:
    labels, clusters = np.repeat([0, 1], [100, 25]), np.arange(125) // 2
    folds = stratified_folds(labels, clusters)
    assert all(len(set(folds[clusters == cluster])) == 1 for cluster in range(63))
    assert np.bincount(folds[labels == 1], minlength=FOLDS).min() >= 3


def test_the_group_of_the_classes() -> None:
    data = grouped([(TRAIN, value) for value in "ab" * 10], "folder")
    assert label_classes(data) is None
    classes = label_classes(data, "folder")
    assert classes is not None
    assert classes.names == ("a", "b")
    with pytest.raises(NotFound, match="foldr"):
        label_classes(data, "foldr")
    with pytest.raises(InputError, match="0 of 2 have 10"):
        label_classes(grouped([(TRAIN, value) for value in "ab" * 9], "folder"), "folder")
    with pytest.raises(SettingError):
        AuditConfig(max_shortcut=1.5)
