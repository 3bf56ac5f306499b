"""The index of a sharded dataset.

A folder of shards contains ``shards.json`` (a ``ShardIndex``), ``index.parquet`` (one row per sample: its fields, its
shard, and the position of its image in the shard) and the shards themselves.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from clerestory.core.codec import decode
from clerestory.core.errors import ConfigError, IntegrityError
from clerestory.core.evidence import Finding
from clerestory.data import parquet
from clerestory.data.optional import pa

LAYOUT = "clerestory.shards.1"
INDEX_FILE, TABLE_FILE = "shards.json", "index.parquet"
ShardKind = Literal["parquet", "tar"]


@cache
def index_schema() -> pa.Schema:
    """The columns of the index."""
    own = (field for field in parquet.own_schema() if field.name != "image")
    return pa.schema([*own, ("shard", pa.int32()), ("offset", pa.int64()), ("length", pa.int64())])


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of samples.

    Attributes:
        file: its name in the folder.
        first: the position of its first sample in the dataset.
        samples: the number of samples.
        bytes: the size of the file.
        sha256: of the whole file.
    """

    file: str
    first: int
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """The shards of a dataset.

    Attributes:
        layout: version of this layout.
        kind: ``parquet``: ``offset`` is the row in the shard; ``tar``: it is the first byte of the image in the shard.
        name: of the dataset.
        digest: of the dataset.
        size: the number of samples in all shards.
        table_sha256: of ``index.parquet``.
        shards: in the order of their samples.
        findings: those of the dataset.
    """

    layout: str
    kind: ShardKind
    name: str
    digest: str
    size: int
    table_sha256: str
    shards: tuple[Shard, ...]
    findings: tuple[Finding, ...] = ()


def is_sharded(folder: Path) -> bool:
    """Whether a folder contains shards that Clerestory wrote."""
    return (folder / INDEX_FILE).is_file()


def read_index(folder: Path) -> ShardIndex:
    """The index of a folder of shards.

    Raises:
        IntegrityError: it is damaged or inconsistent.
    """
    path = folder / INDEX_FILE
    try:
        index = decode(ShardIndex, json.loads(path.read_text(encoding="utf-8")), path.name)
    except (OSError, ValueError, ConfigError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}", "write the shards again") from None
    first = 0
    for shard in index.shards:
        if shard.first != first or shard.samples < 1 or Path(shard.file).name != shard.file:
            raise IntegrityError(f"{path} is inconsistent at {shard.file}", "write the shards again")
        first += shard.samples
    if index.layout != LAYOUT:
        message = f"{path} has the layout {index.layout!r}, but this version reads {LAYOUT!r}"
        raise IntegrityError(message, "write the shards again")
    if first != index.size:
        message = f"{path} states {index.size} samples, but its shards have {first}"
        raise IntegrityError(message, "write the shards again")
    return index
