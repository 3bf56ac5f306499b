"""Known layouts of images and captions open as they were delivered, in one call, with nothing left out in silence."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.images import solid_image

from clerestory.core.errors import DataError
from clerestory.core.sample import Caption, Dataset
from clerestory.data import open_data

Tree = Mapping[str, str | bytes]


@pytest.fixture
def root(tmp_path: Path, own_cache: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def write(root: Path, tree: Tree) -> Path:
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def images(*names: str) -> dict[str, bytes]:
    return {name: solid_image((37 * i % 256, i // 7, 50), (16, 12), "JPEG") for i, name in enumerate(names)}


def captions(data: Dataset) -> dict[str, list[str]]:
    return {sample.id: [c.text for c in sample.captions if c.kind == "name"] for sample in data}


def found(data: Dataset) -> list[tuple[str, str]]:
    return sorted((f.code, f.reason) for f in data.findings)


NAMES = ("1000268201_693b08cb0e.jpg", "1001773457_577c3a7d70.jpg")
FLICKR = {f"Images/{name}": [f"caption {i}, of {name} ." for i in range(5)] for name in NAMES}


def test_flickr8k_as_kaggle_delivers_it(root: Path) -> None:
    rows = [f'{file[7:]},"{text}"' for file, texts in FLICKR.items() for text in texts]
    write(root, images(*FLICKR) | {"captions.txt": "\n".join(["image,caption", *rows])})
    data = open_data(root)
    assert captions(data) == FLICKR
    assert found(data) == [("CLR-D017", "")]
    assert data.findings[0].details.text("folder") == "Images"


def test_flickr8k_of_the_university_with_its_split_lists(root: Path) -> None:
    tokens = "\n".join(f"{file[7:]}#{i}\t{text}" for file, texts in FLICKR.items() for i, text in enumerate(texts))
    write(
        root,
        images(*FLICKR)
        | {
            "Flickr8k.token.txt": tokens,
            "Flickr8k.lemma.token.txt": tokens.replace("caption", "caption be"),
            "Flickr_8k.trainImages.txt": f"{NAMES[0]}\n",
            "Flickr_8k.testImages.txt": f"{NAMES[1]}\n",
            "CrowdFlowerAnnotations.txt": f"{NAMES[0]}\t{NAMES[1]}#2\t0.0\t0\t3\n",
            "readme.txt": "The captions of Flickr8k.\n",
        },
    )
    data = open_data(root)
    assert captions(data) == FLICKR
    assert [sample.split for sample in data] == ["train", "test"]
    unread = {f.where: f.reason for f in data.findings if f.code == "CLR-D014"}
    assert unread == {"Flickr8k.lemma.token.txt": "another_table"}
    (rest,) = (f.details.string_items("files") for f in data.findings if f.reason == "no_image")
    assert rest == ("CrowdFlowerAnnotations.txt", "readme.txt")


COCO = {
    "images": [{"id": 9, "file_name": "000009.jpg", "license": 3}, {"id": 25, "file_name": "000025.jpg"}],
    "licenses": [{"id": 3, "name": "CC-BY-4.0"}],
}
COCO_CAPTIONS = COCO | {
    "annotations": [
        {"id": 1, "image_id": 9, "caption": "a red\n tile"},
        {"id": 2, "image_id": 9, "caption": "one tile"},
        {"id": 3, "image_id": 25, "caption": "another tile"},
        {"id": 4, "image_id": 404, "caption": "of no image"},
    ]
}
COCO_INSTANCES = COCO | {
    "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
    "annotations": [
        {"id": i, "image_id": 9, "category_id": c, "bbox": [0, 0, 1, 1]} for i, c in enumerate([18, 1, 18])
    ],
}


@pytest.mark.parametrize("opened", ["folder", "file"])
def test_coco(root: Path, opened: str) -> None:
    write(
        root,
        images("val2017/000009.jpg", "val2017/000025.jpg")
        | {
            "annotations/captions_val2017.json": json.dumps(COCO_CAPTIONS),
            "annotations/instances_val2017.json": json.dumps(COCO_INSTANCES),
        },
    )
    data = open_data(root if opened == "folder" else root / "annotations" / "captions_val2017.json")
    assert captions(data) == {
        "val2017/000009.jpg": ["a red tile", "one tile"],
        "val2017/000025.jpg": ["another tile"],
    }
    assert {sample.split for sample in data} == {"val"}
    assert data["val2017/000009.jpg"].licence == "CC-BY-4.0"
    keywords = [c.text for c in data["val2017/000009.jpg"].captions if c.kind == "keyword"]
    assert keywords == (["dog", "person"] if opened == "folder" else [])
    assert [f.where for f in data.findings if f.code == "CLR-D005"] == ["captions_val2017.json, annotation 4"]


def test_coco_instances_alone_are_keywords_and_both_splits_are_kept(root: Path) -> None:
    files = {
        f"{split}2014/00000{i}.jpg": split for split, numbers in (("train", (1, 2)), ("val", (3,))) for i in numbers
    }
    tree: dict[str, str | bytes] = dict(images(*files))
    for split in ("train", "val"):
        ids = [i for i, name in enumerate(files) if files[name] == split]
        table = {
            "images": [{"id": i, "file_name": list(files)[i].partition("/")[2]} for i in ids],
            "annotations": [{"image_id": i, "category_id": 7} for i in ids],
            "categories": [{"id": 7, "name": "train"}],
        }
        tree[f"annotations/instances_{split}2014.json"] = json.dumps(table)
    data = open_data(write(root, tree))
    assert {sample.id: sample.split for sample in data} == files
    assert all(sample.captions == (Caption("train", "en", "keyword"),) for sample in data)


def test_karpathys_splits(root: Path) -> None:
    entries = [
        {"filename": f"{i}.jpg", "filepath": "val2014", "split": split, "sentences": [{"raw": f"tile {i}"}]}
        for i, split in enumerate(("train", "restval", "val", "test"))
    ]
    tree = images(*(f"images/val2014/{i}.jpg" for i in range(4)))
    data = open_data(write(root, tree | {"dataset_coco.json": json.dumps({"images": entries, "dataset": "coco"})}))
    assert [sample.split for sample in data] == ["train", "train", "val", "test"]
    assert [sample.caption for sample in data] == [f"tile {i}" for i in range(4)]


@pytest.mark.parametrize(
    "table",
    [
        [{"image": "a.jpg", "caption": ["red", "a red tile"]}, {"image": "b.jpg", "caption": "blue"}],
        {"a.jpg": ["red", "a red tile"], "b.jpg": "blue"},
        {"a.jpg": {"captions": ["red", "a red tile"]}, "b.jpg": {"caption": "blue"}},
        {
            "version": 1,
            "data": [{"file_name": "a.jpg", "text": ["red", "a red tile"]}, {"file_name": "b.jpg", "text": "blue"}],
        },
    ],
    ids=["list", "mapping", "mapping of records", "list in a record"],
)
@pytest.mark.parametrize("folder", ["", "images/"])
def test_json_in_any_of_its_shapes(root: Path, table: object, folder: str) -> None:
    data = open_data(write(root, images(f"{folder}a.jpg", f"{folder}b.jpg") | {"labels.json": json.dumps(table)}))
    assert captions(data) == {f"{folder}a.jpg": ["red", "a red tile"], f"{folder}b.jpg": ["blue"]}


ROWS = (("a.jpg", "a red tile"), ("sub/b.jpg", "a blue, round tile"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("products.csv", 'image,caption\na.jpg,a red tile\nsub/b.jpg,"a blue, round tile"\n'),
        ("Captions.CSV", 'image,caption\na.jpg,a red tile\nsub/b.jpg,"a blue, round tile"\n'),
        ("train.tsv", "filepath\ttitle\na.jpg\ta red tile\nsub/b.jpg\ta blue, round tile\n"),
        ("list.txt", "a.jpg\ta red tile\nsub/b.jpg\ta blue, round tile\n"),
        ("list.csv", 'a.jpg,a red tile\nsub/b.jpg,"a blue, round tile"\n'),
        (
            "results.csv",
            "image_name| comment_number| comment\na.jpg| 0| a red tile\nsub/b.jpg| 0| a blue, round tile\n",
        ),
        ("rows.ndjson", "\n".join(json.dumps({"image": i, "text": t}) for i, t in ROWS)),
        ("rows.json", "\n".join(json.dumps({"image": i, "text": t}) for i, t in ROWS)),
        ("sub/labels.csv", 'image,caption\n../a.jpg,a red tile\nb.jpg,"a blue, round tile"\n'),
        (
            "other/place/x.csv",
            'image,caption\nC:\\me\\pics\\a.jpg,a red tile\n/kaggle/input/sub/b.jpg,"a blue, round tile"\n',
        ),
    ],
)
def test_a_table_under_any_name_describes_its_folder(root: Path, name: str, content: str) -> None:
    data = open_data(write(root, images(*(file for file, _ in ROWS)) | {name: content}))
    assert captions(data) == {file: [text] for file, text in ROWS}
    assert {f.code for f in data.findings} <= {"CLR-D017", "CLR-D008", "CLR-D009"}


def test_parquet_with_names_in_a_folder_of_images(root: Path) -> None:
    write(root, images(*(file for file, _ in ROWS)))
    pq.write_table(
        pa.table({"file_name": [f for f, _ in ROWS], "text": [t for _, t in ROWS]}), root / "metadata.parquet"
    )
    assert captions(open_data(root)) == {file: [text] for file, text in ROWS}


def test_a_table_in_each_folder_and_a_table_for_each_split(root: Path) -> None:
    tree: dict[str, str | bytes] = dict(images("train/a.jpg", "train/b.jpg", "test/a.jpg", "pool/c.jpg"))
    tree["train/metadata.csv"] = "file_name,text\na.jpg,red\nb.jpg,green\n"
    tree["test/metadata.jsonl"] = json.dumps({"file_name": "a.jpg", "text": "blue"})
    data = open_data(write(root, tree))
    assert captions(data) == {
        "train/a.jpg": ["red"],
        "train/b.jpg": ["green"],
        "test/a.jpg": ["blue"],
        "pool/c.jpg": [],
    }
    assert data["test/a.jpg"].split == "test"


def test_tables_named_after_splits_give_the_splits(root: Path) -> None:
    tree: dict[str, str | bytes] = dict(images("images/a.jpg", "images/b.jpg", "images/c.jpg"))
    for split, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        tree[f"{split}.csv"] = f"image,caption\n{name}.jpg,tile {name}\n"
    assert [sample.split for sample in open_data(write(root, tree))] == ["train", "val", "test"]


def test_an_image_gets_its_captions_from_one_table_and_the_other_is_named(root: Path) -> None:
    tree = images("a.jpg", "b.jpg") | {
        "captions.csv": "image,caption\na.jpg,red\n",
        "predictions.csv": "image,caption\na.jpg,a hat\nb.jpg,a hat\n",
        "x/captions_old.csv": "image,caption\na.jpg,old\n",
        "sizes.csv": "width,height\n3,4\n",
        "stock.xlsx": b"PK\x03\x04",
    }
    data = open_data(write(root, tree))
    assert captions(data) == {"a.jpg": ["red"], "b.jpg": []}
    unread = {f.where: f.reason for f in data.findings if f.code == "CLR-D014"}
    assert unread == {
        "predictions.csv": "another_table",
        "x/captions_old.csv": "another_table",
        "sizes.csv": "another_table",
        "stock.xlsx": "unreadable",
    }


def test_a_table_that_fits_nothing_is_named(root: Path) -> None:
    tree = images("a.jpg") | {
        "prices.csv": "image,caption\nz.jpg,lost\n",
        "boxes.csv": "image,x,y\na.jpg,1,2\n",
        "latin.csv": "image,caption\na.jpg,caf\xe9\n".encode("cp1252"),
    }
    unread = {f.where: f.reason for f in open_data(write(root, tree)).findings if f.code == "CLR-D014"}
    assert unread == {"prices.csv": "no_match", "boxes.csv": "no_captions", "latin.csv": "unreadable"}


@pytest.mark.parametrize("wrapper", ["", "archive/", "images/"])
@pytest.mark.parametrize(
    "splits", [("train", "val", "test"), ("seg_train", "valid_set", "Test"), ("train2017", "dev", "testing")]
)
def test_image_folders_keep_their_splits_and_classes(root: Path, wrapper: str, splits: tuple[str, ...]) -> None:
    files = [f"{wrapper}{split}/{label}/{i}.jpg" for split in splits for label in ("cat", "dog") for i in range(2)]
    data = open_data(write(root, images(*files)))
    standard = dict(zip(splits, ("train", "val", "test"), strict=True))
    assert {sample.id: sample.split for sample in data} == {file: standard[file.split("/")[-3]] for file in files}
    assert {sample.id: sample.groups["class"] for sample in data} == {file: file.split("/")[-2] for file in files}
    assert not [f for f in data.findings if f.code == "CLR-D011"]


def test_classes_without_splits_are_split_by_concept(root: Path) -> None:
    data = open_data(write(root, images(*(f"{label}/{i}.jpg" for label in ("cat", "dog") for i in range(30)))))
    assert {sample.split for sample in data} == {"train", "val", "test"}
    assert {sample.groups["folder"] for sample in data} == {"cat", "dog"}


def test_a_folder_with_train_only_is_split_so_that_there_is_something_to_test_on(root: Path) -> None:
    data = open_data(write(root, images(*(f"train/{label}/{i}.jpg" for label in ("cat", "dog") for i in range(30)))))
    assert {sample.split for sample in data} == {"train", "val", "test"}
    assert {sample.groups["class"] for sample in data} == {"cat", "dog"}


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet", "json"])
@pytest.mark.parametrize("column", ["url", "URL", "image_url"])
@pytest.mark.parametrize("opened", ["file", "folder"])
def test_urls_are_not_downloaded_and_the_command_that_does_is_named(
    root: Path, form: str, column: str, opened: str
) -> None:
    path = root / f"laion.{form}"
    rows = [{column: f"https://example.com/{i}.jpg", "TEXT": "a tile"} for i in range(3)]
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif form in ("json", "jsonl"):
        path.write_text(json.dumps(rows) if form == "json" else "\n".join(map(json.dumps, rows)), encoding="utf-8")
    else:
        mark = {"csv": ",", "tsv": "\t"}[form]
        path.write_text(
            "\n".join(mark.join(row) for row in [rows[0].keys(), *(r.values() for r in rows)]), encoding="utf-8"
        )
    with pytest.raises(
        DataError, match=r"URLs instead of image files, such as 'https://example.com/0.jpg'.*not downloaded"
    ) as caught:
        open_data(path if opened == "file" else root)
    assert (
        f"img2dataset --url_list {path} --input_format {form} --url_col {column} --caption_col TEXT" in caught.value.fix
    )


def test_rows_with_urls_among_files_are_counted(root: Path) -> None:
    rows = (
        "image,caption\na.jpg,red\nhttps://example.com/b.jpg,blue\n//cdn.example.com/c.jpg,green\ns3://bucket/d.jpg,x\n"
    )
    data = open_data(write(root, images("a.jpg") | {"captions.csv": rows}))
    (finding,) = (f for f in data.findings if f.code == "CLR-D016")
    assert (finding.count, finding.details.text("example")) == (3, "https://example.com/b.jpg")


def test_what_img2dataset_writes_opens(root: Path) -> None:
    tree: dict[str, str | bytes] = dict(images("00000/000000000.jpg", "00000/000000001.jpg"))
    for i in range(2):
        record = {
            "caption": f"tile {i}",
            "url": "https://x",
            "key": f"{i:09d}",
            "status": "success",
            "sha256": "0" * 64,
        }
        tree[f"00000/{i:09d}.txt"] = f"tile {i}"
        tree[f"00000/{i:09d}.json"] = json.dumps(record | {"width": 9, "height": 7})
    tree["00000_stats.json"] = json.dumps({"count": 2, "successes": 2})
    write(root, tree)
    rows = [{"url": f"https://example.com/{i}.jpg", "caption": f"tile {i}", "key": f"{i:09d}"} for i in range(9)]
    pq.write_table(pa.Table.from_pylist(rows), root / "00000.parquet")
    data = open_data(root)
    assert [sample.caption for sample in data] == ["tile 0", "tile 1"]
    assert [f.details.string_items("files") for f in data.findings if f.reason == "sidecar"] == [
        ("00000/000000000.json", "00000/000000001.json")
    ]
    assert {f.where: f.reason for f in data.findings if f.code == "CLR-D014"} == {
        "00000_stats.json": "unreadable",
        "00000.parquet": "no_match",
    }
    assert not [f for f in data.findings if f.severity == "error"]


def test_conceptual_captions_has_urls_and_no_header(root: Path) -> None:
    path = root / "Train_GCC-training.tsv"
    path.write_text(
        "a very, very nice bag\thttp://example.com/1.jpg?w=3\na hat\thttps://example.com/2\n", encoding="utf-8"
    )
    with pytest.raises(DataError, match=r"URLs instead of image files, such as 'http://example.com/1.jpg\?w=3'"):
        open_data(root)


JPEG = solid_image("red", kind="JPEG")


@pytest.mark.parametrize(
    "name", ["a.jfif", "a.jpe", "a", "a.bmp", "a.JPG", "a.txt", "a.gif", "a.data", "a.b.c", "a.png"]
)
def test_the_content_decides_what_is_an_image(root: Path, name: str) -> None:
    data = open_data(write(root, {name: JPEG}))
    assert [sample.id for sample in data] == [name]
    assert data.read(data[name]) == JPEG


@pytest.mark.parametrize("text", ["a.txt", "a.TXT", "a.jpg.txt", "a.JPG.TXT", "a.caption"])
def test_captions_lie_beside_the_image_under_several_names(root: Path, text: str) -> None:
    image = "a.JPG" if text.startswith("a.JPG") else "a.jpg"
    data = open_data(write(root, {image: JPEG, text: "a red tile\n"}))
    assert captions(data) == {image: ["a red tile"]}
    assert not data.findings


def test_bounding_boxes_are_not_captions(root: Path) -> None:
    data = open_data(
        write(root, images("a.jpg", "b.jpg") | {"a.txt": "0 0.5 0.5 0.2 0.3\n17 0.1 0.1 5e-2 0.1\n", "b.txt": "42"})
    )
    assert captions(data) == {"a.jpg": [], "b.jpg": ["42"]}


@pytest.mark.parametrize(
    ("file", "row"),
    [
        ("Screenshot 2024-05-01 at 9.41.00\u202fAM.png", "Screenshot 2024-05-01 at 9.41.00 AM.png"),
        ("a  b.png", "a b.png"),
        ("a b.png", "a  b.png"),
        ("cafe\u0301.png", "caf\u00e9.png"),
        ("caf\u00e9.png", "cafe\u0301.png"),
        ("IMG_1.PNG", "img_1.png"),
        ("Sub Folder/IMG_1.PNG", "sub folder\\img_1.png"),
        ("1163.png", "1163"),
        ("a.png", "./sub/../a.png"),
        ("a.png", "a.png#3"),
        ("a#1.png", "a#1.png"),
    ],
)
def test_a_name_that_looks_the_same_finds_its_file(root: Path, file: str, row: str) -> None:
    data = open_data(write(root, {file: solid_image(), "captions.csv": f"image,caption\n{row},a red tile\n"}))
    assert captions(data) == {file: ["a red tile"]}


def test_a_name_is_taken_exactly_if_it_exists(root: Path) -> None:
    names = ["a b.png", "a  b.png", "A b.png", "a b"]
    rows = "".join(f'"{name}",{i}\n' for i, name in enumerate(names))
    tree = {name: solid_image((i, 0, 0)) for i, name in enumerate(names)}
    data = open_data(write(root, tree | {"captions.csv": f"image,caption\n{rows}"}))
    assert captions(data) == {name: [str(i)] for i, name in enumerate(names)}


def test_an_ambiguous_name_is_missing_and_the_closest_one_is_suggested(root: Path) -> None:
    rows = "image,caption\nA.png,x\nshoe-red.jpg,y\n"
    tree = images("a.PNG", "a.png", "shoe_red.jpg") | {"captions.csv": rows}
    fixes = {f.where: f.fix for f in open_data(write(root, tree)).findings if f.code == "CLR-D004"}
    assert set(fixes) == {"captions.csv, row 1", "captions.csv, row 2"}
    assert "'shoe_red.jpg'" in fixes["captions.csv, row 2"]


def test_a_folder_of_a_download_of_the_hub_may_link_to_its_blobs(tmp_path: Path, own_cache: Path) -> None:
    repository = tmp_path / "hub" / "datasets--org--name"
    snapshot = repository / "snapshots" / "0123abcd"
    (repository / "blobs").mkdir(parents=True)
    (snapshot / "images").mkdir(parents=True)
    (repository / "blobs" / "77aa").write_bytes(JPEG)
    (snapshot / "images" / "a.jpg").symlink_to(Path("../../../blobs/77aa"))
    (snapshot / "images" / "secret.jpg").symlink_to("/etc/passwd")
    data = open_data(snapshot)
    assert [sample.id for sample in data] == ["images/a.jpg"]
    assert [f.where for f in data.findings if f.code == "CLR-D010"] == ["images/secret.jpg"]


def test_nothing_is_read_through_a_link_out_of_the_folder(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("the secret\n", encoding="utf-8")
    (tmp_path / "secret.csv").write_text("image,caption\na.jpg,the secret\n", encoding="utf-8")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.jpg").write_bytes(JPEG)
    write(root, {"a.jpg": JPEG, "rows.csv": "image,caption\nmore/b.jpg,x\n"})
    for link, target in {
        "a.txt": "secret.txt",
        "captions.csv": "secret.csv",
        "a.json": "secret.txt",
        "more": "more",
    }.items():
        (root / link).symlink_to(tmp_path / target)
    data = open_data(root)
    assert captions(data) == {"a.jpg": []}
    assert "the secret" not in repr(data.findings)
    assert {f.where for f in data.findings if f.code == "CLR-D010"} == {"a.txt", "captions.csv", "a.json", "more"}


def test_links_within_the_folder(root: Path) -> None:
    write(root, {"x/a.jpg": JPEG})
    os.symlink("x/a.jpg", root / "b.jpg")
    os.symlink("x", root / "y")
    os.symlink("loop", root / "loop")
    os.symlink("nowhere.jpg", root / "c.jpg")
    data = open_data(root)
    assert [sample.id for sample in data] == ["b.jpg", "x/a.jpg"]
    named = {f.reason: f.details.string_items("files") for f in data.findings if f.code == "CLR-D013"}
    assert named == {"link_within": ("y",), "broken_link": ("c.jpg", "loop")}
