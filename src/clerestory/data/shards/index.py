"""What the index of a sharded data set says.

A folder of shards holds ``shards.json`` (this noun), ``index.parquet`` (one row a sample: everything known of it, its
shard, and where in the shard its picture lies) and the shards themselves.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from clerestory.core.codec import decode
from clerestory.core.errors import ConfigError, IntegrityError
from clerestory.core.evidence import Finding
from clerestory.data import parquet

LAYOUT = "clerestory.shards.1"
NAME, TABLE = "shards.json", "index.parquet"
Kind = Literal["parquet", "tar"]
SCHEMA = pa.schema(
    [
        *(field for field in parquet.SCHEMA if field.name != "picture"),
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of samples.

    Attributes:
        file: its name in the folder.
        first: position of its first sample in the data set.
        samples: how many it holds.
        bytes: its size.
        sha256: of the whole file.
    """

    file: str
    first: int
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Index:
    """A data set's shards.

    Attributes:
        layout: version of this layout.
        kind: ``parquet``: ``offset`` is the row in the shard; ``tar``: it is the picture's first byte in the shard.
        name: of the data set.
        digest: of the data set.
        size: samples in all shards.
        table_sha256: of ``index.parquet``.
        shards: in the order of their samples.
        findings: what was noticed when the data came in.
    """

    layout: str
    kind: Kind
    name: str
    digest: str
    size: int
    table_sha256: str
    shards: tuple[Shard, ...]
    findings: tuple[Finding, ...] = ()


def is_sharded(folder: Path) -> bool:
    """Whether a folder holds shards that Clerestory wrote."""
    return (folder / NAME).is_file()


def read_index(folder: Path) -> Index:
    """The index of a folder of shards.

    Raises:
        IntegrityError: it is damaged, or the shards it names do not add up.
    """
    path = folder / NAME
    try:
        index = decode(Index, json.loads(path.read_text(encoding="utf-8")), path.name)
    except (OSError, ValueError, ConfigError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}", "write the shards again") from None
    first = 0
    for shard in index.shards:
        if shard.first != first or shard.samples < 1 or Path(shard.file).name != shard.file:
            raise IntegrityError(f"{path} does not count its shards right ({shard.file})", "write the shards again")
        first += shard.samples
    if first != index.size or index.layout != LAYOUT:
        raise IntegrityError(f"{path} speaks of {index.size} samples, its shards of {first}", "write the shards again")
    return index
