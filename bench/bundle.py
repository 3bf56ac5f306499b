"""Tampering with bundles and packs, and the time to verify a long journal: ``make bench-bundle``.

Sockets are blocked in all of it.
"""

from __future__ import annotations

import io
import json
import shutil
import socket
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.release_life import Life

from clerestory.core.provenance import now
from clerestory.core.release import Event
from clerestory.stages.release.bundle import BundleFile, release_files, write_bundle, write_files
from clerestory.store import open_store
from clerestory.store.journal import JournalRecord
from clerestory.store.signing import verify_bundle as verifier
from clerestory.store.signing.keys import SigningKey, make_key
from table import Row, measure

MAX_BUNDLE_BYTES = 20_000
RECORDS, MAX_SECONDS = 100_000, 5.0
ROUNDS = 5


@dataclass(frozen=True)
class World:
    """A release, a key, and the store that has the release."""

    life: Life
    key: SigningKey
    folder: Path

    def problems(self, source: Path | bytes) -> list[Any]:
        """What the verifier says about a bundle."""
        content = source if isinstance(source, Path) else io.BytesIO(source)
        return verifier.verify_content(content, {self.key.public.id: self.key.public.key}, {})[0]

    def small_bundle(self, path: Path, signer: SigningKey | None = None) -> bytes:
        """A bundle of at most 20 KB: without documents, and with an empty file in place of the verifier."""
        store = self.life.store
        release = store.resolve("icons@1").release
        assert release is not None
        records, head = store.journal.stored_records()
        journal = b"".join(record + b"\n" for record in records)
        files = [
            *release_files(release, store, True),
            BundleFile("journal.jsonl", journal),
            BundleFile("verify.py", b""),
        ]
        claim = {"release": "icons@1", "journal": {"length": len(records), "head": head}, "signed": now()}
        write_files(path, files, {**claim, "with_model": True}, signer or self.key)
        content = path.read_bytes()
        assert len(content) <= MAX_BUNDLE_BYTES, len(content)
        return content


def world(folder: Path) -> World:
    life = Life(open_store(folder / "home"), folder / "models")
    life.release()
    return World(life, make_key(folder / "key"), folder)


def tampering() -> Iterator[Row]:
    """Every byte to every other value, and every kind of change to members."""
    with TemporaryDirectory() as name:
        there = world(Path(name))
        small = there.small_bundle(Path(name) / "small.zip")
        started, missed, tried = time.perf_counter(), 0, 0
        content = bytearray(small)
        for at, value in enumerate(small):
            for other in {value ^ 1, value ^ 0x80, value ^ 0xFF, 0, 0x20} - {value}:
                content[at] = other
                tried += 1
                missed += not there.problems(bytes(content))
            content[at] = value
        note = f"{len(small):,} bytes, {time.perf_counter() - started:.0f} s"
        yield _detected("changed bytes of a zip", tried, missed, note)
        sizes = [*range(len(small))]
        missed = sum(not there.problems(small[:size]) for size in sizes)
        missed += sum(not there.problems(small + bytes([value])) for value in range(256))
        yield _detected("truncations, and a byte appended", len(sizes) + 256, missed, "each length, each value")
        changed = list(_changed_members(there, small))
        missed = sum(not there.problems(each) for each in changed)
        note = "dropped, twice, moved, exchanged, renamed, added; another signature"
        yield _detected("changed members and signatures", len(changed), missed, note)
        yield _detected("changed folders", *_changed_folders(there, small), "links, files, folders")
        intact = [small, *(there.small_bundle(Path(name) / f"{number}.zip") for number in range(20))]
        alarms = sum(bool(there.problems(each)) for each in intact)
        write_bundle("icons@1", there.life.store, Path(name) / "whole", there.key)
        alarms += bool(there.problems(Path(name) / "whole"))
        total = len(intact) + 1
        yield Row("false alarms", alarms, "bundles", "0", not alarms, total, "", "zips and a folder")


def journal() -> Iterator[Row]:
    """A bundle whose journal has 100,000 records."""
    with TemporaryDirectory() as name:
        there = world(Path(name))
        store = there.life.store
        event = Event("prediction", "icons@1", "ada", "", now())
        with store.database.writing() as connection:
            for _ in range(RECORDS - store.journal.head()[0]):
                record: JournalRecord = store.journal.write(connection, event)
        assert record.seq == RECORDS
        path = Path(name) / "long.zip"
        write_bundle("icons@1", store, path, there.key)
        seconds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            problems, facts = _verify_file(there, path)
            seconds.append(time.perf_counter() - started)
            assert not problems
            assert facts["journal"]["length"] == RECORDS
        worst = max(seconds)
        note = f"slowest of {ROUNDS}; the whole bundle, {path.stat().st_size / 1e6:.0f} MB"
        yield Row("verify 100,000 records", worst, "s", f"≤ {MAX_SECONDS:g} s", worst <= MAX_SECONDS, RECORDS, "", note)


def _verify_file(there: World, path: Path) -> Any:
    with path.open("rb") as file:
        return verifier.verify_content(file, {there.key.public.id: there.key.public.key}, {})


def _detected(name: str, tried: int, missed: int, note: str) -> Row:
    return Row(f"detected: {name}", 100 * (1 - missed / tried), "%", "100 %", not missed, tried, "", note)


def _packed(files: list[tuple[str, bytes]]) -> bytes:
    out, entries = b"", []
    for name, content in files:
        crc = zlib.crc32(content)
        entries.append((name, len(content), crc))
        out += verifier.local_header(name, len(content), crc) + content
    return out + verifier.zip_end(entries)


def _changed_members(there: World, small: bytes) -> Iterator[bytes]:
    with zipfile.ZipFile(io.BytesIO(small)) as archive:
        files = [(name, archive.read(name)) for name in archive.namelist()]
    for at, (name, content) in enumerate(files):
        before, after = files[:at], files[at + 1 :]
        yield _packed([*before, *after])
        yield _packed([*before, (name, content), *files[at:]])
        yield _packed([*before, (name + "x", content), *after])
        yield _packed([*before, (name.upper(), content), *after])
        yield _packed([*before, (f"../{name}", content), *after])
        yield _packed([*before, ("added", b""), *files[at:]])
        for other in range(at + 1, len(files)):
            order = [*files]
            order[at], order[other] = order[other], order[at]
            yield _packed(order)
            order[at], order[other] = (name, files[other][1]), (files[other][0], content)
            yield _packed(order)
    for seed in range(20):
        stranger = make_key(there.folder / f"stranger{seed}")
        foreign = there.small_bundle(there.folder / f"foreign{seed}.zip", stranger)
        yield foreign
        with zipfile.ZipFile(io.BytesIO(foreign)) as archive:
            envelope = json.loads(archive.read(verifier.ATTESTATION))
        own = json.loads(files[0][1])
        both = sorted([*own["signatures"], *envelope["signatures"]], key=lambda each: str(each["keyid"]))
        relabelled = [{**envelope["signatures"][0], "keyid": there.key.public.id}]
        for signatures in (both, relabelled, envelope["signatures"], []):
            text = json.dumps({**own, "signatures": signatures}, sort_keys=True, separators=(",", ":"))
            yield _packed([(verifier.ATTESTATION, text.encode()), *files[1:]])


def _changed_folders(there: World, small: bytes) -> tuple[int, int]:
    """How many changes of a folder were made, and how many of them were missed."""
    folder, kept = there.folder / "changed", there.folder / "kept"
    with zipfile.ZipFile(io.BytesIO(small)) as archive:
        archive.extractall(kept)
    names = sorted(path.relative_to(kept).as_posix() for path in kept.rglob("*"))
    changes: list[Callable[[Path], object]] = []
    for name in names:  # the types of a lambda with a default cannot be inferred
        changes.append(lambda top, name=name: _linked(top / name, there.folder / "elsewhere"))  # type: ignore[misc]
        changes.append(lambda top, name=name: _removed(top / name))  # type: ignore[misc]
        changes.append(lambda top, name=name: (top / f"{name}.more").symlink_to(top / name))  # type: ignore[misc]
        changes.append(lambda top, name=name: (top / f"{name}.more").write_bytes(b""))  # type: ignore[misc]
        changes.append(lambda top, name=name: (top / f"{name}.more").mkdir())  # type: ignore[misc]
    missed = 0
    for change in changes:
        shutil.rmtree(folder, ignore_errors=True)
        _removed(there.folder / "elsewhere")
        shutil.copytree(kept, folder)
        change(folder)
        missed += not there.problems(folder)
    return len(changes), missed


def _linked(path: Path, elsewhere: Path) -> None:
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _removed(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    # Whoever opens a socket fails: the measurements need no network.
    socket.socket = None  # type: ignore[assignment,misc]
    sys.exit(measure("bundle", {"tampering": tampering, "journal": journal}, sys.argv[1:]))
