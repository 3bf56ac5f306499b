"""Write a dataset as shards: Parquet files or WebDataset archives, and their index."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clerestory.core.codec import encode
from clerestory.core.digest import digest_file
from clerestory.core.errors import ConfigError, InputError
from clerestory.core.outputs import check_output_folder, output_folder
from clerestory.core.progress import QUIET, Progress, ProgressTask
from clerestory.core.sample import Dataset, Sample
from clerestory.data import parquet
from clerestory.data.optional import pa, pq
from clerestory.data.shards.index import INDEX_FILE, LAYOUT, TABLE_FILE, Shard, ShardIndex, ShardKind, index_schema

ROWS_PER_GROUP = 32  # reading one image reads its row group
MIB = 2**20
SUFFIXES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp"}
EncodedSample = tuple[Sample, bytes]


def write_shards(
    data: Dataset,
    folder: Path | str,
    kind: ShardKind = "parquet",
    shard_bytes: int = 256 * MIB,
    progress: Progress = QUIET,
) -> ShardIndex:
    """Write a dataset as shards with an index; equal data and settings give equal bytes.

    The folder appears whole or not at all. Each Parquet shard can also be opened as a dataset; a tar shard is a
    WebDataset (``000000012.png``, ``.json``, ``.txt``) for any of its loaders.

    Args:
        data: what to write; its sample ``i`` becomes sample ``i`` of the shards.
        folder: a new folder, or an empty one.
        kind: ``parquet`` or ``tar``.
        shard_bytes: a shard is closed as soon as its images reach this size.
        progress: advanced by every sample.

    Raises:
        InputError: the folder is not empty, or the dataset is.
        ConfigError: the kind or the size is invalid.
    """
    target = Path(folder)
    if kind not in _WRITERS:
        raise ConfigError(f"the kind of shards {kind!r} does not exist", f"use one of {', '.join(_WRITERS)}")
    if shard_bytes < 1:
        raise ConfigError(f"the shard size is {shard_bytes} bytes", "use a size above 0")
    check_output_folder(target)
    if not len(data):
        raise InputError(f"the dataset {data.name} is empty", "add images first")
    with output_folder(target) as temporary, progress.task(f"Writing {target.name}", len(data)) as task:
        return _fill(data, temporary, kind, shard_bytes, task)


def _fill(data: Dataset, folder: Path, kind: ShardKind, shard_bytes: int, task: ProgressTask) -> ShardIndex:
    shards: list[Shard] = []
    locations: list[tuple[int, int, int]] = []
    first = 0
    for number, samples in enumerate(_chunks(data, shard_bytes)):
        path = folder / f"shard-{number:05d}.{kind}"
        locations += [(number, offset, length) for offset, length in _WRITERS[kind](path, samples, first)]
        shards.append(Shard(path.name, first, len(samples), path.stat().st_size, digest_file(path)))
        first += len(samples)
        task.advance(len(samples))
    _write_table(data.samples, locations, folder / TABLE_FILE)
    index = ShardIndex(
        LAYOUT, kind, data.name, data.digest, first, digest_file(folder / TABLE_FILE), tuple(shards), data.findings
    )
    (folder / INDEX_FILE).write_text(json.dumps(encode(index), indent=1), encoding="utf-8")
    return index


def _chunks(data: Dataset, chunk_bytes: int) -> Iterator[list[EncodedSample]]:
    """The samples in order; a chunk is closed as soon as its images reach ``chunk_bytes``."""
    chunk: list[EncodedSample] = []
    size = 0
    for sample in data:
        content = data.read(sample)
        chunk.append((sample, content))
        size += len(content)
        if size >= chunk_bytes:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _write_parquet(path: Path, samples: Sequence[EncodedSample], first: int) -> list[tuple[int, int]]:
    rows = [{**_cells(sample), "image": content} for sample, content in samples]
    schema = parquet.own_schema().with_metadata({b"layout": parquet.LAYOUT})
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, path, row_group_size=ROWS_PER_GROUP, compression="none")  # images are compressed already
    return [(row, len(content)) for row, (_, content) in enumerate(samples)]


def _write_tar(path: Path, samples: Sequence[EncodedSample], first: int) -> list[tuple[int, int]]:
    locations = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for position, (sample, content) in enumerate(samples, first):
            locations.append((_add(archive, f"{position:09d}.{_suffix(content)}", content), len(content)))
            _add(archive, f"{position:09d}.json", json.dumps(encode(sample), ensure_ascii=False).encode())
            if sample.caption:
                _add(archive, f"{position:09d}.txt", sample.caption.encode())
    return locations


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> int:
    """Append a file without date or owner; returns the offset of its content."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))
    return int(archive.offset) - -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _suffix(content: bytes) -> str:
    return next((suffix for start, suffix in SUFFIXES.items() if content.startswith(start)), "bin")


def _write_table(samples: Sequence[Sample], locations: Sequence[tuple[int, int, int]], path: Path) -> None:
    rows = [
        {**_cells(sample), "shard": shard, "offset": offset, "length": length}
        for sample, (shard, offset, length) in zip(samples, locations, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=index_schema()), path, compression="zstd")


def _cells(sample: Sample) -> dict[str, Any]:
    plain = {name: getattr(sample, name) for name in ("id", "concept", "licence", "source", "split")}
    return {**plain, "sha256": sample.image, "captions": encode(sample.captions), "groups": list(sample.groups.items())}


_WRITERS = {"parquet": _write_parquet, "tar": _write_tar}
