"""Tables of any content: whatever is in them, each row is a sample, part of one, or named in a finding."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.support.images import solid_image
from tests.support.tables import table

from clerestory.core.digest import digest_bytes
from clerestory.core.errors import ClerestoryError
from clerestory.data import open_data

LEFT_OUT = {"CLR-D001", "CLR-D004", "CLR-D005", "CLR-D010", "CLR-D012"}
SHARED_FOLDER = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
MISSING = ("", " ", "NaN", "nan", "None", "null", "NULL", "N/A", "NA", "#N/A", "<NA>", "NaT", "-nan")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(MISSING),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=6) | st.sampled_from(("text", "lang", "de", "path", "key", "value")), inner, max_size=3
        )
    ),
    max_leaves=6,
)
KEYS = (
    "id",
    "split",
    "label",
    "groups",
    "keywords",
    "caption_de",
    "licence",
    "source",
    "sha256",
    "season",
    "[/b]",
    "",
    "captions",
    "caption_id",
)
FILES = st.sampled_from(("a.png", "b.jpg", "shoes/d.png", "nowhere.png", "../x", "", "\ud800.png"))
ROWS = st.lists(
    st.tuples(FILES | JSON, st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), JSON, max_size=4)), max_size=6
)


@settings(max_examples=200, deadline=None, suppress_health_check=SHARED_FOLDER)
@given(ROWS)
@example([("a.png", {"groups": ["x", "y"]}), ("a.png", {"keywords": 5}), ("b.jpg", {"groups": [{"a": 1, "b": 2}]})])
@example([("a.png", {"id": "x", "split": "restval"}), ("b.jpg", {"id": "x"})])
@example([("a.png", {"\ud800": "\ud800", "label": "\udfff", "season": [[[[[[1]]]]]]})])
def test_every_json_row_is_in_a_sample_or_in_a_finding(
    shop: Path, rows: list[tuple[object, dict[str, object]]]
) -> None:
    lines = [json.dumps({"image": "c.webp", "caption": "sure"})]
    lines += [json.dumps({**cells, "image": image, "caption": f"row {i}"}) for i, (image, cells) in enumerate(rows)]
    data = open_data(table(shop, "\n".join(lines), "t.jsonl"))
    left_out = {finding.where for finding in data.findings if finding.code in LEFT_OUT}
    texts = [caption.text for sample in data for caption in sample.captions]
    for i in range(len(rows)):
        assert (f"t.jsonl, line {i + 2}" in left_out) != (f"row {i}" in texts)
    assert all(digest_bytes(data.read(sample)) == sample.image for sample in data)
    assert len(data.digest) == 64
    assert all(finding.message.encode() and finding.where.encode() for finding in data.findings)


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12) | st.sampled_from(
    ('"', '"x', 'x"', "a, b", "[b]")
)


@settings(max_examples=150, deadline=None, suppress_health_check=SHARED_FOLDER)
@given(st.lists(st.tuples(st.sampled_from(("a.png", "b.jpg", "no.png", "")), CELL, CELL), max_size=8), st.booleans())
def test_every_csv_row_is_in_a_sample_or_in_a_finding(
    shop: Path, rows: list[tuple[str, str, str]], quoted: bool
) -> None:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if quoted else text

    lines = ["image,caption,season", "c.webp,sure,summer"]
    lines += [
        f"{image},row{i}{cell(caption) if not quoted else ''},{cell(season)}"
        for i, (image, caption, season) in enumerate(rows)
    ]
    data = open_data(table(shop, "\n".join(lines) + "\n"))
    left_out = {finding.where for finding in data.findings if finding.code in LEFT_OUT}
    texts = " ".join(caption.text for sample in data for caption in sample.captions)
    for i in range(len(rows)):
        assert (f"t.csv, row {i + 2}" in left_out) != (f"row{i}" in texts)


@settings(max_examples=150, deadline=None, suppress_health_check=SHARED_FOLDER)
@given(
    st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(("csv", "jsonl", "parquet")),
)
@example(b'{"image":' * 100_000, "jsonl")
@example(b'{"image": "a.png", "caption": ' + b"[" * 5000 + b"]" * 5000 + b"}", "jsonl")
@example(b"image,caption\n\0.png,x\n", "csv")
@example("image,caption\na.png,x".encode("utf-16"), "csv")
@example(b'{"image": "a.png", "season": ' + b"9" * 5000 + b"}", "jsonl")
def test_a_file_of_any_bytes_opens_or_is_refused_in_one_sentence(shop: Path, content: bytes, suffix: str) -> None:
    path = shop / f"any.{suffix}"
    path.write_bytes(content)
    with contextlib.suppress(ClerestoryError):
        assert len(open_data(path))


COLOURS = ("red", "green", "blue")
DUPLICATES = st.lists(
    st.tuples(st.sampled_from("xy"), st.sampled_from(COLOURS), st.sampled_from(("train", "test", "", "restval"))),
    min_size=1,
    max_size=8,
)


@settings(max_examples=100, deadline=None, suppress_health_check=SHARED_FOLDER)
@given(DUPLICATES, st.sampled_from(("csv", "jsonl", "parquet")))
@example([("x", "red", "restval"), ("x", "blue", "train")], "parquet")
@example([("x", "red", "restval"), ("x", "blue", "train")], "csv")
def test_whichever_row_of_an_id_counts_its_own_image_is_read(
    tmp_path: Path, own_cache: Path, rows: list[tuple[str, str, str]], source: str
) -> None:
    check_duplicates(tmp_path, rows, source)


@pytest.mark.parametrize("last", ["train", "test"])
def test_whichever_row_of_a_hugging_face_id_counts_its_own_image_is_read(
    tmp_path: Path, own_cache: Path, last: str
) -> None:
    check_duplicates(tmp_path, [("x", "red", "restval"), ("x", "blue", "train"), ("x", "green", last)], "hf")


def check_duplicates(tmp_path: Path, rows: list[tuple[str, str, str]], source: str) -> None:
    folder = tmp_path / "rows"
    folder.mkdir(exist_ok=True)
    contents = {colour: solid_image(colour) for colour in COLOURS}
    for colour, content in contents.items():
        (folder / f"{colour}.png").write_bytes(content)
    table_rows = [
        {"id": id_, "image": f"{colour}.png", "caption": f"{colour} {i}", "split": split}
        for i, (id_, colour, split) in enumerate(rows)
    ]
    table_rows.append({"id": "sure", "image": "red.png", "caption": "red sure", "split": "train"})
    data = open_data(write_rows(folder, table_rows, contents, source))
    seen: dict[str, str] = {}
    for sample in data:
        for caption in sample.captions:
            assert data.read(sample) == contents[caption.text.split()[0]]
            seen[caption.text] = sample.split
    used = {row["caption"]: row["split"] for row in table_rows if row["split"] != "restval"}
    assert seen.keys() == used.keys()
    assert all(seen[caption] == split for caption, split in used.items() if split)


def write_rows(folder: Path, rows: list[dict[str, str]], contents: dict[str, bytes], source: str) -> str | Path:
    """The same rows in one of four formats."""
    path = folder / f"t.{source}"
    with_bytes = [{**row, "image": contents[row["image"].removesuffix(".png")]} for row in rows]
    if source == "csv":
        path.write_text("\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]), encoding="utf-8")
    elif source == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    elif source == "parquet":
        pq.write_table(pa.Table.from_pylist(with_bytes), path)
    else:
        saved = folder / "hub"
        saved.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(with_bytes), saved / "data.parquet")
        return f"hf:{saved}"
    return path
