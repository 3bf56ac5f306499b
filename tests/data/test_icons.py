"""The built-in icons: complete, correctly captioned, in splits without leaks. Rendered once per machine."""

from __future__ import annotations

import io
import random
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clerestory.core.digest import digest_bytes
from clerestory.core.errors import IntegrityError
from clerestory.core.extensions import find
from clerestory.core.files import cache_folder
from clerestory.core.sample import Dataset
from clerestory.data import decode_image, packages, parquet
from clerestory.data.icons import Icon, cache_key, main, open_icons
from clerestory.data.render import render, svg_document

pytestmark = pytest.mark.icons


def cached() -> Path:
    return cache_folder() / f"icons-{cache_key()}.parquet"


def test_all_sets_are_present_with_their_licences(icons: Dataset) -> None:
    assert len(icons) > 21_000
    counts = Counter(sample.groups["style"] for sample in icons)
    assert set(counts) == set(packages.ICON_PACKAGES)
    assert min(counts.values()) > 1000
    for style, package in packages.ICON_PACKAGES.items():
        info = packages.read_json(packages.read_package(package), "info.json")["info.json"]
        mine = [sample for sample in icons if sample.groups["style"] == style]
        assert {sample.licence for sample in mine} == {info["license"]["spdx"]}
        assert {sample.source for sample in mine} == {package.spec}


def test_every_drawing_is_a_sample_or_a_finding(icons: Dataset) -> None:
    drawings = 0
    for package in packages.ICON_PACKAGES.values():
        icon_set = packages.read_json(packages.read_package(package), "icons.json")["icons.json"]
        drawings += len({svg_document(entry, icon_set) for entry in icon_set["icons"].values()})
    blank = [finding for finding in icons.findings if finding.code == "CLR-D006"]
    assert len(icons) + len(blank) == drawings
    assert len(blank) < 20


def test_no_concept_image_or_caption_is_in_two_splits(icons: Dataset) -> None:
    for key in ("concept", "image", "caption"):
        sides: defaultdict[str, set[str]] = defaultdict(set)
        for sample in icons:
            if sample.split != "test_style":
                sides[getattr(sample, key)].add(sample.split)
        conflicts = {name: splits for name, splits in sides.items() if len(splits) > 1}
        assert not conflicts, key


def test_the_held_out_style_is_complete_and_has_the_split_of_its_concepts(icons: Dataset) -> None:
    elsewhere = {sample.concept: sample.split for sample in icons if sample.split != "test_style"}
    for sample in icons:
        unseen = sample.groups["style"] == "openmoji"
        assert unseen == (sample.split == "test_style") == ("concept_split" in sample.groups)
        if unseen:
            assert sample.groups["concept_split"] == elsewhere.get(sample.concept, "none")


def test_test_has_about_500_captions(icons: Dataset) -> None:
    captions = {s.caption for s in icons if s.split == "test" and s.groups["skin_tone"] == "none"}
    assert 450 <= len(captions) <= 550


def test_groups_take_only_the_known_values(icons: Dataset) -> None:
    tones = {"none", "light", "medium-light", "medium", "medium-dark", "dark", "mixed"}
    assert {sample.groups["skin_tone"] for sample in icons} == tones
    assert {sample.groups["gender"] for sample in icons} == {"none", "woman", "man"}
    for sample in icons:
        words = set(re.findall(r"\w+", sample.caption.lower()))
        if sample.groups["skin_tone"] != "none":
            assert "skin tone" in sample.caption, sample.id
        if words & {"woman", "women"} and not words & {"man", "men", "boy", "s"}:
            assert sample.groups["gender"] == "woman", sample.id


def test_one_concept_whatever_the_set_the_tone_and_the_gender(icons: Dataset) -> None:
    wanted = {"waving-hand": 8, "astronaut": 6, "red-apple": 8, "flag-france": 7, "loudly-crying-face": 8}
    styles: defaultdict[str, set[str]] = defaultdict(set)
    for sample in icons:
        styles[sample.concept].add(sample.groups["style"])
    for concept, count in wanted.items():
        assert len(styles[concept]) >= count - 1, (concept, styles[concept])
    drawn = {sample.id: sample.concept for sample in icons}
    assert len({drawn[f"twemoji/{who}-astronaut-dark-skin-tone"] for who in ("man", "woman")} | {"astronaut"}) == 1


def test_captions_are_a_name_keywords_and_other_languages(icons: Dataset) -> None:
    violin = icons["twemoji/violin"]
    assert (violin.captions[0].text, violin.captions[0].lang, violin.captions[0].kind) == ("violin", "en", "name")
    assert {"instrument", "music"} <= {c.text for c in violin.captions if c.kind == "keyword"}
    assert {c.lang: c.text for c in violin.captions if c.lang != "en"}["de"] == "Geige"
    for sample in icons:
        assert sample.captions[0].lang == "en"
        assert sample.captions[0].kind == "name"
        assert all(c.text.strip() == c.text != "" for c in sample.captions)


def test_images_are_64_by_64_on_white_and_never_blank(icons: Dataset) -> None:
    for sample in random.Random(5).sample(icons.samples, 400):
        content = icons.read(sample)
        assert digest_bytes(content) == sample.image
        picture = np.asarray(decode_image(content))
        assert picture.shape == (64, 64, 3)
        assert picture.min() < 250, sample.id
        assert Image.open(io.BytesIO(content)).format == "PNG"


def test_rendering_again_gives_the_same_bytes(icons: Dataset) -> None:
    style = "fluent-emoji-flat"
    icon_set = packages.read_json(packages.read_package(packages.ICON_PACKAGES[style]), "icons.json")["icons.json"]
    for name in sorted(icon_set["icons"])[::120]:
        if f"{style}/{name}" in {s.id for s in icons if s.groups["style"] == style}:
            assert (
                digest_bytes(render(svg_document(icon_set["icons"][name], icon_set))) == icons[f"{style}/{name}"].image
            )


def test_the_digest_in_the_sidecar_is_that_of_the_content(icons: Dataset) -> None:
    assert Dataset("again", tuple(reversed(icons.samples)), icons.read).digest == icons.digest


def test_another_process_finds_the_same_digest(icons: Dataset) -> None:
    code = "from clerestory.data import open_data; print(open_data('icons').digest)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == icons.digest


def test_one_flipped_byte_in_the_cache_is_detected(icons: Dataset, tmp_path: Path) -> None:
    copy = tmp_path / "icons.parquet"
    shutil.copyfile(cached(), copy)
    shutil.copyfile(parquet.sidecar_path(cached()), parquet.sidecar_path(copy))
    assert parquet.open_dataset(copy).digest == icons.digest
    with copy.open("r+b") as file:
        file.seek(copy.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, io.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(IntegrityError, match=r"icons\.parquet"):
        parquet.open_dataset(copy)


def test_the_source_is_a_registered_extension() -> None:
    assert find("data", "icons") is open_icons


def test_the_module_prints_its_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dance"]) == 2
    assert "fetch|render" in capsys.readouterr().err
    assert main(["fetch"]) == 0
    assert "0 fetched, 9 in" in capsys.readouterr().err


def test_the_id_of_an_icon_is_its_style_and_name() -> None:
    assert Icon("noto", "cat", "", "", "", "", "").id == "noto/cat"
