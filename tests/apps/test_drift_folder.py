"""A folder of dated images as a history: dates of EXIF, names and files, and what is left out."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.support.colour_tiles import ColourModel

from clerestory.apps.drift_sources import open_drift_source
from clerestory.core.errors import DataError
from clerestory.stages.watch.drift.log import read_log
from clerestory.store import open_store

TAKEN = 0x9003  # DateTimeOriginal, in the directory 0x8769


def _image(path: Path, taken: str = "") -> None:
    exif = Image.Exif()
    if taken:
        exif.get_ifd(0x8769)[TAKEN] = taken
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 24), (200, 30, 30)).save(path, exif=exif)


def _times(folder: Path, home: Path, file_times: bool = False) -> tuple[dict[str, str], dict[str, int]]:
    source = open_drift_source(str(folder), open_store(home), ColourModel, is_dated=True, file_times=file_times).table
    assert source.times is not None
    days = [datetime.fromtimestamp(float(at), UTC).strftime("%Y-%m-%d %H:%M") for at in source.times]
    return dict(zip(source.ids, days, strict=True)), dict(source.left_out)


def test_dates_come_from_exif_then_names_then_folders_then_files(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    _image(folder / "2020-01-01" / "a.jpg", "2026:03:02 08:30:00")
    _image(folder / "2020-01-01" / "IMG_20260303.jpg")
    _image(folder / "2026-03-01" / "b.png")
    _image(folder / "c.jpg")
    os.utime(folder / "c.jpg", (1_772_600_000, 1_772_600_000))
    (folder / "broken.jpg").write_bytes(b"no image")
    dated = {
        "2026-03-01/b.png": "2026-03-01 00:00",
        "2020-01-01/a.jpg": "2026-03-02 08:30",
        "2020-01-01/IMG_20260303.jpg": "2026-03-03 00:00",
    }
    times, left_out = _times(folder, tmp_path / "home")
    assert list(times.items()) == list(dated.items())
    assert left_out == {"an image that cannot be read": 1, "no date in its EXIF data or its name": 1}
    times, left_out = _times(folder, tmp_path / "home", file_times=True)
    assert times == {**dated, "c.jpg": "2026-03-04 04:53"}
    assert left_out == {"an image that cannot be read": 1}


def test_a_folder_without_dates_says_where_they_come_from(tmp_path: Path) -> None:
    _image(tmp_path / "photos" / "a.jpg")
    with pytest.raises(DataError, match="1 with no date in its EXIF data or its name") as error:
        _times(tmp_path / "photos", tmp_path / "home")
    assert "--file-times" in error.value.fix


def test_rows_of_another_width_in_parquet_are_counted(tmp_path: Path) -> None:
    pq.write_table(pa.table({"embedding": [[1.0, 2.0], [3.0, 4.0], [1.0, 2.0, 3.0], None]}), tmp_path / "log.parquet")
    table = read_log(tmp_path / "log.parquet")
    assert len(table) == 2
    assert sorted(table.left_out.values()) == [1, 1]
