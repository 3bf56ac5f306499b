"""Clerestory's own Parquet layout: one row per sample with the bytes of its image, and a sidecar with the digests.

Columns: ``id``, ``image`` (encoded bytes), ``sha256`` (of the image), ``captions`` (list of text, lang, kind),
``concept``, ``groups`` (map), ``licence``, ``source``, ``split``. Beside ``x.parquet`` lies ``x.parquet.json`` with the
SHA-256 of the file and the digest of the dataset, so opening it again takes one pass of hashing.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from clerestory.core.codec import Tags, decode, encode
from clerestory.core.digest import digest_file
from clerestory.core.errors import ConfigError, DataError, IntegrityError
from clerestory.core.evidence import Finding
from clerestory.core.files import atomic_path, translate_disk_errors
from clerestory.core.outputs import CHOOSE_FOLDER, check_output
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.data.optional import pa, pq

ROWS_PER_GROUP = 512
CACHE_BYTES = 512 * 2**20
LAYOUT = b"clerestory.samples.2"
LAYOUTS = (LAYOUT, b"clerestory.samples.1")  # version 1 has another name for the image column


@cache
def own_schema() -> pa.Schema:
    """The columns of our own layout."""
    caption = pa.struct([("text", pa.string()), ("lang", pa.string()), ("kind", pa.string())])
    return pa.schema(
        [
            ("id", pa.string()),
            ("image", pa.binary()),
            ("sha256", pa.string()),
            ("captions", pa.list_(caption)),
            ("concept", pa.string()),
            ("groups", pa.map_(pa.string(), pa.string())),
            ("licence", pa.string()),
            ("source", pa.string()),
            ("split", pa.string()),
        ]
    )


def sidecar_path(path: Path) -> Path:
    """The file with the digests of a Parquet file."""
    return path.with_name(path.name + ".json")


def save_parquet(dataset: Dataset, path: str | Path, force: bool = False) -> Path:
    """Write a dataset with its images, so that ``open_data(path)`` gives the same digest on any machine.

    The file appears whole or not at all; ``path`` gets the suffix ``.parquet`` if it has another one. A small ``.json``
    file beside it contains the digests, which makes opening it again fast.

    Args:
        dataset: what to write.
        path: the Parquet file, in an existing folder.
        force: replace existing files.

    Raises:
        InputError: the folder does not exist or is not writable, or one of the files exists.
    """
    target = Path(path)
    if target.suffix != ".parquet":
        target = target.with_name(target.name + ".parquet")
    check_output(target, force)
    check_output(sidecar_path(target), force)
    with translate_disk_errors(target.parent, CHOOSE_FOLDER):
        write_dataset(dataset, target)
    return target


def write_dataset(
    dataset: Dataset, path: Path, cache_keys: dict[str, str] | None = None, progress: Progress = QUIET
) -> str:
    """Write a dataset with its images, a group of rows at a time; returns the SHA-256 of the file.

    Args:
        dataset: what to write.
        path: the Parquet file; the sidecar is written beside it.
        cache_keys: stored in the sidecar, such as what the images were rendered from.
        progress: advanced by every sample.
    """
    schema = own_schema().with_metadata({b"layout": LAYOUT})
    with atomic_path(path) as temporary:
        with (
            pq.ParquetWriter(temporary, schema, compression={"captions.list.element.text": "zstd"}) as writer,
            progress.task(f"Writing {path.name}", len(dataset)) as task,
        ):
            for start in range(0, len(dataset), ROWS_PER_GROUP):
                rows = dataset.samples[start : start + ROWS_PER_GROUP]
                writer.write_table(pa.Table.from_pylist([_row(dataset, sample) for sample in rows], schema=schema))
                task.advance(len(rows))
        sha256 = digest_file(temporary)
    sidecar = {
        "sha256": sha256,
        "digest": dataset.digest,
        "name": dataset.name,
        "findings": encode(dataset.findings),
        "cache_keys": cache_keys or {},
    }
    with atomic_path(sidecar_path(path)) as temporary:
        temporary.write_text(json.dumps(sidecar, indent=1, sort_keys=True), encoding="utf-8")
    return sha256


def _row(dataset: Dataset, sample: Sample) -> dict[str, Any]:
    return {
        "id": sample.id,
        "image": dataset.read(sample),
        "sha256": sample.image,
        "captions": encode(sample.captions),
        "concept": sample.concept,
        "groups": list(sample.groups.items()),
        "licence": sample.licence,
        "source": sample.source,
        "split": sample.split,
    }


@dataclass(frozen=True, slots=True)
class ParquetSidecar:
    """The content of the sidecar of a Parquet file.

    Attributes:
        sha256: of the file.
        digest, name, findings: of the dataset.
        cache_keys: what its content was made from, for files in the cache.
    """

    sha256: str
    digest: str
    name: str
    findings: tuple[Finding, ...] = ()
    cache_keys: Tags = Tags()


def read_sidecar(path: Path) -> ParquetSidecar | None:
    """The sidecar of ``path``; None if it does not exist or cannot be read."""
    try:
        return decode(ParquetSidecar, json.loads(sidecar_path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, ConfigError):
        return None


def open_dataset(path: Path, name: str = "") -> Dataset:
    """Open a file that ``write_dataset`` wrote, with its sidecar.

    Raises:
        IntegrityError: the file does not match its sidecar.
        DataError: the sidecar is missing or unreadable.
    """
    sidecar = read_sidecar(path)
    if sidecar is None:
        raise DataError(f"{sidecar_path(path)} is missing or unreadable", "save the dataset again")
    if digest_file(path) != sidecar.sha256:
        raise IntegrityError(f"{path} has changed since it was written", "delete it and write it again")
    images = ParquetImages(path)
    samples = read_samples(images.file)
    images.rows = {sample.id: row for row, sample in enumerate(samples)}
    return Dataset(name or sidecar.name, samples, images.read, sidecar.findings, sidecar.digest)


def read_samples(file: pq.ParquetFile) -> list[Sample]:
    """The samples of a file in this layout, in the order of its rows, without their images."""
    table = file.read(columns=[name for name in own_schema().names if name != "image"]).combine_chunks()
    plain = [table[name].to_pylist() for name in ("id", "sha256", "concept", "licence", "source", "split")]
    captions = _captions(table["captions"])
    tags: dict[tuple[tuple[str, str], ...], Tags] = {}
    samples = []
    for row, groups in enumerate(table["groups"].to_pylist()):
        key = tuple(groups)
        groups = tags.get(key) or tags.setdefault(key, Tags(dict(key)))
        name, image, concept, licence, source, split = (column[row] for column in plain)
        samples.append(Sample(name, image, captions[row], concept, groups, licence, source, split))
    return samples


def _captions(column: pa.ChunkedArray) -> list[tuple[Caption, ...]]:
    """The captions of every row; equal captions are one object, since most are shared between images."""
    known: dict[tuple[str, str, str], Caption] = {}
    rows: list[tuple[Caption, ...]] = []
    for chunk in column.chunks:
        structs = chunk.flatten()
        parts = zip(*(structs.field(i).to_pylist() for i in range(3)), strict=True)
        flat = [known.get(part) or known.setdefault(part, Caption(*part)) for part in parts]
        ends = chunk.offsets.to_pylist()
        first = ends[0]
        rows.extend(tuple(flat[a - first : b - first]) for a, b in zip(ends, ends[1:], strict=False))
    return rows


class ParquetImages:
    """The images of a Parquet file by sample, read when they are needed.

    All images of a file of up to ``CACHE_BYTES`` stay in memory after the first read, and the last few row groups of a
    larger one. Safe to use from several threads.

    Args:
        path: the file; it stays open, so it may be replaced while it is read.
        column: the column of the bytes; by default the first binary column.

    Attributes:
        file: the open file.
        rows: the row of every sample, by id; the caller fills it in.
    """

    def __init__(self, path: Path, column: str = "") -> None:
        self.file = pq.ParquetFile(path, memory_map=True)
        self.rows: dict[str, int] = {}
        self._column = column = column or image_column(self.file.schema_arrow)
        meta = self.file.metadata
        self._starts = _starts(meta)
        size = sum(_bytes_in(meta, group, column) for group in range(meta.num_row_groups))
        self._max_groups = meta.num_row_groups if size <= CACHE_BYTES else 4
        self._groups: OrderedDict[int, pa.ChunkedArray] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, sample: Sample) -> bytes:
        """The encoded bytes of the image of a sample."""
        return self.read_row(self.rows[sample.id])

    def read_row(self, number: int) -> bytes:
        """The encoded bytes of the image in a row."""
        group = bisect_right(self._starts, number) - 1
        with self._lock:
            if group in self._groups:
                self._groups.move_to_end(group)
            else:
                self._groups[group] = self.file.read_row_group(group, columns=[self._column]).column(0)
                while len(self._groups) > self._max_groups:
                    self._groups.popitem(last=False)
            value = self._groups[group][number - self._starts[group]].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        return bytes(content or b"")


def _starts(meta: Any) -> list[int]:
    starts, row = [], 0
    for group in range(meta.num_row_groups):
        starts.append(row)
        row += meta.row_group(group).num_rows
    return starts


def _bytes_in(meta: Any, group: int, column: str) -> int:
    row_group = meta.row_group(group)
    columns: Iterable[Any] = (row_group.column(i) for i in range(row_group.num_columns))
    return sum(c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] == column)


def image_column(schema: pa.Schema, preferred: Collection[str] = ()) -> str:
    """The column with encoded bytes: binary, or a struct with a ``bytes`` field; empty if there is none.

    Args:
        schema: of the file.
        preferred: lower-case names that are preferred if several columns qualify.
    """
    columns: list[str] = [field.name for field in schema if _is_bytes(field.type)]
    return ([name for name in columns if name.lower() in preferred] or columns or [""])[0]


def is_own_layout(schema: pa.Schema) -> bool:
    """Whether ``write_dataset`` wrote a file of this schema."""
    types = {field.name: field.type for field in schema}
    known = all(types.get(field.name) == field.type for field in own_schema() if field.name != "image")
    return known and (schema.metadata or {}).get(b"layout") in LAYOUTS


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_bytes(kind.field(index).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
