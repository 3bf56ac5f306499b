"""The index of a folder lasts: files on a real disk are moved, changed and deleted, and processes are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import closing
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tests.support.disks import can_mount, small_disk
from tests.support.pixel_model import PixelModel, write_noise

from clerestory.apps.folder_index import FolderIndex, IndexUpdate, QueryPart, SearchFilter, compose_query, reading
from clerestory.apps.folder_index.catalog import Catalog, FileRecord
from clerestory.apps.folder_index.filters import parse_date
from clerestory.apps.folder_index.source import image_folder
from clerestory.apps.folder_index.updating import BATCH_IMAGES
from clerestory.apps.folder_index.walking import stamp_of
from clerestory.core.errors import CapabilityError, Conflict, DataError, InputError, UploadError
from clerestory.core.files import expand_user
from clerestory.data.images import decode_image
from clerestory.store import Store, open_store

ROOT = Path(__file__).parents[2]


def opened(folder: Path, store: Store) -> FolderIndex:
    return FolderIndex.open(folder, store, PixelModel.digest, PixelModel.dims)


def updated(index: FolderIndex, **options: bool) -> IndexUpdate:
    """Update, and compare every embedding with that of the file as it is."""
    model = PixelModel()
    done = index.update(model.embed_images, **options)
    assert done.embedded == model.images_seen
    check(index)
    return done


def check(index: FolderIndex) -> None:
    snapshot = index.snapshot
    for path, row in zip(snapshot.state.paths, snapshot.embeddings, strict=True):
        image = decode_image((index.folder / path).read_bytes())
        np.testing.assert_array_equal(row, PixelModel().embed_images([image])[0], err_msg=path)


def changes(done: IndexUpdate) -> tuple[int, int, int, int, int]:
    return done.unchanged, done.added, done.moved, done.removed, done.embedded


def worker(folder: Path, home: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.pixel_model", str(folder), str(home), *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_only_new_content_is_embedded(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "photos"
    write_noise(folder, range(20))
    write_noise(folder / "trip", range(20, 30))
    index = opened(folder, store)
    assert changes(updated(index)) == (0, 30, 0, 0, 30)
    assert changes(updated(opened(folder, store))) == (30, 0, 0, 0, 0)  # another process, so to speak

    (folder / "trip").rename(folder / "holiday")  # the same inodes
    shutil.copy(folder / "0000.png", folder / "copy.png")
    shutil.move(folder / "0001.png", tmp_path / "aside.png")
    shutil.copy(tmp_path / "aside.png", folder / "back.png")  # another inode and time
    (folder / "0002.png").unlink()
    write_noise(folder, [99])
    (folder / "0099.png").replace(folder / "0003.png")  # the content of a known path changes
    assert changes(updated(index)) == (17, 1, 12, 1, 1)
    assert set(index.snapshot.places) >= {"holiday/0025.png", "copy.png", "back.png"}
    assert not set(index.snapshot.places) & {"trip/0025.png", "0001.png", "0002.png"}


def test_a_change_that_leaves_size_and_time_is_seen_when_every_file_is_read(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "photos"
    write_noise(folder, range(3))
    index = opened(folder, store)
    index.update(PixelModel().embed_images)
    path = folder / "0001.png"
    before = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[:-20] + bytes(20))  # in place: the same inode
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changes(index.update(PixelModel().embed_images)) == (3, 0, 0, 0, 0)  # so it was not opened
    done = index.update(PixelModel().embed_images, rescan_all=True)
    assert (done.unchanged, [each.path for each in done.unreadable]) == (2, ["0001.png"])
    path.write_bytes(content)
    assert changes(updated(index)) == (2, 1, 0, 0, 0)  # its embedding was kept


def test_files_that_cannot_be_used_are_named_with_the_reason_and_tried_again(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "photos"
    write_noise(folder, range(2))
    write_noise(tmp_path / "elsewhere", [7])
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (folder / "old.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "out.png").symlink_to(tmp_path / "elsewhere" / "0007.png")
    (folder / "inside.png").symlink_to(folder / "0000.png")
    os.mkfifo(folder / "pipe.png")
    shutil.copy(folder / "0001.png", folder / "no-suffix")
    (folder / "thing.bin").write_bytes(b"no image")
    index = opened(folder, store)
    for _ in range(2):
        problems = {each.path: each.problem for each in updated(index).unreadable}
        assert set(problems) == {"broken.jpg", "old.heic", "out.png", "pipe.png"}
        assert "damaged" in problems["broken.jpg"]
        assert "HEIC" in problems["old.heic"]
        assert "outside the folder" in problems["out.png"]
    assert list(index.snapshot.places) == ["0000.png", "0001.png", "no-suffix"]
    shutil.copy(folder / "0000.png", folder / "broken.jpg")
    assert "broken.jpg" not in {each.path for each in updated(index).unreadable}
    (folder / "0000.png").unlink()
    shutil.rmtree(folder)
    folder.mkdir()  # a drive that is away
    with pytest.raises(DataError, match="has no images"):
        index.update(PixelModel().embed_images)
    write_noise(folder, range(2))
    assert changes(updated(index))[4] == 0  # nothing was forgotten
    with pytest.raises(DataError, match="is not a folder"):
        opened(folder / "0000.png", store)


def test_what_cannot_be_read_now_is_not_forgotten(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    write_noise(folder, range(2))
    write_noise(folder / "trip" / "day", range(2, 5))
    write_noise(tmp_path / "elsewhere", [9])
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "same").symlink_to(folder / "trip")
    index = opened(folder, store)
    done = updated(index)
    assert [each.path for each in done.unreadable] == ["linked"]
    scandir = os.scandir

    def refuse(path: str) -> object:  # as for a user who may not read it; root may read everything
        if os.fspath(path).endswith("trip"):
            raise PermissionError
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        done = index.update(PixelModel().embed_images)
    assert (changes(done), len(index)) == ((2, 0, 0, 0, 0), 5)
    assert [each.path for each in done.unreadable] == ["linked", "trip"]
    for path in (folder / "0000.png", folder / "0001.png"):
        path.unlink()
    shutil.rmtree(folder / "trip")
    (folder / "same").unlink()
    assert image_folder(store, str(folder)) == folder
    with pytest.raises(DataError, match="linked: it is a link to a folder outside"):
        index.update(PixelModel().embed_images)


def out_of_memory(content: bytes) -> Image.Image:
    raise UploadError("there is not enough memory to decode the image", "try again later", 503)


def test_too_little_memory_is_no_property_of_a_file(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    write_noise(folder, range(2))
    index = opened(folder, store)
    with monkeypatch.context() as patch:
        patch.setattr(reading, "decode_image", out_of_memory)
        assert len(index.update(PixelModel().embed_images).unreadable) == 2
    assert (updated(index).embedded, len(index)) == (2, 2)


def test_stamps_fit_the_catalog() -> None:
    for inode, seconds in ((2**64 - 1, 2**60), (2**63, -(2**60)), (7, 1)):
        status = SimpleNamespace(st_size=9, st_ino=inode, st_mtime_ns=seconds * 10**9)
        stamp = stamp_of(status)  # type: ignore[arg-type]
        record = FileRecord("a.png", stamp, 1, "", "broken")
        with closing(Catalog(None)) as catalog:
            catalog.write([record])
            assert catalog.files() == {"a.png": record}


def test_a_kill_loses_at_most_one_batch(tmp_path: Path) -> None:
    folder, home = tmp_path / "photos", tmp_path / "home"
    total, pause = 3 * BATCH_IMAGES, 2 * BATCH_IMAGES
    write_noise(folder, range(total))
    process = worker(folder, home, str(pause))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with open_store(home) as store:
        index = opened(folder, store)
        with pytest.raises(Conflict, match=f"is already running in process {process.pid}"):
            index.update(PixelModel().embed_images, wait=False)
        check(index)  # what is recorded can be searched meanwhile
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        (file,) = index.directory.glob("embeddings-*.f32")
        with file.open("ab") as half:  # rows whose record was lost with the process
            half.write(bytes(1000))
        check(opened(folder, store))
        recorded = len(opened(folder, store))
        assert pause - BATCH_IMAGES <= recorded < total
        assert changes(updated(index)) == (recorded, total - recorded, 0, 0, total - recorded)


def test_two_processes_at_once_embed_every_image_once(tmp_path: Path) -> None:
    folder, home = tmp_path / "photos", tmp_path / "home"
    write_noise(folder, range(100))
    open_store(home).close()
    both = [worker(folder, home) for _ in range(2)]
    done = [json.loads(process.communicate()[0]) for process in both]
    assert sorted(each["embedded"] for each in done) == [0, 100]
    with open_store(home) as store:
        check(opened(folder, store))
        assert len(opened(folder, store)) == 100


def test_a_damaged_index_is_mended(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "photos"
    write_noise(folder, range(40))
    index = opened(folder, store)
    updated(index)
    (file,) = index.directory.glob("embeddings-*.f32")
    width = 4 * index.dims[-1]
    content = bytearray(file.read_bytes())
    content[3 * width : 4 * width] = bytes(width)  # one row is zero
    file.write_bytes(content[: -width - 1])  # and two are cut off
    damaged = opened(folder, store)
    assert len(damaged) == 37
    check(damaged)
    assert updated(damaged).embedded == 3
    older = index.directory.with_name(index.directory.name[:34] + "0" * 16 + "-0")
    shutil.copytree(index.directory, older)  # of another version of the code
    updated(index)
    assert [path.name for path in index.directory.parent.iterdir()] == [index.directory.name]
    (index.directory / "catalog.db").write_bytes(b"not a database" * 100)
    assert len(opened(folder, store)) == 0
    assert changes(updated(opened(folder, store))) == (0, 40, 0, 0, 40)


def test_unused_rows_are_dropped_once_they_are_many(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clerestory.apps.folder_index.index.MIN_UNUSED_ROWS", 4)
    folder = tmp_path / "photos"
    names = write_noise(folder, range(12))
    index = opened(folder, store)
    updated(index)
    older = opened(folder, store)
    before = older.snapshot.embeddings.copy()
    for name in names[:7]:
        (folder / name).unlink()
    assert changes(updated(index)) == (5, 0, 0, 7, 0)
    (file,) = index.directory.glob("embeddings-*.f32")
    assert file.stat().st_size == 5 * 4 * index.dims[-1]
    np.testing.assert_array_equal(older.snapshot.embeddings, before)  # a reader keeps what it has open
    check(opened(folder, store))
    write_noise(folder, [50])
    assert changes(updated(index)) == (5, 1, 0, 0, 1)


@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a small disk")
def test_a_disk_that_is_full_or_read_only_is_searched_from_memory(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    names = write_noise(folder, range(30))
    lines: list[str] = []

    class Lines:
        def task(self, label: str, total: int):
            from clerestory.core.progress import QUIET

            return QUIET.task(label, total)

        def write_line(self, line: str) -> None:
            lines.append(line)

    with small_disk(tmp_path / "disk") as disk:
        home = disk.folder / "home"
        with open_store(home) as store:
            updated(opened(folder, store))
            write_noise(folder, [77])
            disk.fill()
            full = opened(folder, store)
            assert full.update(PixelModel().embed_images, Lines()).embedded == 1  # the others are read from the disk
            assert len(full) == 31
            check(full)
            disk.free()
        disk.make_read_only()
        lines.clear()
        with open_store(home) as store:
            index = opened(folder, store)
            for _ in range(2):
                index.update(PixelModel().embed_images, Lines())
            assert len(lines) == 1
            assert "is kept in memory" in lines[0]
            assert index.search(PixelModel().embed_images([Image.open(folder / names[3])])[0], 1)[0].path == names[3]


def test_a_search_finds_what_a_loop_would_find(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "photos"
    write_noise(folder / "b", range(30), (20, 10))
    write_noise(folder / "a", range(30, 50), (10, 30))
    write_noise(folder, range(50, 60), (16, 16))
    for name in ("z.png", "a/0000.png"):
        shutil.copy(folder / "b" / "0000.png", folder / name)
    index = opened(folder, store)
    updated(index)
    query = PixelModel().embed_texts(["teal"])[0]
    scores = {
        path: float(row @ query) for path, row in zip(index.snapshot.places, index.snapshot.embeddings, strict=True)
    }

    def loop(accept: object, k: int = 100) -> list[str]:
        left = sorted((path for path in scores if accept(path)), key=lambda p: (-round(scores[p], 5), p))  # type: ignore[operator]
        copies = [path for path in left if path in ("z.png", "b/0000.png", "a/0000.png")]
        return [path for path in left if path not in copies[1:]][:k]

    def paths(k: int = 100, **conditions: object) -> list[str]:
        return [hit.path for hit in index.search(query, k, SearchFilter(**conditions))]  # type: ignore[arg-type]

    assert paths(7) == loop(lambda path: True, 7)
    assert paths(under="./b/") == loop(lambda path: path.startswith("b/"))
    assert paths(name="*5.PNG") == loop(lambda path: path.endswith("5.png"))
    assert paths(orientation="portrait") == loop(lambda path: path.startswith("a/") and path != "a/0000.png")
    assert paths(orientation="square") == loop(lambda path: "/" not in path and path != "z.png")
    assert paths(min_side=16) == loop(lambda path: "/" not in path and path != "z.png")
    assert paths(under="nothing") == []
    hit = next(hit for hit in index.search(query, 100) if hit.path == "a/0000.png")
    assert (hit.copies, hit.width, hit.height) == (("b/0000.png", "z.png"), 20, 10)
    assert hit.score == pytest.approx(scores["b/0000.png"], abs=1e-6)
    assert "a/0000.png" not in {each.path for each in index.search(query, 100, without=[hit.sha256])}
    with pytest.raises(InputError, match="at least one"):
        index.search(query, 0)
    with pytest.raises(CapabilityError, match="not finite"):
        index.search(np.full_like(query, np.nan))


def test_dates_are_those_of_the_camera_else_of_the_file(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "photos"
    write_noise(folder, range(2))
    os.utime(folder / "0000.png", (1_000_000_000, 1_000_000_000))  # 2001-09-09
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2015:06:30 23:59:00"
    Image.new("RGB", (9, 9), "red").save(folder / "camera.jpg", exif=exif)
    index = opened(folder, store)
    updated(index)
    query = PixelModel().embed_texts(["red"])[0]

    def names(after: date | None, before: date | None) -> set[str]:
        return {hit.path for hit in index.search(query, 9, SearchFilter(after=after, before=before))}

    assert names(date(2015, 6, 30), date(2015, 6, 30)) == {"camera.jpg"}
    assert names(None, date(2015, 6, 29)) == {"0000.png"}
    assert names(date(2015, 7, 1), None) == {"0001.png"}


def test_searching_is_safe_while_an_update_runs(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clerestory.apps.folder_index.index.SNAPSHOT_SECONDS", 0.0)
    folder = tmp_path / "photos"
    write_noise(folder, range(20))
    index = opened(folder, store)
    updated(index)
    write_noise(folder, range(20, 300))
    (folder / "0000.png").unlink()
    running = threading.Thread(target=index.update, args=(PixelModel().embed_images,))
    running.start()
    query = PixelModel().embed_texts(["gold"])[0]
    searches = 0
    while running.is_alive() or not searches:
        for hit in index.search(query, 5):
            number = int(hit.path[:4])
            row = PixelModel().embed_images([Image.open(write_reference(tmp_path, number))])[0]
            assert hit.score == pytest.approx(float(row @ query), abs=1e-5)
        searches += 1
    running.join()
    assert len(index) == 299


def test_periods_and_folder_names() -> None:
    assert parse_date("2023", "--before", last_day=True) == date(2023, 12, 31)
    assert parse_date("2024-02", "--before", last_day=True) == date(2024, 2, 29)
    assert parse_date("2024-02-03", "--before", last_day=True) == date(2024, 2, 3)
    assert parse_date("2024-02", "--after") == date(2024, 2, 1)
    with closing(Catalog(None)) as catalog:
        assert SearchFilter(before=date.max, after=date.min).mask(catalog.state()).shape == (0,)
    with pytest.raises(InputError, match=r"~nosuchuser in ~nosuchuser/x is not the home"):
        expand_user("~nosuchuser/x")


def write_reference(folder: Path, number: int) -> Path:
    (name,) = write_noise(folder / "reference", [number])
    return folder / "reference" / name


def test_a_query_of_several_parts() -> None:
    rows = PixelModel().embed_texts(["red", "blue", "gold"])
    np.testing.assert_allclose(compose_query([QueryPart(rows[0])]), rows[0], atol=1e-6)
    both = compose_query([QueryPart(rows[0], 2.0), QueryPart(rows[1]), QueryPart(rows[2], -0.5)])
    total = 2 * rows[0] + rows[1] - 0.5 * rows[2]
    np.testing.assert_allclose(both, total / np.linalg.norm(total), atol=1e-6)
    with pytest.raises(InputError, match="nothing to look for"):
        compose_query([QueryPart(rows[0], -1.0)])
    with pytest.raises(InputError, match="cancel out"):
        compose_query([QueryPart(rows[0]), QueryPart(rows[0], -1.0)])
