"""Folders and tables as people bring them: whatever is wrong is named, kept out, and nothing breaks."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.images import solid_image

from clerestory.core.digest import digest_file
from clerestory.core.errors import DataError, InputError, IntegrityError
from clerestory.core.sample import Caption, Dataset
from clerestory.data import open_data, parquet, save_parquet


def codes(dataset: Dataset) -> list[str]:
    return sorted(finding.code for finding in dataset.findings)


def captions_csv(folder: Path, text: str) -> Path:
    path = folder / "captions.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_folder_without_captions_opens_and_says_so(shop: Path) -> None:
    data = open_data(shop)
    assert [sample.id for sample in data] == ["a.png", "b.jpg", "c.webp", "shoes/d.png"]
    assert codes(data) == ["CLR-D007"]
    assert data.findings[0].where == "4 images"
    assert data["shoes/d.png"].groups["folder"] == "shoes"
    assert data["a.png"].source == "a.png"
    assert data.read(data["a.png"]) == (shop / "a.png").read_bytes()


def test_captions_lie_in_text_files_beside_the_pictures(shop: Path) -> None:
    (shop / "a.txt").write_text("a red bag\n\n  a bag, in red \n", encoding="utf-8")
    (shop / "b.txt").write_text(" \n", encoding="utf-8")
    (shop / "c.txt").write_bytes(b"\xff\xfe\xfa")
    data = open_data(shop)
    assert [c.text for c in data["a.png"].captions] == ["a red bag", "a bag, in red"]
    assert codes(data) == ["CLR-D002", "CLR-D002", "CLR-D007"]
    assert {f.where for f in data.findings} == {"b.txt", "c.txt", "3 images"}


def test_a_captions_file_describes_the_folder(shop: Path) -> None:
    captions_csv(
        shop,
        "file_name;caption;caption_de;keywords;season;price\n"
        "a.png;red bag;rote Tasche;bag,leather;summer;19,90\n"
        "shoes\\d.png;white shoe;;shoe;;\n",
    )
    data = open_data(shop)
    assert data["a.png"].captions == (
        Caption("red bag"),
        Caption("rote Tasche", "de"),
        Caption("bag", "en", "keyword"),
        Caption("leather", "en", "keyword"),
    )
    assert data["a.png"].groups["season"] == "summer"
    assert data["a.png"].groups["price"] == "19,90"
    assert data["shoes/d.png"].caption == "white shoe"
    assert data["b.jpg"].caption == ""
    assert codes(data) == ["CLR-D007", "CLR-D008"]


def test_everything_that_can_be_wrong_with_rows_is_named(shop: Path) -> None:
    (shop / "cut.png").write_bytes(solid_image()[:40])
    (shop / "old.gif").write_bytes(b"GIF89a")
    captions_csv(
        shop,
        "id,image,caption,split\n"
        "1,a.png,red,train\n"
        "1,b.jpg,green,train\n"
        "2,nowhere.png,lost,train\n"
        "3,cut.png,cut,train\n"
        "4,,no picture,train\n"
        "5,../secret.png,outside,train\n"
        "6,c.webp,blue,sometimes\n"
        "7,shoes/d.png,,test\n"
        "8,b.jpg,green,test,too,many\n",
    )
    data = open_data(shop)
    assert [sample.id for sample in data] == ["7", "a.png/1", "b.jpg/1"]
    found = {(f.code, f.where) for f in data.findings}
    assert found == {
        ("CLR-D003", "captions.csv, row 2"),
        ("CLR-D004", "captions.csv, row 3"),
        ("CLR-D001", "captions.csv, row 4"),
        ("CLR-D005", "captions.csv, row 5"),
        ("CLR-D010", "captions.csv, row 6"),
        ("CLR-D012", "captions.csv, row 7"),
        ("CLR-D002", "captions.csv, row 8"),
        ("CLR-D005", "captions.csv, row 9"),
        ("CLR-D001", "old.gif"),
        ("CLR-D007", "7"),
        ("CLR-D020", "shop"),
    }
    assert all(f.message and f.fix for f in data.findings)
    reasons = {f.where: f.reason for f in data.findings if f.reason}
    assert reasons == {
        "captions.csv, row 4": "damaged",
        "captions.csv, row 5": "no_image",
        "captions.csv, row 8": "no_text",
        "captions.csv, row 9": "too_many_cells",
        "old.gif": "unsupported_format",
    }


def test_several_captions_of_a_picture_may_take_several_rows(shop: Path) -> None:
    path = shop / "five.csv"
    path.write_text("image,caption\na.png,red\na.png,a red thing\nb.jpg,green\na.png,red\n", encoding="utf-8")
    data = open_data(path)
    assert [c.text for c in data["a.png"].captions] == ["red", "a red thing"]
    assert len(data) == 2
    assert not data.findings


def test_json_lines(shop: Path) -> None:
    path = shop / "rows.jsonl"
    rows = [
        {"id": "x", "image": "a.png", "captions": ["red", {"text": "rot", "lang": "de"}], "groups": {"style": "flat"}},
        {"image": "b.jpg", "caption": "green", "licence": "CC0-1.0", "label": "leaf", "boxes": [1, 2]},
        {"image": str(shop / "c.webp"), "text": "blue", "source": "studio"},
    ]
    lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join([*lines, "{broken", "[1]", ""]), encoding="utf-8")
    data = open_data(path)
    assert data["x"].captions == (Caption("red"), Caption("rot", "de"))
    assert data["x"].groups["style"] == "flat"
    assert (data["b.jpg"].licence, data["b.jpg"].concept) == ("CC0-1.0", "leaf")
    assert data["c.webp"].source == "studio"
    assert codes(data) == ["CLR-D005", "CLR-D005", "CLR-D009"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"image,caption\n", "no readable image"),
        ("t.csv", b"", "no readable image"),
        ("t.csv", b"colour,caption\nred,x\n", "has no image column"),
        ("t.csv", "image,caption\na.png,caf\u00e9\n".encode("cp1252"), "not UTF-8"),
        ("t.jsonl", b"nonsense\n", "no readable image"),
        ("t.parquet", b"PAR1 not really", "cannot be read as Parquet"),
        ("t.xlsx", b"PK", "has an unknown format"),
    ],
)
def test_a_source_without_anything_readable_is_one_sentence(
    shop: Path, name: str, content: bytes, message: str
) -> None:
    (shop / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_data(shop / name)
    assert caught.value.exit_code == 2
    assert caught.value.fix


def test_an_empty_folder_and_a_wrong_name_are_one_sentence(tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no readable image"):
        open_data(tmp_path / "empty")
    with pytest.raises(DataError, match="does not exist") as caught:
        open_data("iconz")
    assert "icons" in caught.value.closest
    with pytest.raises(DataError) as caught:
        open_data(str(tmp_path / "emtpy"))
    assert caught.value.closest == (str(tmp_path / "empty"),)


def test_two_caption_files_are_one_too_many(shop: Path) -> None:
    captions_csv(shop, "image,caption\na.png,x\n")
    (shop / "metadata.jsonl").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"captions\.csv and metadata\.jsonl"):
        open_data(shop)


def test_a_link_out_of_the_folder_is_not_followed(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(solid_image("black"))
    (shop / "link.png").symlink_to(tmp_path / "secret.png")
    data = open_data(shop)
    assert "link.png" not in {sample.id for sample in data}
    assert ("CLR-D010", "link.png") in {(f.code, f.where) for f in data.findings}


ROWS = """image,caption,season
a.png,red bag,summer
b.jpg,green hat,winter
c.webp,blue cup,
shoes/d.png,white shoe,spring
"""


def test_same_content_same_digest_in_another_folder_order_and_process(shop: Path, tmp_path: Path) -> None:
    captions_csv(shop, ROWS)
    first = open_data(shop).digest
    header, *rows = ROWS.splitlines()
    for seed in range(3):
        other = tmp_path / f"copy {seed}" / "deeper"
        other.mkdir(parents=True)
        random.Random(seed).shuffle(rows)
        names = ["a.png", "b.jpg", "c.webp", "shoes/d.png"]
        random.Random(seed).shuffle(names)
        for name in names:
            (other / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(shop / name, other / name)
        captions_csv(other, "\n".join([header, *rows]))
        assert open_data(other).digest == first
    code = "import sys; from clerestory.data import open_data; print(open_data(sys.argv[1]).digest)"
    for seed in ("0", "7"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": "C"}
        run = subprocess.run(
            [sys.executable, "-c", code, "."], cwd=shop, env=environment, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == first


def test_any_change_of_content_changes_the_digest(shop: Path) -> None:
    captions_csv(shop, ROWS)
    digests = {open_data(shop).digest}
    captions_csv(shop, ROWS.replace("summer", "Summer"))
    digests.add(open_data(shop).digest)
    captions_csv(shop, ROWS.replace("green hat", "green cap"))
    digests.add(open_data(shop).digest)
    captions_csv(shop, ROWS)
    (shop / "a.png").write_bytes(solid_image("crimson"))
    digests.add(open_data(shop).digest)
    assert len(digests) == 4


def test_pictures_are_read_when_asked_for_and_checked(shop: Path) -> None:
    data = open_data(shop)
    (shop / "a.png").write_bytes(solid_image("pink"))
    with pytest.raises(IntegrityError, match=r"a\.png"):
        data.read(data["a.png"])
    (shop / "b.jpg").unlink()
    with pytest.raises(IntegrityError, match=r"b\.jpg"):
        data.read(data["b.jpg"])


def test_a_second_opening_believes_only_untouched_files(shop: Path) -> None:
    first = open_data(shop)
    stat = (shop / "a.png").stat()
    content = bytearray((shop / "a.png").read_bytes())
    content[-20] ^= 1
    (shop / "a.png").write_bytes(content)
    os.utime(shop / "a.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again = open_data(shop)
    assert "a.png" in {sample.id for sample in first}
    assert "a.png" not in {sample.id for sample in again}
    assert ("CLR-D001", "a.png") in {(f.code, f.where) for f in again.findings}


def test_splits_go_by_concept_and_by_picture(tmp_path: Path, own_cache: Path) -> None:
    rows = ["image,caption"]
    for i in range(240):
        (tmp_path / f"{i}.png").write_bytes(solid_image((i, 10, 7)))
        rows.append(f"{i}.png,Thing number {i % 80}!" if i % 2 else f"{i}.png,thing  NUMBER {i % 80}")
    (tmp_path / "twin.png").write_bytes(solid_image((0, 10, 7)))
    rows.append("twin.png,something else entirely")
    data = open_data(captions_csv(tmp_path, "\n".join(rows)))
    sides: dict[str, set[str]] = {}
    for sample in data:
        sides.setdefault(sample.concept, set()).add(sample.split)
        sides.setdefault(sample.image, set()).add(sample.split)
    assert all(len(splits) == 1 for splits in sides.values())
    assert {sample.split for sample in data} == {"train", "val", "test"}


def test_given_splits_are_kept_and_a_leak_is_named(shop: Path) -> None:
    captions_csv(shop, "image,concept,split\na.png,bag,train\nb.jpg,bag,validation\nc.webp,cup,test\n")
    data = open_data(shop / "captions.csv")
    assert [sample.split for sample in data] == ["train", "val", "test"]
    assert ("CLR-D011", "bag") in {(f.code, f.where) for f in data.findings}


def test_saved_parquet_opens_with_the_same_digest_with_and_without_its_sidecar(shop: Path, tmp_path: Path) -> None:
    captions_csv(shop, ROWS)
    data = open_data(shop)
    path = save_parquet(data, tmp_path / "mine")
    assert path.name == "mine.parquet"
    again = open_data(path)
    assert again.digest == data.digest
    assert again.samples == data.samples
    assert again.findings == data.findings
    parquet.sidecar_path(path).unlink()
    scanned = open_data(path)
    assert scanned.digest == data.digest
    assert {s.id: scanned.read(s) for s in scanned} == {s.id: data.read(s) for s in data}


def test_a_file_of_the_first_layout_still_opens(shop: Path, tmp_path: Path) -> None:
    data = open_data(shop)
    path = save_parquet(data, tmp_path / "one.parquet")
    table = pq.read_table(path)
    names = ["picture" if name == "image" else name for name in table.column_names]
    first = table.rename_columns(names).replace_schema_metadata({b"layout": b"clerestory.samples.1"})
    pq.write_table(first, path)
    again = open_data(path)
    assert again.digest == data.digest
    assert {s.id: again.read(s) for s in again} == {s.id: data.read(s) for s in data}
    shutil.copyfile(path, tmp_path / "two.parquet")
    sidecar = json.loads(parquet.sidecar_path(path).read_text(encoding="utf-8")) | {"sha256": digest_file(path)}
    parquet.sidecar_path(tmp_path / "two.parquet").write_text(json.dumps(sidecar), encoding="utf-8")
    again = parquet.open_dataset(tmp_path / "two.parquet")
    assert {s.id: again.read(s) for s in again} == {s.id: data.read(s) for s in data}


def test_a_sidecar_of_another_file_is_not_trusted(shop: Path, tmp_path: Path) -> None:
    one = save_parquet(open_data(shop), tmp_path / "one.parquet")
    (shop / "e.png").write_bytes(solid_image("orange"))
    more = open_data(shop)
    two = save_parquet(more, tmp_path / "two.parquet")
    shutil.copyfile(two, one)
    with pytest.raises(IntegrityError, match=r"one\.parquet"):
        parquet.open_dataset(one)
    assert open_data(one).digest == more.digest
    parquet.sidecar_path(one).write_text('{"surprise": 1}', encoding="utf-8")
    assert open_data(one).digest == more.digest


def test_a_picture_that_is_not_what_its_column_says_is_kept_out(shop: Path, tmp_path: Path) -> None:
    path = save_parquet(open_data(shop), tmp_path / "one.parquet")
    table = pq.read_table(path).to_pylist()
    table[0]["image"] = solid_image("pink")
    pq.write_table(pa.Table.from_pylist(table, schema=parquet.own_schema()), path)
    data = open_data(path)
    assert len(data) == 3
    assert "CLR-D001" in codes(data)


@pytest.mark.parametrize("nested", [True, False])
def test_parquet_as_others_write_it(shop: Path, tmp_path: Path, nested: bool) -> None:
    pictures = {name: (shop / name).read_bytes() for name in ("a.png", "b.jpg", "c.webp")}
    pictures |= {"cut.png": pictures["a.png"][:30], "none.png": None}
    cells = [{"bytes": b, "path": n} if nested else b for n, b in pictures.items()]
    columns = {"image": cells, "text": ["red", "green", "", "x", "y"], "colour": ["r", "g", None, "x", "y"]}
    path = tmp_path / "hub.parquet"
    if nested:
        cells[-1] = {"bytes": None, "path": "none.png"}
    pq.write_table(pa.table(columns), path, row_group_size=2)
    data = open_data(path)
    assert [s.id for s in data] == (["a.png", "b.jpg", "c.webp"] if nested else ["00000000", "00000001", "00000002"])
    assert [data.read(s) for s in data] == [pictures[n] for n in ("a.png", "b.jpg", "c.webp")]
    assert data.samples[0].groups["colour"] == "r"
    assert codes(data) == ["CLR-D001", "CLR-D002", "CLR-D005", "CLR-D007", "CLR-D008"]


def test_parquet_may_name_files(shop: Path) -> None:
    pq.write_table(
        pa.table({"path": ["a.png", "shoes/d.png", "no.png"], "caption": ["x", "y", "z"]}), shop / "n.parquet"
    )
    data = open_data(shop / "n.parquet")
    assert [s.id for s in data] == ["a.png", "shoes/d.png"]
    assert codes(data) == ["CLR-D004"]


def test_parquet_without_pictures_is_one_sentence(tmp_path: Path, own_cache: Path) -> None:
    pq.write_table(pa.table({"n": [1]}), tmp_path / "n.parquet")
    with pytest.raises(DataError, match="has no image column"):
        open_data(tmp_path / "n.parquet")


def test_of_a_large_parquet_only_a_few_row_groups_are_held(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "CACHE_BYTES", 1000)
    pictures = [solid_image((i, 0, 0)) for i in range(40)]
    pq.write_table(
        pa.table({"image": pictures, "caption": [str(i) for i in range(40)]}), tmp_path / "p.parquet", row_group_size=2
    )
    images = parquet.ParquetImages(tmp_path / "p.parquet", "image")
    order = list(range(40))
    random.Random(1).shuffle(order)
    for row in order:
        assert images.read_row(row) == pictures[row]
        assert len(images._groups) <= 4


def test_a_file_may_be_replaced_while_it_is_open(shop: Path, tmp_path: Path) -> None:
    data = open_data(shop)
    path = save_parquet(data, tmp_path / "one.parquet")
    open_before = open_data(path)
    (shop / "z.png").write_bytes(solid_image("olive"))
    with pytest.raises(InputError, match="already exists"):
        save_parquet(open_data(shop), path)
    save_parquet(open_data(shop), path, force=True)
    assert [open_before.read(s) for s in open_before] == [data.read(s) for s in data]


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
COLUMNS = ("id", "image", "caption", "split", "x", "groups")
KEPT_OUT = {"CLR-D001", "CLR-D003", "CLR-D004", "CLR-D005", "CLR-D010", "CLR-D012"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(COLUMNS, CELL)), max_size=5))
def test_no_table_ever_crashes_or_loses_a_row_in_silence(shop: Path, rows: list[dict[str, str]]) -> None:
    lines = [json.dumps(row) + "\n" for row in [{"id": "sure", "image": "a.png"}, *rows]]
    (shop / "t.jsonl").write_text("".join(lines), encoding="utf-8")
    data = open_data(shop / "t.jsonl")
    assert data["sure"].image
    named = [row for row in rows if row.get("id", "").strip()]
    assert len(data) + sum(f.code in KEPT_OUT for f in data.findings) >= 1 + len(named)


def test_csv_cells_may_hold_anything(shop: Path) -> None:
    out = io.StringIO('﻿image,caption\r\n"a.png","two\r\nlines, and a ""quote"""\r\n')
    (shop / "q.csv").write_text(out.getvalue(), encoding="utf-8", newline="")
    assert open_data(shop / "q.csv")["a.png"].caption == 'two lines, and a "quote"'
