"""Random access to the samples of a sharded dataset."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from clerestory.core.digest import digest_bytes, digest_file
from clerestory.core.errors import IntegrityError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset, Sample
from clerestory.data import parquet
from clerestory.data.optional import pa, pq
from clerestory.data.shards.index import TABLE_FILE, Shard, ShardIndex, read_index

MAX_OPEN_SHARDS = 64
FIX = "copy the shard again, or write the shards again"


class Shards:
    """The samples of a folder of shards, by position: a map-style dataset for torch's ``DataLoader``.

    Opening reads the index only; an image is read, and compared with its digest, when it is needed. Safe to use from
    several threads, in forked workers and, pickled, in spawned ones.

    Args:
        folder: written by ``write_shards``.

    Raises:
        IntegrityError: the index is damaged, or a shard is missing or has another size; names the file.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).resolve()
        self.index: ShardIndex = read_index(self.folder)
        table_path = self.folder / TABLE_FILE
        for shard in self.index.shards:
            _check_size(self.folder / shard.file, shard)
        if not table_path.is_file() or digest_file(table_path) != self.index.table_sha256:
            raise IntegrityError(f"{table_path} is missing or has changed since it was written", FIX)
        file = pq.ParquetFile(table_path)
        self.samples: tuple[Sample, ...] = tuple(parquet.read_samples(file))
        table = file.read(columns=["shard", "offset", "length"])
        self._shard, self._offset, self._length = (table.column(i).to_numpy() for i in range(3))
        self._open()

    def __len__(self) -> int:
        return self.index.size

    def __getitem__(self, position: int) -> tuple[Sample, bytes]:
        """A sample and the encoded bytes of its image.

        Raises:
            IntegrityError: its shard is damaged; names the shard.
        """
        return self.samples[position], self.read(position)

    def read(self, position: int) -> bytes:
        """The encoded bytes of the image at one position."""
        shard = self.index.shards[int(self._shard[position])]
        path = self.folder / shard.file
        try:
            content = self._reader(path)(int(self._offset[position]), int(self._length[position]))
        except (OSError, pa.ArrowException, IndexError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise IntegrityError(f"{path} cannot be read: {reason}", FIX) from None
        if digest_bytes(content) != self.samples[position].image:
            sample = self.samples[position]
            raise IntegrityError(f"{path} is damaged: the image of {sample.id} does not match its digest", FIX)
        return content

    def _reader(self, path: Path) -> Callable[[int, int], bytes]:
        # A forked worker must not share file handles with its parent, whose lock may have been held when it forked.
        if self._process != os.getpid():
            self._open()
        with self._lock:
            if path not in self._readers:
                self._readers[path] = _Tar(path) if self.index.kind == "tar" else _Parquet(path)
                if len(self._readers) > MAX_OPEN_SHARDS:
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
    """The image of a row; its whole row group is read."""

    def __init__(self, path: Path) -> None:
        self._images = parquet.ParquetImages(path)

    def __call__(self, offset: int, length: int) -> bytes:
        return self._images.read_row(offset)


def open_shards(folder: Path | str) -> Dataset:
    """Open a folder of shards as a dataset.

    Raises:
        IntegrityError: see ``Shards``; or the digest of the samples does not match the index.
    """
    shards = Shards(folder)
    position = {sample.id: i for i, sample in enumerate(shards.samples)}
    data = Dataset(
        shards.index.name, shards.samples, lambda sample: shards.read(position[sample.id]), shards.index.findings
    )
    if data.digest != shards.index.digest:
        raise IntegrityError(f"the samples in {shards.folder} do not match the digest in its index", FIX)
    return data


def verify_shards(folder: Path | str, progress: Progress = QUIET) -> ShardIndex:
    """Read every byte of every shard.

    Raises:
        IntegrityError: a shard does not match the index; names the first one.
    """
    shards = Shards(folder)
    with progress.task("Reading shards", len(shards.index.shards)) as task:
        for shard in shards.index.shards:
            path = shards.folder / shard.file
            if digest_file(path) != shard.sha256:
                raise IntegrityError(f"{path} is damaged: it has changed since it was written", FIX)
            task.advance()
    return shards.index


def _check_size(path: Path, shard: Shard) -> None:
    try:
        size = path.stat().st_size
    except OSError:
        raise IntegrityError(f"{path} is missing", FIX) from None
    if size != shard.bytes:
        raise IntegrityError(f"{path} has {size} bytes instead of {shard.bytes}: it is damaged or truncated", FIX)
