"""Any sample of a sharded data set, by its position, without reading what lies before it."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clerestory.core.digest import digest_bytes, digest_file
from clerestory.core.errors import IntegrityError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset, Sample
from clerestory.data import parquet
from clerestory.data.shards.index import TABLE, Index, Shard, read_index

OPEN = 64  # shards kept open at a time
AGAIN = "copy the shard again, or write the shards again"


class Shards:
    """The samples of a folder of shards, by position: a map-style data set, as torch's ``DataLoader`` takes it.

    Only the index is read when it is opened; a picture is read, and held against its digest, when it is asked for.
    Safe to use from several threads, in forked workers and, pickled, in spawned ones.

    Args:
        folder: what ``write_shards`` wrote.

    Raises:
        IntegrityError: the index is damaged, or a shard is missing or not of the size it had; names the file.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).resolve()
        self.index: Index = read_index(self.folder)
        table_path = self.folder / TABLE
        for shard in self.index.shards:
            _check_size(self.folder / shard.file, shard)
        if not table_path.is_file() or digest_file(table_path) != self.index.table_sha256:
            raise IntegrityError(f"{table_path} is missing or has changed since it was written", AGAIN)
        file = pq.ParquetFile(table_path)
        self.samples: tuple[Sample, ...] = tuple(parquet.read_samples(file))
        places = file.read(columns=["shard", "offset", "length"])
        self._shard, self._offset, self._length = (places.column(i).to_numpy() for i in range(3))
        self._open()

    def __len__(self) -> int:
        return self.index.size

    def __getitem__(self, position: int) -> tuple[Sample, bytes]:
        """A sample and its picture's encoded bytes.

        Raises:
            IntegrityError: the shard it lies in is damaged; names the shard.
        """
        return self.samples[position], self.read(position)

    def read(self, position: int) -> bytes:
        """The encoded bytes of the picture at one position."""
        shard = self.index.shards[int(self._shard[position])]
        path = self.folder / shard.file
        try:
            content = self._reader(path)(int(self._offset[position]), int(self._length[position]))
        except (OSError, pa.ArrowException, IndexError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise IntegrityError(f"{path} cannot be read: {reason}", AGAIN) from None
        if digest_bytes(content) != self.samples[position].image:
            raise IntegrityError(f"{path} is damaged: {self.samples[position].id} is not what was written", AGAIN)
        return content

    def _reader(self, path: Path) -> Callable[[int, int], bytes]:
        with self._lock:
            if self._process != os.getpid():  # a forked worker shares no file handles with its parent
                self._open()
            if path not in self._readers:
                self._readers[path] = _Tar(path) if self.index.kind == "tar" else _Parquet(path)
                if len(self._readers) > OPEN:
                    self._readers.popitem(last=False)
            self._readers.move_to_end(path)
            return self._readers[path]

    def _open(self) -> None:
        self._process, self._lock = os.getpid(), threading.Lock()
        self._readers: OrderedDict[Path, _Tar | _Parquet] = OrderedDict()

    def __reduce__(self) -> tuple[type[Shards], tuple[Path]]:
        return Shards, (self.folder,)


class _Tar:
    """Bytes at an offset."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def __call__(self, offset: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), length, offset)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


class _Parquet:
    """A row's picture; its row group is read for it."""

    def __init__(self, path: Path) -> None:
        self._pictures = parquet.Pictures(path, "picture")

    def __call__(self, offset: int, length: int) -> bytes:
        return self._pictures.row(offset)


def open_shards(folder: Path | str) -> Dataset:
    """A folder of shards as a data set, with the digest it was written with.

    Raises:
        IntegrityError: see ``Shards``; the digest of the samples is not the one that was written.
    """
    shards = Shards(folder)
    place = {sample.id: position for position, sample in enumerate(shards.samples)}
    data = Dataset(
        shards.index.name, shards.samples, lambda sample: shards.read(place[sample.id]), shards.index.findings
    )
    if data.digest != shards.index.digest:
        raise IntegrityError(f"{shards.folder} does not hold the data set its index speaks of", AGAIN)
    return data


def verify_shards(folder: Path | str, progress: Progress = QUIET) -> Index:
    """Read every byte of every shard.

    Raises:
        IntegrityError: names the first shard that is not what was written.
    """
    shards = Shards(folder)
    with progress.task("Reading shards", len(shards.index.shards)) as task:
        for shard in shards.index.shards:
            path = shards.folder / shard.file
            if digest_file(path) != shard.sha256:
                raise IntegrityError(f"{path} is damaged: it has changed since it was written", AGAIN)
            task.advance()
    return shards.index


def _check_size(path: Path, shard: Shard) -> None:
    try:
        size = path.stat().st_size
    except OSError:
        raise IntegrityError(f"{path} is missing", AGAIN) from None
    if size != shard.bytes:
        raise IntegrityError(f"{path} has {size} bytes and had {shard.bytes}: it is damaged or cut off", AGAIN)
