"""The built-in photographs: readable pictures with captions, and with a licence that is the package's own word."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from clerestory.core.sample import TEST, Dataset
from clerestory.data import decode_image, packages
from clerestory.data.photographs import main, open_photographs, pinned_packages

TABLE = Path(packages.__file__).with_name("photographs.json")


@pytest.fixture(scope="module")
def photographs() -> Dataset:
    return open_photographs()


def test_every_photograph_is_a_readable_picture_of_its_own(photographs: Dataset) -> None:
    assert 12 <= len(photographs) <= 20
    assert len({sample.image for sample in photographs}) == len(photographs)
    for sample in photographs:
        assert min(decode_image(photographs.read(sample)).size) >= 300, sample.id
        assert sample.split == TEST


def test_every_photograph_has_captions_of_its_own(photographs: Dataset) -> None:
    texts = [caption.text for sample in photographs for caption in sample.captions]
    assert len(set(texts)) == len(texts)
    for sample in photographs:
        assert 1 <= len(sample.captions) <= 3
        assert all(3 <= len(caption.text.split()) <= 20 for caption in sample.captions)


def test_the_licence_and_the_source_of_a_photograph_are_those_its_package_states(photographs: Dataset) -> None:
    """The words of the package are in the table; here they are compared with the package itself."""
    for entry in json.loads(TABLE.read_text(encoding="utf-8"))["photographs"]:
        package = pinned_packages()[entry["package"]]
        sample = photographs[entry["id"]]
        assert sample.source == f"{package.spec}; {entry['source']}"
        stated = "README.md" if not package.wheel_tag else "skimage/data/_fetchers.py"
        text = packages.read_members(packages.read_package(package), stated)[stated].decode()
        words = [word for word in entry["terms"].replace("`", " ").split() if word.isalpha()]
        missing = [word for word in words if word not in text]
        assert not missing, (sample.id, missing)
        if sample.licence == "CC0-1.0":
            assert "CC0" in entry["terms"] or "Creative Commons Zero" in entry["terms"]
        else:
            assert "public domain" in entry["terms"]
        if package.wheel_tag == "":
            about = packages.read_json(packages.read_package(package), "datapackage.json")["datapackage.json"]
            assert about["sources"][0]["web"] == entry["source"]
            assert sample.licence in about["license"]


def test_the_set_up_and_the_name_lead_to_the_photographs(
    photographs: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(__file__).parents[2]
    points = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    assert points["clerestory"]["data.photographs"] == "clerestory.data.photographs:open_photographs"
    assert "python -m clerestory.data.photographs fetch" in (root / "Makefile").read_text(encoding="utf-8")
    assert main(["fetch"]) == 0
    assert photographs.digest in capsys.readouterr().err
    assert main(["render"]) == 2
