"""WebDataset archives, folders of Parquet and saved Hugging Face datasets open by their folder's name."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.images import solid_image

from clerestory.core.digest import digest_bytes
from clerestory.core.errors import DataError, IntegrityError
from clerestory.core.sample import Caption, Dataset
from clerestory.data import open_data, webdataset
from clerestory.data.shards import write_shards

COLOURS = ("red", "green", "blue", "white")


@pytest.fixture
def root(tmp_path: Path, own_cache: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def tar(path: Path, files: dict[str, bytes | str], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def read_all(data: Dataset) -> dict[str, bytes]:
    contents = {sample.id: data.read(sample) for sample in data}
    assert all(digest_bytes(contents[sample.id]) == sample.image for sample in data)
    return contents


def test_an_archive_of_webdataset_opens(root: Path) -> None:
    files: dict[str, bytes | str] = {}
    for i, colour in enumerate(COLOURS):
        files |= {f"{i:04d}.jpg": solid_image(colour, kind="JPEG"), f"{i:04d}.txt": f"a {colour} tile\na tile"}
        record = {"caption": f"a {colour} tile", "license": "CC0-1.0", "width": 24, "sha256": "0" * 64}
        files |= {f"{i:04d}.json": json.dumps(record), f"{i:04d}.cls": str(i)}
    data = open_data(tar(root / "tiles.tar", files))
    assert [sample.id for sample in data] == [f"{i:04d}.jpg" for i in range(4)]
    assert [c.text for c in data["0002.jpg"].captions] == ["a blue tile", "a tile"]
    assert {(sample.licence, sample.groups["class"]) for sample in data} == {("CC0-1.0", str(i)) for i in range(4)}
    assert read_all(data) == {name: content for name, content in files.items() if name.endswith(".jpg")}
    assert not data.findings


def test_a_folder_of_archives_gives_splits_and_names_what_lies_beside_them(root: Path) -> None:
    for split, colour in (("train", "red"), ("val", "green"), ("test", "blue")):
        tar(root / f"set-{split}-000000.tar", {"000.png": solid_image(colour), "000.txt": colour})
        (root / f"set-{split}-000000_stats.json").write_text("{}", encoding="utf-8")
    (root / "README.md").write_text("tiles", encoding="utf-8")
    data = open_data(root)
    assert {sample.id: (sample.split, sample.caption) for sample in data} == {
        "set-test-000000/000.png": ("test", "blue"),
        "set-train-000000/000.png": ("train", "red"),
        "set-val-000000/000.png": ("val", "green"),
    }
    named = [file for finding in data.findings for file in finding.details.string_items("files")]
    assert sorted(named) == ["README.md", *(f"set-{s}-000000_stats.json" for s in ("test", "train", "val"))]


def test_everything_in_an_archive_is_a_sample_part_of_one_or_named(root: Path) -> None:
    path = tar(
        root / "odd.tar",
        {
            "a/1.jpg": solid_image("red", kind="JPEG"),
            "a/1.depth.npy": b"\x93NUMPY",
            "b/1.jpg": solid_image("blue", kind="JPEG"),
            "b/1.txt": "blue",
            "b/cut.png": solid_image()[:40],
            "c/alone.txt": "no image",
            "c/bad.jpg": solid_image("green", kind="JPEG"),
            "c/bad.json": "{nonsense",
            "__MACOSX/a/._1.jpg": b"x",
            "caf\udce9.jpg": solid_image("white", kind="JPEG"),
            "2.left.jpg": solid_image("black", kind="JPEG"),
            "2.right.jpg": solid_image("pink", kind="JPEG"),
            "2.txt": "a pair",
        },
    )
    data = open_data(path)
    assert {sample.id: sample.caption for sample in data} == {
        "2.left.jpg": "a pair",
        "2.right.jpg": "a pair",
        "a/1.jpg": "",
        "b/1.jpg": "blue",
        "c/bad.jpg": "",
        "caf\\xe9.jpg": "",
    }
    read_all(data)
    named = {file for finding in data.findings for file in finding.details.string_items("files")}
    assert named == {"a/1.depth.npy", "c/alone.txt", "c/bad.json", "__MACOSX/a/._1.jpg"}
    assert "b/cut.png" in {finding.where for finding in data.findings if finding.code == "CLR-D001"}


def test_a_damaged_archive_keeps_what_can_be_read(root: Path) -> None:
    files: dict[str, bytes | str] = {f"{i}.png": solid_image(colour, (200, 200)) for i, colour in enumerate(COLOURS)}
    path = tar(root / "cut.tar", files)
    path.write_bytes(path.read_bytes()[: 512 * 5 + 10])
    data = open_data(path)
    assert 1 <= len(data) < 4
    assert [f.where for f in data.findings if f.reason == "damaged"] == ["cut.tar"]
    first = next(iter(data))
    path.write_bytes(b"\0" * 512 * 5)
    with pytest.raises(IntegrityError):
        data.read(first)


@pytest.mark.parametrize(
    ("name", "content", "fix"),
    [
        ("a.tar", b"not an archive at all" * 100, "unpack"),
        ("a.tar", b"", "unpack"),
        ("a.tar.gz", b"\x1f\x8b\x08", "unpack"),
        ("a.zip", b"PK\x03\x04", "unpack"),
        ("a.xlsx", b"PK\x03\x04", "CSV"),
    ],
)
def test_an_archive_that_cannot_be_read_says_how(root: Path, name: str, content: bytes, fix: str) -> None:
    (root / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_data(root / name)
    assert fix in caught.value.fix


def test_a_folder_with_nothing_but_an_archive_says_so(root: Path) -> None:
    (root / "photos.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"no readable image.*photos\.zip"):
        open_data(root)


def test_shards_without_their_index_are_an_ordinary_webdataset(root: Path, tmp_path: Path) -> None:
    for i, colour in enumerate(COLOURS):
        (root / f"{i}.png").write_bytes(solid_image(colour))
    rows = [
        {"image": f"{i}.png", "captions": [c, {"text": "Bild", "lang": "de"}], "season": "x"}
        for i, c in enumerate(COLOURS)
    ]
    (root / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    data = open_data(root)
    write_shards(data, tmp_path / "shards", "tar")
    (tmp_path / "shards" / "shards.json").unlink()
    (tmp_path / "shards" / "index.parquet").unlink()
    again = open_data(tmp_path / "shards")
    assert [s.captions for s in again] == [s.captions for s in data]
    assert again.samples[0].captions[1] == Caption("Bild", "de")
    assert [(s.image, s.concept, s.split, s.groups) for s in again] == [
        (s.image, s.concept, s.split, s.groups) for s in data
    ]


def hub_table() -> datasets.Dataset:
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=list(COLOURS)),
            "caption": datasets.Value("string"),
        }
    )
    rows = {
        "image": [{"bytes": solid_image(c), "path": "image.png"} for c in COLOURS],
        "label": list(range(4)),
        "caption": [f"a {c} tile" for c in COLOURS],
    }
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.mark.parametrize(
    "layout", ["{split}-00000-of-00001.parquet", "data/{split}-00000-of-00001.parquet", "{split}/0000.parquet"]
)
def test_a_folder_of_parquet_files_opens_by_its_name(root: Path, layout: str) -> None:
    for split in ("train", "test"):
        path = root / layout.format(split=split)
        path.parent.mkdir(parents=True, exist_ok=True)
        hub_table().to_parquet(path)
    (root / "README.md").write_text("tiles", encoding="utf-8")
    data = open_data(root)
    assert len(data) == 8
    assert {sample.split for sample in data} == {"train", "test"}
    assert {sample.caption for sample in data} == {f"a {c} tile" for c in COLOURS}
    assert set(read_all(data).values()) == {solid_image(c) for c in COLOURS}
    assert ("README.md",) in [finding.details.string_items("files") for finding in data.findings]


@pytest.mark.parametrize("splits", [False, True])
def test_what_save_to_disk_wrote_opens_by_its_name(root: Path, splits: bool) -> None:
    table = hub_table()
    (datasets.DatasetDict({"train": table, "test": table}) if splits else table).save_to_disk(root / "saved")
    data = open_data(root / "saved")
    assert len(data) == (8 if splits else 4)
    assert {sample.concept for sample in data} == set(COLOURS)


def test_parquet_beside_images_that_has_images_of_its_own_is_named(root: Path) -> None:
    (root / "a.png").write_bytes(solid_image())
    pq.write_table(pa.table({"image": [solid_image("blue")], "text": ["blue"]}), root / "more.parquet")
    data = open_data(root)
    assert [sample.id for sample in data] == ["a.png"]
    (finding,) = (f for f in data.findings if f.code == "CLR-D014")
    assert finding.where == "more.parquet"
    assert "add it separately" in finding.fix


def test_an_image_too_large_to_read_is_named_and_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset, "MAX_FILE_BYTES", 5000)
    large = solid_image() + bytes(5000)
    data = open_data(tar(root / "tiles.tar", {"a.png": solid_image(), "a.txt": "a", "b.png": large, "b.txt": "b"}))
    assert [sample.id for sample in data] == ["a.png"]
    assert [finding.where for finding in data.findings if "larger than" in finding.message]
