"""Tables as people and programs write them: each row is a sample, part of one, or named in a finding."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.images import solid_image
from tests.support.tables import captions, table

from clerestory.core.codec import Tags
from clerestory.core.digest import digest_bytes
from clerestory.core.errors import DataError
from clerestory.core.sample import Caption, Dataset
from clerestory.data import open_data, parquet, save_parquet
from clerestory.data.csv_lines import CsvReader

SHARED_FOLDER = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def reasons(data: Dataset, code: str) -> dict[str, str]:
    return {finding.where: finding.reason for finding in data.findings if finding.code == code}


# Quotes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "caption"),
    [
        ('b.jpg,"a 20 inch screen', "a 20 inch screen"),
        ('b.jpg,a 20" screen', 'a 20" screen'),
        ('b.jpg,"20" screen', '"20" screen'),
        ('b.jpg,"', ""),
        ('"b.jpg,a screen', "a screen"),
        ('b.jpg,"a ""20 inch"" screen"', 'a "20 inch" screen'),
        (r'b.jpg,"a \"20 inch\" screen, new"', 'a "20 inch" screen, new'),
        ('b.jpg, "a screen, 20 inch"', "a screen, 20 inch"),
        ('b.jpg,"a screen, 20 inch" ', "a screen, 20 inch"),
        ('b.jpg,"a screen\nof 20 inch, ""new"""', 'a screen of 20 inch, "new"'),
        ('b.jpg,"a screen\n\nof, 20 inch"', "a screen of, 20 inch"),
    ],
)
@pytest.mark.parametrize(
    ("following", "last"),
    [
        ("c.webp,blue\nshoes/d.png,white\n", "white"),
        ('c.webp,"blue"\nshoes/d.png,"white"\n', "white"),
        ('c.webp,"blue"\nshoes/d.png,white"\n', 'white"'),
    ],
)
def test_a_quote_never_takes_the_following_rows(shop: Path, line: str, caption: str, following: str, last: str) -> None:
    data = open_data(table(shop, f"image,caption\na.png,red\n{line}\n{following}"))
    assert captions(data) == {
        "a.png": ["red"],
        "b.jpg": [caption] if caption else [],
        "c.webp": ["blue"],
        "shoes/d.png": [last],
    }


def test_rows_and_lines_add_up(shop: Path) -> None:
    path = table(
        shop, 'image,caption\na.png,"red\nbag"\nb.jpg,"a 20 inch\nc.webp,blue\n\nshoes/d.png,"two, ""white""\nshoes"\n'
    )
    data = open_data(path)
    assert captions(data) == {
        "a.png": ["red bag"],
        "b.jpg": ["a 20 inch"],
        "c.webp": ["blue"],
        "shoes/d.png": ['two, "white" shoes'],
    }
    found = {f.reason: (f.where, f.count, f.state) for f in data.findings if f.code == "CLR-D019"}
    assert found == {"unbalanced_quote": ("t.csv, row 2", 1, "warn"), "several_lines": ("t.csv, row 1", 2, "pass")}


def test_a_cell_of_any_length_is_read(shop: Path) -> None:
    long = "red " * 100_000
    data = open_data(table(shop, f'image,caption\na.png,"{long}"\nb.jpg,"{long}\nc.webp,blue\n'))
    assert [len(sample.caption) for sample in data] == [len(long) - 1, len(long) - 1, 4]


@pytest.mark.parametrize("filler", ['x,"a', 'x","y', '"', 'x,"a"b', "x,y", '"x\\"'])
def test_many_quotes_take_a_time_proportional_to_the_lines(filler: str) -> None:
    records = list(CsvReader(["image,caption", *[filler] * 20_000]))
    assert sum(record.lines for record in records) == 20_000


TEXT = st.text(st.sampled_from("\",;\t|\\ ab'#=é["), max_size=12)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=12), st.sampled_from(",;\t|"), st.booleans())
def test_every_line_of_a_csv_is_in_exactly_one_record(
    parts: list[tuple[str, str]], delimiter: str, images: bool
) -> None:
    lines = [f"{before}token{i}.{after}" for i, (before, after) in enumerate(parts)]
    reader = CsvReader([f"image{delimiter}caption", *lines])
    reader.begins_row = lambda cells: images and len(cells) == 2
    records = list(reader)
    for i in range(len(lines)):
        assert sum(f"token{i}." in cell for record in records for cell in record.cells) == 1
    assert sum(record.lines for record in records) == len(lines)
    ends = [record.line + record.lines for record in records]
    assert [record.line for record in records][1:] == ends[:-1]


# Headers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        ",image,caption\n0,a.png,red\n1,b.jpg,green\n",
        "image,caption\n0,a.png,red\n1,b.jpg,green\n",
        '"image","my\nnote","caption"\na.png,,red\nb.jpg,,green\n',
        "Unnamed: 0,image,caption\n0,a.png,red\n1,b.jpg,green\n",
        "image,caption\na.png,red,\nb.jpg,green,,\n",
        "image,caption,\na.png,red,\nb.jpg,green,\n",
        "\n\nimage,caption\na.png,red\n\nb.jpg,green\n",
        "# exported in 2026, by a shop\n#\nimage,caption\na.png,red\nb.jpg,green\n",
        "#image,caption\na.png,red\nb.jpg,green\n",
        "sep=;\nimage;caption\na.png;red\nb.jpg;green\n",
        "\ufeffsep=,\r\nimage,caption\r\na.png,red\r\nb.jpg,green\r\n",
        "image\tcaption\na.png\tred\nb.jpg\tgreen\n",
        "image| comment\na.png| red\nb.jpg| green\n",
        "image_name| comment_number| comment\na.png| 0| red\nb.jpg| 0| green\n",
        '"image";"caption"\n"a.png";"red"\n"b.jpg";"green"\n',
        '"image, or photo","caption"\na.png,red\nb.jpg,green\n'.replace("image, or photo", "image"),
        "filepath,title\na.png,red\nb.jpg,green\n",
        " Image ,\tCaption\na.png,red\nb.jpg,green\n",
        "File Name,Alt Text\na.png,red\nb.jpg,green\n",
        "image-path,description\na.png,red\nb.jpg,green\n",
        "image,caption\ra.png,red\rb.jpg,green\r",
    ],
)
def test_a_header_is_understood_as_programs_write_it(shop: Path, text: str) -> None:
    path = shop / "t.csv"
    path.write_bytes(text.encode())
    data = open_data(path)
    assert captions(data) == {"a.png": ["red"], "b.jpg": ["green"]}
    assert not [finding for finding in data.findings if finding.severity != "info"]


def test_row_numbers_are_not_groups_and_are_named(shop: Path) -> None:
    data = open_data(table(shop, ",image,caption\n0,a.png,red\n1,b.jpg,green\n"))
    assert reasons(data, "CLR-D009") == {"Unnamed: 0": "no_name"}
    assert all("Unnamed: 0" not in sample.groups for sample in data)


def test_a_row_with_too_many_cells_is_named(shop: Path) -> None:
    data = open_data(table(shop, "image,caption\na.png,red, and blue\nb.jpg,green\n"))
    assert captions(data) == {"b.jpg": ["green"]}
    assert reasons(data, "CLR-D005") == {"t.csv, row 1": "too_many_cells"}


def test_a_table_that_is_not_utf8_names_the_line(shop: Path) -> None:
    (shop / "t.csv").write_bytes(b"image,caption\na.png,red\nb.jpg,caf\xe9\n")
    with pytest.raises(DataError, match=r"not UTF-8 text \(line 3\)"):
        open_data(shop / "t.csv")


# Columns --------------------------------------------------------------------------------------------------------------


def test_a_number_of_the_caption_is_not_a_caption(shop: Path) -> None:
    rows = "image,caption,caption_id,caption_no,text_len,caption_de\na.png,red,17,1,3,rot\nb.jpg,green,c_18,2,5,grün\n"
    data = open_data(table(shop, rows))
    assert data["a.png"].captions == (Caption("red"), Caption("rot", "de"))
    assert data["b.jpg"].captions == (Caption("green"), Caption("grün", "de"))
    assert reasons(data, "CLR-D009") == {"caption_id": "identifier", "caption_no": "identifier"}
    assert data["a.png"].groups == {"text_len": "3"}


def test_indonesian_and_norwegian_captions_are_captions(shop: Path) -> None:
    data = open_data(table(shop, "image,caption_id,caption_no\na.png,tas merah,en rød veske\nb.jpg,topi,hatt\n"))
    assert data["a.png"].captions == (Caption("tas merah", "id"), Caption("en rød veske", "no"))
    assert data["b.jpg"].captions == (Caption("topi", "id"), Caption("hatt", "no"))
    assert not reasons(data, "CLR-D009")


@pytest.mark.parametrize(
    "header",
    [
        "caption,caption",
        "caption,Caption",
        "caption,caption.1",
        "caption_1,caption_2",
        "sentence 0,sentence 1",
        "title,caption",
    ],
)
def test_all_caption_columns_count(shop: Path, header: str) -> None:
    data = open_data(table(shop, f"image,{header}\na.png,red,a red bag\n"))
    assert sorted(captions(data)["a.png"]) == ["a red bag", "red"]


def test_a_repeated_key_of_json_counts(shop: Path) -> None:
    path = table(shop, '{"image": "a.png", "caption": "red", "caption": "a red bag"}\n', "t.jsonl")
    assert captions(open_data(path)) == {"a.png": ["red", "a red bag"]}


def test_a_repeated_column_of_parquet_counts(shop: Path) -> None:
    columns = [pa.array(["a.png"]), pa.array(["red"]), pa.array(["a red bag"])]
    pq.write_table(pa.table(columns, names=["image", "caption", "caption"]), shop / "t.parquet")
    assert captions(open_data(shop / "t.parquet")) == {"a.png": ["red", "a red bag"]}
    columns[0] = pa.array([solid_image()])
    pq.write_table(pa.table(columns, names=["image", "caption", "caption"]), shop / "t.parquet")
    assert captions(open_data(shop / "t.parquet")) == {"00000000": ["red", "a red bag"]}


@pytest.mark.parametrize("caption", ["None", "NaN", "['a' 'b']", "two  blanks"])
def test_a_file_of_our_own_keeps_every_text_without_its_sidecar(shop: Path, caption: str) -> None:
    sample = replace(open_data(shop)["a.png"], captions=(Caption(caption),), groups=Tags(hat=caption))
    data = Dataset("one", [sample], open_data(shop).read)
    path = save_parquet(data, shop / "one.parquet")
    parquet.sidecar_path(path).unlink()
    again = open_data(path)
    assert again.samples == data.samples
    assert again.digest == data.digest


@pytest.mark.parametrize("header", ["image,file_name", "file_name,image", "image,path", "picture,image_path"])
@pytest.mark.parametrize("other", ["17", "17.5", "a red bag", "", "NaN"])
def test_the_column_that_names_files_is_the_image(shop: Path, header: str, other: str) -> None:
    first, second = (other, "{}") if not header.startswith("file_name") else ("{}", other)
    row = f"{first},{second}"
    rows = "\n".join(row.format(name) + ",x" for name in ("a.png", "b.jpg"))
    data = open_data(table(shop, f"{header},caption\n{rows}\n"))
    assert captions(data) == {"a.png": ["x"], "b.jpg": ["x"]}
    named = {"17": 1, "17.5": 1, "a red bag": 1}.get(other, 0)
    assert list(reasons(data, "CLR-D009").values()) == ["not_the_image"] * named


@pytest.mark.parametrize(
    "cell",
    [
        "['a red thing', 'something red']",
        "['a red thing' 'something red']",
        "['a red thing'\n 'something red']",
        '["a red thing", "something red"]',
        "[\"a red thing\", 'something red']",
        "('a red thing', 'something red')",
        "['a red thing', 'something red',]",
        "[{'text': 'a red thing'}, {'text': 'something red', 'lang': 'en'}]",
        '[["a red thing"], ["something red"]]',
        '{"en": ["a red thing", "something red"]}',
    ],
)
def test_a_list_in_a_cell_is_a_list(shop: Path, cell: str) -> None:
    quoted = cell.replace('"', '""')
    data = open_data(table(shop, f'image,caption\na.png,"{quoted}"\n'))
    expected = ["a red thing", "something red"] if not cell.startswith("{") else [cell]
    assert captions(data) == {"a.png": expected}


@pytest.mark.parametrize(
    "cell", ["[untitled]", "['a' and more", "[1, 2", "(a red thing)", "['a'] red thing", "[/b] \\d"]
)
def test_a_text_in_brackets_is_a_text(shop: Path, cell: str) -> None:
    assert captions(open_data(table(shop, f'image,caption\na.png,"{cell}"\n'))) == {"a.png": [cell]}


MISSING = ("", " ", "NaN", "nan", "None", "null", "NULL", "N/A", "NA", "#N/A", "<NA>", "NaT", "-nan")


@pytest.mark.parametrize("missing", MISSING)
def test_a_missing_text_is_missing_in_every_column(shop: Path, missing: str) -> None:
    columns = "image,caption,label,season,id,split,keywords,licence"
    rows = [f"{name},{name},{','.join([missing] * 6)}" for name in ("a.png", "b.jpg")]
    data = open_data(table(shop, "\n".join([columns, *rows, f"{missing},red,,,,,,"])))
    assert [sample.id for sample in data] == ["a.png", "b.jpg"]
    for sample in data:
        assert (sample.concept, dict(sample.groups), sample.licence) == (sample.id.replace(".", " "), {}, "")
        assert sample.captions == (Caption(sample.id),)
    assert reasons(data, "CLR-D005") == {"t.csv, row 3": "no_image"}


@pytest.mark.parametrize("missing", [None, float("nan"), "NaN", "None", [], {}])
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_missing_value_is_missing_in_every_column(shop: Path, missing: object, kind: str) -> None:
    rows = [
        {"image": name, "caption": name, "label": missing, "season": missing, "keywords": missing}
        for name in ("a.png", "b.jpg")
    ]
    path = shop / f"t.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    elif isinstance(missing, dict):
        pytest.skip("Parquet has no type for a mapping without names")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    data = open_data(path)
    assert [sample.concept for sample in data] == ["a png", "b jpg"]
    assert all(not sample.groups and sample.captions == (Caption(sample.id),) for sample in data)


def test_words_that_only_resemble_missing_values_are_kept(shop: Path) -> None:
    data = open_data(table(shop, "image,caption,hat,country\na.png,none of them,none,Nauru\n"))
    assert dict(data["a.png"].groups) == {"hat": "none", "country": "Nauru"}


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("groups", ["x", "y"], "not_a_mapping"),
        ("groups", [{"a": 1, "b": 2}], "not_a_mapping"),
        ("groups", {"a": {"b": 1}}, "not_a_mapping"),
        ("groups", 5, "not_a_mapping"),
        ("groups", "summer", "not_a_mapping"),
        ("groups", [["a"]], "not_a_mapping"),
        ("label", ["x"], "not_text"),
        ("split", {"x": 1}, "not_text"),
        ("licence", [1], "not_text"),
        ("season", [1], "not_text"),
    ],
)
def test_a_cell_of_another_type_is_named(shop: Path, column: str, value: object, reason: str) -> None:
    rows = [{"image": "a.png", "caption": "red", column: value}, {"image": "b.jpg", "caption": "green"}]
    data = open_data(table(shop, "\n".join(map(json.dumps, rows)), "t.jsonl"))
    assert captions(data) == {"a.png": ["red"], "b.jpg": ["green"]}
    assert reasons(data, "CLR-D009") == {column: reason}
    assert not data["a.png"].groups


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("keywords", 5, [Caption("5", "en", "keyword")]),
        ("keywords", ["bag", 5, None, ["x"]], [Caption("bag", "en", "keyword"), Caption("5", "en", "keyword")]),
        ("keywords", "['bag', 'hat']", [Caption("bag", "en", "keyword"), Caption("hat", "en", "keyword")]),
        ("caption", 5, [Caption("5")]),
        ("caption", True, [Caption("true")]),
        ("caption", {"de": "rot", "en": "red"}, [Caption("rot", "de"), Caption("red", "en")]),
        ("caption", {"raw": "red"}, [Caption("red")]),
        ("caption", [["red", {"text": "rot", "lang": "de"}], 5], [Caption("red"), Caption("rot", "de"), Caption("5")]),
    ],
)
def test_captions_and_keywords_of_any_type(shop: Path, column: str, value: object, expected: list[Caption]) -> None:
    data = open_data(table(shop, json.dumps({"image": "a.png", column: value}), "t.jsonl"))
    assert list(data["a.png"].captions) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": 1}, {"a": "1"}),
        ([["a", 1]], {"a": "1"}),
        ([{"key": "a", "value": 1}], {"a": "1"}),
        ("{'a': 1}", {"a": "1"}),
        ({"a": None}, {}),
    ],
)
def test_a_mapping_of_groups_has_several_forms(shop: Path, value: object, expected: dict[str, str]) -> None:
    data = open_data(table(shop, json.dumps({"image": "a.png", "groups": value}), "t.jsonl"))
    assert dict(data["a.png"].groups) == expected
    assert not reasons(data, "CLR-D009")


# Groups ---------------------------------------------------------------------------------------------------------------


def products(folder: Path, count: int) -> Path:
    lines = ["filepath,title,url,sku,price,created_at,season"]
    for i in range(count):
        (folder / f"{i}.png").write_bytes(solid_image((i, 3, 7)))
        day = f"2026-01-{i % 28 + 1:02d} 10:{i:02d}"
        season = "summer" if i % 3 else "winter"
        lines.append(f"{i}.png,bag {i},https://a.com/{i},A{i:05d},{i * 7 % 40}.9{i % 2},{day},{season}")
    return table(folder, "\n".join(lines))


@pytest.mark.parametrize("count", [6, 50])
def test_a_value_of_its_own_is_not_a_group(tmp_path: Path, own_cache: Path, count: int) -> None:
    data = open_data(products(tmp_path, count))
    assert {frozenset(sample.groups) for sample in data} == {frozenset({"season"})}
    assert set(reasons(data, "CLR-D009").values()) == {"unique_values"}
    assert set(reasons(data, "CLR-D009")) == {"url", "sku", "price", "created_at"}
    groups = next(finding for finding in data.findings if finding.code == "CLR-D008")
    assert groups.details["columns"] == ("season",)


def test_what_differs_between_the_captions_of_an_image_is_not_its_group(shop: Path) -> None:
    rows = [
        f"{name},{number},{name} {number},{season}"
        for name, season in (("a.png", "summer"), ("b.jpg", "winter"))
        for number in range(5)
    ]
    for order in (rows, rows[::-1]):
        data = open_data(table(shop, "\n".join(["image,comment_number,comment,season", *order])))
        assert {sample.id: dict(sample.groups) for sample in data} == {
            "a.png": {"season": "summer"},
            "b.jpg": {"season": "winter"},
        }
        assert reasons(data, "CLR-D009") == {"comment_number": "varies"}


def test_a_column_with_one_long_text_is_in_no_sample(shop: Path) -> None:
    data = open_data(table(shop, f"image,story\na.png,short\nb.jpg,{'long ' * 40}\nc.webp,short\n"))
    assert all("story" not in sample.groups for sample in data)


# Ids ------------------------------------------------------------------------------------------------------------------


def test_an_id_for_each_image_merges_its_captions(shop: Path) -> None:
    names = ("a.png", "b.jpg", "c.webp")
    rows = [f"{name},{number},{name} {number},{i}" for i, name in enumerate(names) for number in range(5)]
    data = open_data(table(shop, "\n".join(["image,caption_number,caption,id", *rows])))
    assert captions(data) == {str(i): [f"{name} {number}" for number in range(5)] for i, name in enumerate(names)}
    assert not [finding for finding in data.findings if finding.severity != "info"]


def test_an_id_of_different_images_is_told_apart_in_any_order(shop: Path) -> None:
    rows = ["7,a.png,red", "7,a.png,a red one", "7,b.jpg,green", "8,c.webp,blue"]
    expected = {"8": {"blue"}, "a.png/7": {"red", "a red one"}, "b.jpg/7": {"green"}}
    for order in (rows, rows[::-1]):
        data = open_data(table(shop, "\n".join(["id,image,caption", *order])))
        assert {id_: set(texts) for id_, texts in captions(data).items()} == expected
        (found,) = [finding for finding in data.findings if finding.code == "CLR-D003"]
        assert (found.count, found.details["example"]) == (1, "7")


def hub_parquet(path: Path, columns: dict[str, list[object]], names: list[str] | None = None) -> list[bytes]:
    """A Parquet file of the Hugging Face hub with as many images as the columns are long."""
    count = len(next(iter(columns.values())))
    images = [solid_image((i, 50, 9)) for i in range(count)]
    cells = [{"bytes": image, "path": name} for image, name in zip(images, names or [None] * count, strict=True)]
    pq.write_table(pa.table({"image": cells, **columns}), path)
    return images


def test_images_with_one_file_name_are_all_used(tmp_path: Path, own_cache: Path) -> None:
    images = hub_parquet(tmp_path / "t.parquet", {"text": ["0", "1", "2", "3"]}, ["image.jpg"] * 4)
    data = open_data(tmp_path / "t.parquet")
    assert sorted(data.read(sample) for sample in data) == sorted(images)
    assert {sample.id for sample in data} == {f"{digest_bytes(image)[:12]}/image.jpg" for image in images}
    assert {data.read(sample): sample.caption for sample in data} == dict(zip(images, "0123", strict=True))


def test_equal_file_names_of_different_classes_keep_their_class(tmp_path: Path, own_cache: Path) -> None:
    names = ["001.jpg", "002.jpg", "001.jpg", "003.jpg"]
    hub_parquet(tmp_path / "t.parquet", {"label": ["cat", "cat", "dog", "dog"]}, names)
    data = open_data(tmp_path / "t.parquet")
    assert [sample.id for sample in data] == ["002.jpg", "003.jpg", "cat/001.jpg", "dog/001.jpg"]


def test_ids_that_count_from_0_in_each_split_keep_every_split(tmp_path: Path, own_cache: Path) -> None:
    splits = ["train"] * 3 + ["test"] * 2
    images = hub_parquet(tmp_path / "t.parquet", {"id": [0, 1, 2, 0, 1], "split": splits})
    data = open_data(tmp_path / "t.parquet")
    assert [sample.id for sample in data] == ["2", "test/0", "test/1", "train/0", "train/1"]
    assert [sample.split for sample in data] == ["train", "test", "test", "train", "train"]
    assert data.read(data["test/1"]) == images[4]


def test_new_ids_never_hit_an_existing_one(shop: Path) -> None:
    rows = ["7,a.png,red", "7,b.jpg,green", "a.png/7,c.webp,blue", "b.jpg/7,shoes/d.png,white"]
    data = open_data(table(shop, "\n".join(["id,image,caption", *rows])))
    assert sorted(sample.caption for sample in data) == ["blue", "green", "red", "white"]
    assert {"a.png/7", "b.jpg/7"} < {sample.id for sample in data}


def test_a_row_without_a_split_belongs_to_that_of_its_image(shop: Path) -> None:
    data = open_data(table(shop, "image,caption,split\na.png,red,\na.png,a red one,test\nb.jpg,green,train\n"))
    assert [(sample.id, sample.split, len(sample.captions)) for sample in data] == [
        ("a.png", "test", 2),
        ("b.jpg", "train", 1),
    ]


def test_one_image_in_two_splits_is_a_leak(shop: Path) -> None:
    data = open_data(table(shop, "image,caption,split\na.png,red,train\na.png,a red one,test\nb.jpg,green,train\n"))
    assert [sample.id for sample in data] == ["b.jpg", "test/a.png", "train/a.png"]
    (found,) = [finding for finding in data.findings if finding.code == "CLR-D018"]
    assert (found.severity, found.count, found.details["across_splits"]) == ("warning", 1, 1)


def test_of_the_rows_of_a_task_only_equal_ones_are_one(shop: Path) -> None:
    rows = ["1,a.png,what?,red", "1,a.png,which?,red", "1,a.png,what?,red", "2,b.jpg,what?,green"]
    data = open_data(table(shop, "\n".join(["id,image,question,answer", *rows])), keep_columns=("question", "answer"))
    assert sorted((s.groups["question"], s.groups["answer"]) for s in data) == [
        ("what?", "green"),
        ("what?", "red"),
        ("which?", "red"),
    ]
    assert ("equal", 1) in {(f.reason, f.count) for f in data.findings if f.code == "CLR-D003"}


# Most rows left out ---------------------------------------------------------------------------------------------------


def test_data_of_which_most_is_left_out_has_an_error(shop: Path) -> None:
    rows = ["a.png,red"] + [f"missing{i}.png,red" for i in range(99)]
    data = open_data(table(shop, "\n".join(["image,caption", *rows])))
    found = data.findings[0]
    assert (found.code, found.severity, found.state) == ("CLR-D020", "error", "fail")
    assert (found.count, found.details["used"]) == (99, 1)
    rows = ["a.png,red", "b.jpg,green", "nowhere.png,red", ""]
    assert "CLR-D020" not in {f.code for f in open_data(table(shop, "\n".join(["image,caption", *rows]))).findings}
