"""The catalogues: exact counts and ids, and sentences for files that are none."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path

import pytest

from clerestory.core.errors import ClerestoryError, InputError, NotFound
from clerestory.stages.govern.catalogue import BUILT_IN, Catalogue, find_item, load_catalogue, load_catalogues
from clerestory.stages.govern.editions import compare_editions
from clerestory.stages.govern.verifiers import verifiers

NAMES = tuple(verifiers())


def catalogue(name: str) -> Catalogue:
    return load_catalogue(name, NAMES)


def test_the_72_subcategories_of_the_ai_rmf() -> None:
    items = catalogue("nist-ai-rmf-1.0").items
    per_category = {
        "GOVERN": (7, 3, 2, 3, 2, 2), "MAP": (6, 3, 5, 2, 2), "MEASURE": (3, 13, 3, 3), "MANAGE": (4, 4, 2, 3),
    }  # fmt: skip
    expected = [
        f"{function} {category}.{number}"
        for function, sizes in per_category.items()
        for category, size in enumerate(sizes, 1)
        for number in range(1, size + 1)
    ]
    assert [item.id for item in items] == expected
    assert Counter(item.id.split()[0] for item in items) == {"GOVERN": 19, "MAP": 18, "MEASURE": 22, "MANAGE": 13}
    assert all(item.text.endswith(".") and item.title for item in items)
    # The words of the core, not those of the Playbook, which differ in 41 items.
    text = {item.id: item.text for item in items}
    assert text["GOVERN 3.1"].startswith("Decision-making related")
    assert "the team that developed or deployed AI systems" in text["GOVERN 5.2"]


def test_the_words_of_nist_are_those_that_were_compared_with_two_sources() -> None:
    """A change of the text must be a decision: compare it with the source, then change the digest."""
    digests = {
        name: hashlib.sha256("\n".join(f"{i.id}|{i.text}" for i in catalogue(name).items).encode()).hexdigest()[:16]
        for name in ("nist-ai-rmf-1.0", "nist-ai-600-1")
    }
    assert digests == {"nist-ai-rmf-1.0": "e1761654daa2cfdc", "nist-ai-600-1": "38f01bd4dbcd905b"}


def test_the_211_actions_on_49_subcategories_of_the_generative_profile() -> None:
    items = catalogue("nist-ai-600-1").items
    subcategories = {item.id for item in catalogue("nist-ai-rmf-1.0").items}
    prefixes = {"GV": "GOVERN", "MP": "MAP", "MS": "MEASURE", "MG": "MANAGE"}
    of = Counter(f"{prefixes[item.id[:2]]} {item.id.split('-')[1]}" for item in items)
    assert len(items) == 211
    assert len(of) == 49
    assert set(of) <= subcategories
    assert Counter(item.id[:2] for item in items) == {"GV": 57, "MP": 39, "MS": 72, "MG": 43}
    assert all(re.fullmatch(r"(GV|MP|MS|MG)-\d\.\d{1,2}-\d{3}", item.id) for item in items)
    assert not {"GV-1.1-002", "GV-4.3-001"} & {item.id for item in items}
    assert not [item.id for item in items if re.search("[\ufb00-\ufb06]|Continued on", item.text)]


def test_the_38_controls_of_iso_42001_have_titles_only() -> None:
    items = catalogue("iso-42001").items
    sizes = Counter(".".join(item.id.split(".")[:2]) for item in items)
    assert [sizes[f"A.{number}"] for number in range(2, 11)] == [3, 2, 5, 4, 9, 5, 4, 3, 3]
    assert len({item.id for item in items}) == 38
    assert not any(item.text for item in items)
    assert {item.id for item in items if item.id.startswith("A.6")} == {
        "A.6.1.2", "A.6.1.3", "A.6.2.2", "A.6.2.3", "A.6.2.4", "A.6.2.5", "A.6.2.6", "A.6.2.7", "A.6.2.8",
    }  # fmt: skip


def test_the_9_points_of_annex_iv_have_their_dates() -> None:
    items = catalogue("eu-ai-act-annex-iv").items
    assert [item.id for item in items] == [f"IV.{number}" for number in range(1, 10)]
    assert all(item.applies_from == "2027-12-02" and "2026/1744" in item.amended_by for item in items)


def test_items_have_the_kinds_of_answers_and_known_verifiers() -> None:
    for each in load_catalogues("all", NAMES):
        assert all(bool(item.verifiers) == (item.kind != "S") for item in each.items)
        assert each.source
        assert each.licence
    kinds = Counter(item.kind for item in catalogue("nist-ai-rmf-1.0").items)
    assert kinds == {"M": 14, "P": 32, "S": 26}
    used = {name for each in load_catalogues("all", NAMES) for item in each.items for name in item.verifiers}
    assert set(NAMES) - used <= {"copies", "cost", "not_measurable"}


@pytest.mark.parametrize("name", ["govern 1.1", "GOVERN-1.1", " Govern  1.1 ", "GOVERN_1.1"])
def test_an_item_is_found_however_it_is_spelled(name: str) -> None:
    assert catalogue("nist-ai-rmf-1.0").item(name).id == "GOVERN 1.1"


def test_an_unknown_item_names_the_closest() -> None:
    with pytest.raises(NotFound) as error:
        find_item("MEASURE 2.14", load_catalogues("all", NAMES))
    assert set(error.value.closest) & {"MEASURE 2.1", "MEASURE 2.4", "MEASURE 2.13"}
    with pytest.raises(NotFound) as error:
        find_item("x" * 5000, load_catalogues("all", NAMES))
    assert len(error.value.message) < 200


HEAD = 'id = "mine"\nname = "Mine"\nedition = "1"\nsource = "us"\nlicence = "ours"\n'
ITEM = '[[items]]\nid = "H1"\ntitle = "No leakage"\nkind = "M"\n'
MAPPING = '[verifiers]\n"H1" = ["leakage"]\n'


@pytest.mark.parametrize(
    ("content", "mapping", "words"),
    [
        ("id = ", "", "is not valid TOML"),
        (HEAD, "", "lacks the setting 'items'"),
        (HEAD + "items = []", "", "has no items"),
        (HEAD.replace("mine", "Mine!") + ITEM, MAPPING, "the id 'Mine!' is not valid"),
        (HEAD.replace('"mine"', '"iso-42001"') + ITEM, MAPPING, "is that of an included catalogue"),
        (HEAD + ITEM.replace('"M"', '"X"'), MAPPING, "must be"),
        (HEAD + ITEM, "", "has no verifier"),
        (HEAD + ITEM, '[verifiers]\n"H1" = []\n', "has no verifier"),
        (HEAD + ITEM, MAPPING.replace("leakage", "leekage"), "there is no verifier 'leekage'"),
        (HEAD + ITEM, MAPPING + '"H2" = ["leakage"]\n', "has no item 'H2'"),
        (HEAD + ITEM.replace('"M"', '"S"'), MAPPING, "so no verifier can answer it"),
        (HEAD + ITEM + ITEM.replace("H1", "h 1").replace("h 1", "h1"), MAPPING, "twice"),
        (HEAD + ITEM.replace('title = "No leakage"\n', ""), MAPPING, "neither a title nor a text"),
        (HEAD + ITEM + 'applies_from = "soon"\n', MAPPING, "is not a date"),
        (HEAD + ITEM + 'verifiers = ["leakage"]\n', MAPPING, "names verifiers"),
        (HEAD + ITEM + 'weight = 3\n', MAPPING, "has no setting 'weight'"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_catalogue_is_one_sentence(tmp_path: Path, content: str, mapping: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(content, encoding="utf-8")
    if mapping:
        (tmp_path / "mine.verifiers.toml").write_text(mapping, encoding="utf-8")
    with pytest.raises(ClerestoryError) as error:
        load_catalogue(str(path), NAMES)
    assert words in error.value.message
    assert error.value.fix or error.value.closest or "must be" in error.value.message
    assert error.value.exit_code == 2


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "large.toml").write_bytes(b"#" * 4_000_001)
    for name, words in (("binary", "not UTF-8"), ("large", "larger than 4 MB"), ("none", "there is no such file")):
        with pytest.raises(InputError, match=words):
            load_catalogue(str(tmp_path / f"{name}.toml"), NAMES)
    with pytest.raises(NotFound) as error:
        load_catalogue("iso-42002", NAMES)
    assert "iso-42001" in error.value.closest
    assert len(BUILT_IN) == 4


def test_a_new_edition_names_what_it_adds_changes_and_removes(tmp_path: Path) -> None:
    new = '[[items]]\nid = "{0}"\ntitle = "{1}"\nkind = "S"\n'
    files = {}
    for year, items in {2027: ("H1", "H2", "H3"), 2028: ("H1", "H2", "H4")}.items():
        body = "".join(new.format(item, item if item != "H2" else f"{item} of {year}") for item in items)
        files[year] = tmp_path / f"{year}.toml"
        files[year].write_text(HEAD.replace("mine", f"mine-{year}") + body, encoding="utf-8")
    old, later = (load_catalogue(str(file), NAMES) for file in files.values())
    diff = compare_editions(old, later)
    assert [item.id for item in diff.added] == ["H4"]
    assert [item.id for item in diff.removed] == ["H3"]
    assert [(each.id, each.fields) for each in diff.changed] == [("H2", ("title",))]
    assert (diff.same, diff.unanswered) == (1, ("H4", "H2"))
    assert compare_editions(old, old).same == 3
