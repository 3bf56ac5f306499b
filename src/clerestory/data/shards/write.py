"""A data set to shards: Parquet files or WebDataset archives, and their index."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clerestory.core.codec import encode
from clerestory.core.digest import digest_bytes, digest_file
from clerestory.core.errors import ConfigError, InputError, IntegrityError
from clerestory.core.progress import QUIET, Progress, Task
from clerestory.core.sample import Dataset, Sample
from clerestory.data import parquet
from clerestory.data.shards.index import LAYOUT, NAME, SCHEMA, TABLE, Index, Kind, Shard

GROUP = 32  # rows of a row group: what is read for one picture
MIB = 2**20
ENDINGS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp"}
Picture = tuple[Sample, bytes]


def write_shards(
    data: Dataset,
    folder: Path | str,
    kind: Kind = "parquet",
    shard_bytes: int = 256 * MIB,
    progress: Progress = QUIET,
) -> Index:
    """Write a data set as shards with an index; equal data and settings give equal bytes.

    The folder appears whole or not at all. A Parquet shard opens as a data set of its own; a tar shard is a WebDataset
    (``000000012.png``, ``.json``, ``.txt``), as other loaders read it.

    Args:
        data: what to write; sample ``i`` of it is sample ``i`` of the shards.
        folder: a new folder, or an empty one.
        kind: ``parquet`` or ``tar``.
        shard_bytes: a shard ends with the picture that brings its pictures to this size.
        progress: told about every picture.

    Raises:
        InputError: there is something in the folder, or nothing in the data.
        ConfigError: no such kind or size.
    """
    place = Path(folder)
    if kind not in _WRITERS:
        raise ConfigError(f"there is no kind of shards named {kind!r}", f"it takes one of {', '.join(_WRITERS)}")
    if shard_bytes < 1:
        raise ConfigError(f"shards of {shard_bytes} bytes hold no picture", "give a size above 0")
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InputError(f"{place} is there already and not empty", "give a new folder")
    if not len(data):
        raise InputError(f"{data.name} has no pictures to write", "bring some in first")
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    try:
        with progress.task(f"Writing {place.name}", len(data)) as task:
            index = _fill(data, temporary, kind, shard_bytes, task)
        _sync(temporary)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        temporary.replace(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return index


def _fill(data: Dataset, folder: Path, kind: Kind, shard_bytes: int, task: Task) -> Index:
    shards: list[Shard] = []
    places: list[tuple[int, int, int]] = []
    first = 0
    for number, pictures in enumerate(_portions(data, shard_bytes)):
        path = folder / f"shard-{number:05d}.{kind}"
        places += [(number, offset, length) for offset, length in _WRITERS[kind](path, pictures, first)]
        shards.append(Shard(path.name, first, len(pictures), path.stat().st_size, digest_file(path)))
        first += len(pictures)
        task.advance(len(pictures))
    _write_table(data.samples, places, folder / TABLE)
    index = Index(
        LAYOUT, kind, data.name, data.digest, first, digest_file(folder / TABLE), tuple(shards), data.findings
    )
    (folder / NAME).write_text(json.dumps(encode(index), indent=1), encoding="utf-8")
    return index


def _portions(data: Dataset, most: int) -> Iterator[list[Picture]]:
    """The samples in order, cut after the picture that brings a portion to ``most`` bytes."""
    portion: list[Picture] = []
    size = 0
    for sample in data:
        content = data.read(sample)
        if digest_bytes(content) != sample.image:
            raise IntegrityError(
                f"the picture of {sample.id} is not the one that was brought in", "open the data again"
            )
        portion.append((sample, content))
        size += len(content)
        if size >= most:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _write_parquet(path: Path, pictures: Sequence[Picture], first: int) -> list[tuple[int, int]]:
    rows = [{**_cells(sample), "picture": content} for sample, content in pictures]
    schema = parquet.SCHEMA.with_metadata({b"layout": parquet.LAYOUT})
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, path, row_group_size=GROUP, compression="none")  # pictures are compressed already
    return [(row, len(content)) for row, (_, content) in enumerate(pictures)]


def _write_tar(path: Path, pictures: Sequence[Picture], first: int) -> list[tuple[int, int]]:
    places = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for position, (sample, content) in enumerate(pictures, first):
            places.append((_add(archive, f"{position:09d}.{_ending(content)}", content), len(content)))
            _add(archive, f"{position:09d}.json", json.dumps(encode(sample), ensure_ascii=False).encode())
            if sample.caption:
                _add(archive, f"{position:09d}.txt", sample.caption.encode())
    return places


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> int:
    """Append a file without date or owner; returns where its content begins."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))
    return int(archive.offset) - -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _ending(content: bytes) -> str:
    return next((ending for start, ending in ENDINGS.items() if content.startswith(start)), "bin")


def _write_table(samples: Sequence[Sample], places: Sequence[tuple[int, int, int]], path: Path) -> None:
    rows = [
        {**_cells(sample), "shard": shard, "offset": offset, "length": length}
        for sample, (shard, offset, length) in zip(samples, places, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression="zstd")


def _cells(sample: Sample) -> dict[str, Any]:
    plain = {name: getattr(sample, name) for name in ("id", "concept", "licence", "source", "split")}
    return {**plain, "sha256": sample.image, "captions": encode(sample.captions), "groups": list(sample.groups.items())}


def _sync(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


_WRITERS = {"parquet": _write_parquet, "tar": _write_tar}
