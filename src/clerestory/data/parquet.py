"""Clerestory's own Parquet layout: one row a sample, the picture's bytes in it, and a side file with the digests.

Columns: ``id``, ``picture`` (encoded bytes), ``sha256`` (of the picture), ``captions`` (list of text, lang, kind),
``concept``, ``groups`` (map), ``licence``, ``source``, ``split``. Beside ``x.parquet`` lies ``x.parquet.json`` with the
SHA-256 of the file and the digest of the data set, so that opening it again is one pass of hashing.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clerestory.core.codec import Tags, decode, encode
from clerestory.core.digest import digest_file
from clerestory.core.errors import ConfigError, DataError, IntegrityError
from clerestory.core.evidence import Finding
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.data.cache import appearing

ROWS = 512
KEEP_BYTES = 512 * 2**20
LAYOUT = b"clerestory.samples.1"
_CAPTION = pa.struct([("text", pa.string()), ("lang", pa.string()), ("kind", pa.string())])
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("picture", pa.binary()),
        ("sha256", pa.string()),
        ("captions", pa.list_(_CAPTION)),
        ("concept", pa.string()),
        ("groups", pa.map_(pa.string(), pa.string())),
        ("licence", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
    ]
)


def side_file(path: Path) -> Path:
    """Where the digests of a Parquet file are kept."""
    return path.with_name(path.name + ".json")


def write(dataset: Dataset, path: Path, facts: dict[str, str] | None = None, progress: Progress = QUIET) -> str:
    """Write a data set with its pictures; returns the SHA-256 of the file. Pictures pass through in small groups."""
    schema = SCHEMA.with_metadata({b"layout": LAYOUT})
    with appearing(path) as temporary:
        with (
            pq.ParquetWriter(temporary, schema, compression={"captions.list.element.text": "zstd"}) as writer,
            progress.task(f"Writing {path.name}", len(dataset)) as task,
        ):
            for start in range(0, len(dataset), ROWS):
                rows = dataset.samples[start : start + ROWS]
                writer.write_table(pa.Table.from_pylist([_row(dataset, sample) for sample in rows], schema=schema))
                task.advance(len(rows))
        sha256 = digest_file(temporary)
    note = {
        "sha256": sha256,
        "digest": dataset.digest,
        "name": dataset.name,
        "findings": encode(dataset.findings),
        "facts": facts or {},
    }
    with appearing(side_file(path)) as temporary:
        temporary.write_text(json.dumps(note, indent=1, sort_keys=True), encoding="utf-8")
    return sha256


def _row(dataset: Dataset, sample: Sample) -> dict[str, Any]:
    return {
        "id": sample.id,
        "picture": dataset.read(sample),
        "sha256": sample.image,
        "captions": encode(sample.captions),
        "concept": sample.concept,
        "groups": list(sample.groups.items()),
        "licence": sample.licence,
        "source": sample.source,
        "split": sample.split,
    }


@dataclass(frozen=True, slots=True)
class Side:
    """What the side file says of a Parquet file."""

    sha256: str
    digest: str
    name: str
    findings: tuple[Finding, ...] = ()
    facts: Tags = Tags()


def read_side(path: Path) -> Side | None:
    """The side file of ``path``; None where there is none or it cannot be read."""
    try:
        return decode(Side, json.loads(side_file(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, ConfigError):
        return None


def open_written(path: Path, name: str = "") -> Dataset:
    """Open a file that ``write`` made, whose side file lies beside it.

    Raises:
        IntegrityError: the file is not the one the side file speaks of.
        DataError: there is no side file.
    """
    side = read_side(path)
    if side is None:
        raise DataError(f"{side_file(path)} is missing or unreadable", "save the data set again")
    if digest_file(path) != side.sha256:
        raise IntegrityError(f"{path} has changed since it was written", "delete it, and make it again")
    pictures = Pictures(path, "picture")
    samples = read_samples(pictures.file)
    pictures.ids = {sample.id: row for row, sample in enumerate(samples)}
    return Dataset(name or side.name, samples, pictures.read, side.findings, side.digest)


def read_samples(file: pq.ParquetFile) -> list[Sample]:
    """The samples of a file in this layout, in the order of its rows, without their pictures."""
    table = file.read(columns=[name for name in SCHEMA.names if name != "picture"]).combine_chunks()
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
    """The captions of every row; equal captions are one object, since most are shared between pictures."""
    known: dict[tuple[str, str, str], Caption] = {}
    rows: list[tuple[Caption, ...]] = []
    for chunk in column.chunks:
        words = chunk.flatten()
        parts = zip(*(words.field(i).to_pylist() for i in range(3)), strict=True)
        flat = [known.get(part) or known.setdefault(part, Caption(*part)) for part in parts]
        ends = chunk.offsets.to_pylist()
        first = ends[0]
        rows.extend(tuple(flat[a - first : b - first]) for a, b in zip(ends, ends[1:], strict=False))
    return rows


class Pictures:
    """Picture bytes of a Parquet file by sample, read when asked for.

    A file whose pictures take at most ``KEEP_BYTES`` is held whole after the first read; of a larger one only the
    last few row groups are. Safe to use from several threads.

    Args:
        path: the file; it is kept open, so that it may be replaced meanwhile.
        column: where the bytes are.
    """

    def __init__(self, path: Path, column: str) -> None:
        self.file = pq.ParquetFile(path, memory_map=True)
        self.ids: dict[str, int] = {}
        self._column = column
        meta = self.file.metadata
        self._starts = _starts(meta)
        size = sum(_bytes_in(meta, group, column) for group in range(meta.num_row_groups))
        self._room = meta.num_row_groups if size <= KEEP_BYTES else 4
        self._groups: OrderedDict[int, pa.ChunkedArray] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, sample: Sample) -> bytes:
        """The encoded bytes of a sample's picture."""
        return self.row(self.ids[sample.id])

    def row(self, number: int) -> bytes:
        """The encoded bytes of the picture in a row."""
        group = bisect_right(self._starts, number) - 1
        with self._lock:
            if group in self._groups:
                self._groups.move_to_end(group)
            else:
                self._groups[group] = self.file.read_row_group(group, columns=[self._column]).column(0)
                while len(self._groups) > self._room:
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
