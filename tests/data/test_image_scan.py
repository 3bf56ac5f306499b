"""Checking the images of a source: what is remembered, what is tried again, and what is said about copies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.images import solid_image

from clerestory.core.evidence import Finding
from clerestory.core.progress import QUIET
from clerestory.data import open_data
from clerestory.data.findings import UnreadableImage
from clerestory.data.image_scan import ImageScan, scan_files, scan_image

LARGE_FILE = "/proc/self/mem"  # a regular file whose bytes cannot be read: an I/O error


def remembered(cache: Path) -> set[str]:
    files = [json.loads(path.read_text(encoding="utf-8"))["files"] for path in cache.rglob("image_scans/*.json")]
    return {name for each in files for name in each}


def copies(folder: Path) -> list[Finding]:
    return [finding for finding in open_data(folder).findings if finding.code == "CLR-D018"]


@pytest.mark.skipif(not Path(LARGE_FILE).is_file(), reason="needs Linux: a file that gives an I/O error")
def test_an_io_error_is_reported_but_not_remembered(tmp_path: Path, own_cache: Path) -> None:
    drive = tmp_path / "drive"
    drive.mkdir()
    (drive / "a.png").write_bytes(solid_image())
    (drive / "b.png").symlink_to(LARGE_FILE)
    (drive / "c.png").write_bytes(b"damaged")
    scans = scan_files(drive, ["a.png", "b.png", "c.png", "missing.png", "x" * 5000], QUIET)
    assert set(scans) == {"a.png", "b.png", "c.png"}
    assert scans["b.png"].reason is UnreadableImage.FILE_UNREADABLE
    assert "Input/output error" in scans["b.png"].problem
    assert "drive" in scans["b.png"].fix
    assert remembered(own_cache) == {"a.png", "c.png"}


def test_tables_beside_the_same_images_share_their_scans(tmp_path: Path, own_cache: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(solid_image())
    scan_files(tmp_path, ["a.png", "b.png"], QUIET)
    scan_files(tmp_path, ["b.png", "c.png"], QUIET)
    assert remembered(own_cache) == {"a.png", "b.png", "c.png"}


@pytest.mark.parametrize("size", [(5, 40), (40, 7), (1, 1)])
def test_a_jpeg_narrower_than_its_draft_is_not_damaged(size: tuple[int, int]) -> None:
    assert scan_image(solid_image("red", size, kind="JPEG")).reason is None


def test_a_result_is_lasting_only_if_the_bytes_were_read() -> None:
    passing = {UnreadableImage.FILE_UNREADABLE}
    lasting = {reason for reason in UnreadableImage if ImageScan("", reason).is_lasting}
    assert lasting == set(UnreadableImage) - passing
    assert scan_image(solid_image()).is_lasting


def test_without_memory_an_image_is_not_called_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", no_memory)
    scan = scan_image(solid_image())
    assert scan.reason is UnreadableImage.FILE_UNREADABLE
    assert not scan.is_lasting
    assert "memory" in scan.problem


def test_data_opens_although_its_cache_cannot_be_written(shop: Path, own_cache: Path) -> None:
    own_cache.write_text("a file where the cache folder should be", encoding="utf-8")
    assert len(open_data(shop)) == 4


def test_another_format_is_named_with_its_remedy_in_the_finding(shop: Path) -> None:
    (shop / "photo.png").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    found = [finding for finding in open_data(shop).findings if finding.code == "CLR-D001"]
    assert [finding.where for finding in found] == ["photo.png"]
    assert "HEIC" in found[0].message
    assert "Most Compatible" in found[0].fix


def test_exact_copies_are_said_and_stay_in_one_split(shop: Path) -> None:
    assert not copies(shop)
    for i in range(3):
        (shop / f"copy-{i}.png").write_bytes((shop / "a.png").read_bytes())
    (found,) = copies(shop)
    assert (found.severity, found.count, found.details["example"]) == ("info", 3, "copy-0.png")
    assert "'a.png'" in found.message
    data = open_data(shop)
    assert len({data[name].split for name in ("a.png", "copy-0.png", "copy-1.png", "copy-2.png")}) == 1


def test_one_exact_copy_is_named(shop: Path) -> None:
    (shop / "z.jpg").write_bytes((shop / "b.jpg").read_bytes())
    (found,) = copies(shop)
    assert (found.where, found.count) == ("z.jpg", 1)
    assert "'b.jpg'" in found.message


def test_copies_in_different_splits_are_a_warning(shop: Path) -> None:
    (shop / "d.png").write_bytes((shop / "a.png").read_bytes())
    rows = "image,caption,split\na.png,red,train\nb.jpg,green,train\nc.webp,blue,val\nd.png,red again,test\n"
    (shop / "captions.csv").write_text(rows, encoding="utf-8")
    (found,) = copies(shop)
    assert (found.severity, found.details["across_splits"]) == ("warning", 1)
    assert "too optimistic" in found.message


def test_two_rows_of_one_image_file_are_not_copies(shop: Path) -> None:
    (shop / "captions.csv").write_text("id,image,caption\n1,a.png,red\n2,a.png,crimson\n", encoding="utf-8")
    assert not copies(shop)
