"""Hugging Face datasets: real ones, built here by the library itself."""

import json
import sys
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.images import solid_image

from clerestory.core.digest import digest_bytes
from clerestory.core.errors import DataError, MissingExtra
from clerestory.data import open_data

COLOURS = ("red", "green", "blue")


def picture(colour: str) -> bytes:
    return solid_image(colour, (8, 8))


@pytest.fixture
def table() -> datasets.Dataset:
    features = datasets.Features(
        {
            "photo": datasets.Image(),
            "label": datasets.ClassLabel(names=list(COLOURS)),
            "caption": datasets.Value("string"),
            "question": datasets.Value("string"),
            "choices": datasets.Sequence(datasets.Value("string")),
        }
    )
    rows = {
        "photo": [{"bytes": picture(c), "path": None} for c in COLOURS],
        "label": [0, 1, 2],
        "caption": [f"a {c} tile" for c in COLOURS],
        "question": [f"Which colour is this tile, and please do think of {'a very ' * 20}long answer?"] * 3,
        "choices": [list(COLOURS)] * 3,
    }
    return datasets.Dataset.from_dict(rows, features=features)


def test_a_saved_data_set_opens_with_its_labels_captions_and_splits(tmp_path: Path, table: datasets.Dataset) -> None:
    datasets.DatasetDict({"train": table, "validation": table.select([1])}).save_to_disk(tmp_path / "saved")
    data = open_data(f"hf:{tmp_path / 'saved'}")
    assert [s.id for s in data] == ["train/00000000", "train/00000001", "train/00000002", "validation/00000000"]
    assert [s.concept for s in data] == ["red", "green", "blue", "green"]
    assert [s.caption for s in data][:2] == ["a red tile", "a green tile"]
    assert [s.split for s in data] == ["train", "train", "train", "val"]
    assert data.read(data["train/00000002"]) == picture("blue")
    assert data["train/00000002"].image == digest_bytes(picture("blue"))
    assert any(f.code == "CLR-D009" and "question" in f.where for f in data.findings)


def test_ids_that_count_from_0_in_each_split_keep_every_split(tmp_path: Path, table: datasets.Dataset) -> None:
    train = table.add_column("id", [0, 1, 2])
    test = table.select([2, 1]).add_column("id", [0, 1])
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(tmp_path / "saved")
    data = open_data(f"hf:{tmp_path / 'saved'}")
    assert [s.id for s in data] == ["test/0", "test/1", "train/0", "train/1", "train/2"]
    assert [s.split for s in data] == ["test", "test", "train", "train", "train"]
    assert data.read(data["test/0"]) == data.read(data["train/2"]) == picture("blue")
    datasets.DatasetDict({"train": train}).save_to_disk(tmp_path / "one")
    assert [s.id for s in open_data(f"hf:{tmp_path / 'one'}")] == ["0", "1", "2"]


def test_a_file_that_a_row_names_and_that_does_not_exist_is_named(tmp_path: Path, table: datasets.Dataset) -> None:
    photos = [{"bytes": picture("red"), "path": None}, {"bytes": None, "path": "/nowhere/blue.png"}, None]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.table({"photo": pa.array(photos, kind), "caption": ["a", "b", "c"]})
    features = {"photo": {"_type": "Image"}, "caption": {"dtype": "string", "_type": "Value"}}
    rows = rows.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(rows, tmp_path / "p.parquet")
    data = open_data(f"hf:{tmp_path}")
    left_out = {(f.code, f.details.get("file", f.reason)) for f in data.findings if f.code in ("CLR-D004", "CLR-D005")}
    assert left_out == {("CLR-D004", "/nowhere/blue.png"), ("CLR-D005", "no_image")}


def test_a_folder_of_parquet_files_without_names_of_splits_opens(tmp_path: Path, table: datasets.Dataset) -> None:
    table.to_parquet(tmp_path / "parquet" / "part-1.parquet")
    data = open_data(f"hf:{tmp_path / 'parquet'}")
    assert [data.read(s) for s in data] == [picture(c) for c in COLOURS]


def test_a_folder_of_parquet_files_is_the_same_data(tmp_path: Path, table: datasets.Dataset) -> None:
    (tmp_path / "saved").mkdir()
    table.to_parquet(tmp_path / "parquet" / "data" / "test-00000-of-00001.parquet")
    data = open_data(f"hf:{tmp_path / 'parquet'}")
    assert {s.split for s in data} == {"test"}
    assert [data.read(s) for s in data] == [picture(c) for c in COLOURS]


def test_long_columns_are_kept_where_they_are_asked_for(tmp_path: Path, table: datasets.Dataset) -> None:
    table.save_to_disk(tmp_path / "saved")
    data = open_data(f"hf:{tmp_path / 'saved'}", keep_columns=("question", "choices", "label"))
    sample = data.samples[0]
    assert sample.groups["question"].endswith("long answer?")
    assert sample.groups["choices"] == '["red", "green", "blue"]'
    assert sample.groups["label"] == "red"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hf:", "must be followed by a dataset"),
        ("hf:./nowhere", "folder .* does not exist"),
        ("hf:{tmp}", "neither a saved dataset nor"),
    ],
)
def test_a_missing_dataset_is_one_sentence(tmp_path: Path, spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_data(spec.replace("{tmp}", str(tmp_path)))


def test_a_table_without_images_is_refused(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"words": ["a"]}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"has no image column \(its columns are words\)"):
        open_data(f"hf:{tmp_path / 'saved'}")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra) as caught:
        open_data("hf:org/name")
    assert caught.value.fix == "pip install 'clerestory[huggingface]'"


def test_a_cell_cannot_name_a_file_outside_the_dataset(tmp_path: Path) -> None:
    (tmp_path / "private.png").write_bytes(solid_image())
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "own.png").write_bytes(solid_image("blue"))
    paths = [str(folder / "own.png"), str(tmp_path / "private.png")]
    cells = [{"bytes": None, "path": path} for path in paths]
    schema = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")}).arrow_schema
    pq.write_table(pa.table({"image": cells, "text": ["own", "private"]}, schema), folder / "train.parquet")
    data = open_data(f"hf:{folder}")
    assert [sample.caption for sample in data] == ["own"]
    assert [finding.code for finding in data.findings] == ["CLR-D010"]
