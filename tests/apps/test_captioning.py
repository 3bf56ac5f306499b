"""Suggestions, and a CSV file that a spreadsheet reads without harm."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.support.colour_tiles import ColourModel, EmbedderOnly

from clerestory.apps.captioning import caption_images, captions_csv
from clerestory.core.errors import CapabilityError, InputError


def test_each_picture_gets_its_suggestions() -> None:
    images = [Image.new("RGB", (5, 5), colour) for colour in ("crimson", "navy", "gold")]
    crimson, navy, gold = caption_images(ColourModel(silent="navy"), images, 2)
    assert [s.text for s in crimson][0] == "crimson tile"
    assert [s.text for s in gold][0] == "gold tile"
    assert navy == []
    assert len(crimson) == 2
    assert 1 >= crimson[0].score >= crimson[1].score >= 0
    assert caption_images(ColourModel(), []) == []


def test_invalid_requests_are_errors() -> None:
    with pytest.raises(CapabilityError, match="captioning needs a model that can generate captions"):
        caption_images(EmbedderOnly(ColourModel()), [Image.new("RGB", (5, 5))])
    with pytest.raises(InputError, match="at least one"):
        caption_images(ColourModel(), [Image.new("RGB", (5, 5))], 0)


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.encode("utf-8").decode("utf-8-sig"), newline="")))


def test_the_table_has_a_header_and_every_row() -> None:
    text = captions_csv(
        [
            {"file": "a.png", "caption": 'a "red" tile, big'},
            {"file": "b.png", "caption": "Größe 日本", "score": 0.5},
        ]
    )
    assert text.startswith("\ufeff")
    assert text.endswith("\r\n")
    assert read(text) == [
        ["file", "caption", "score"],
        ["a.png", 'a "red" tile, big', ""],
        ["b.png", "Größe 日本", "0.5"],
    ]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =HYPERLINK(1)", "＝1", '=cmd|" /C calc"!A0']
)
def test_formulas_become_text(text: str) -> None:
    assert read(captions_csv([{"caption": text, text: "x"}])) == [["caption", "'" + text], ["'" + text, "x"]]


def test_numbers_stay_numbers_and_words_stay_words() -> None:
    assert read(captions_csv([{"score": -0.5, "caption": "black-and-white = art", "none": None}]))[1] == [
        "-0.5",
        "black-and-white = art",
        "",
    ]


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.text(st.characters(codec="utf-8")), min_size=1), max_size=5))
def test_whatever_people_write_comes_back(rows: list[dict[str, str]]) -> None:
    back = read(captions_csv(rows))
    header = list(dict.fromkeys(name for row in rows for name in row))
    assert back[0] == header
    assert len(back) == len(rows) + 1
    for row, cells in zip(rows, back[1:], strict=True):
        for name, cell in zip(header, cells, strict=True):
            text = row.get(name, "")
            assert cell in (text, "'" + text)
            assert cell.lstrip(" ")[:1] not in tuple("=+-@\t\r\n")
