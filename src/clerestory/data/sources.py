"""One way in for every kind of data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clerestory.core import extensions
from clerestory.core.errors import DataError, closest
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset
from clerestory.data.folder import open_folder, open_table
from clerestory.data.huggingface import HF, open_huggingface
from clerestory.data.icons import open_icons
from clerestory.data.parquet_tables import open_parquet
from clerestory.data.shards import is_sharded, open_shards

READERS = {".parquet": open_parquet, ".csv": open_table, ".jsonl": open_table}


def open_data(spec: str | Path, progress: Progress = QUIET, keep: Sequence[str] = ()) -> Dataset:
    """Open data: ``icons``, a folder of pictures or of shards, a file (``.parquet``, ``.csv``, ``.jsonl``), ``hf:…``.

    An extension registered under a name opens by that name.

    Pictures that cannot be read, empty captions, ids used twice and missing files are kept out and named in the
    data set's ``findings``. Pictures are read when they are asked for, not when the data is opened.

    Args:
        spec: a name or a path.
        progress: who is told how far it is.
        keep: columns of a table that become groups whole, however long their values are; each row is then a sample
            of its own, even where several are about one picture, and has a split only where the table says so.

    Raises:
        DataError: there is nothing of that name, or nothing in it can be read; a column to keep is not there.
        MissingExtra: ``hf:`` needs the library ``datasets``.
    """
    text = str(spec)
    path = Path(spec).expanduser()
    known = sorted({"icons", *extensions.names("data")})
    if text == "icons":
        return open_icons(progress)
    if isinstance(spec, str) and text in known:
        dataset: Dataset = extensions.find("data", text)(progress)
        return dataset
    if text.startswith(HF):
        return open_huggingface(text, progress, keep)
    if path.is_dir() and is_sharded(path):
        return open_shards(path)
    if path.is_dir():
        return open_folder(path, progress, keep)
    if path.is_file():
        reader = READERS.get(path.suffix.lower())
        if reader is None:
            raise DataError(f"{path} is of no known kind", f"give a folder, or a file ending in {', '.join(READERS)}")
        return reader(path, progress, keep)
    fix = f"give {', '.join(known)}, hf:org/name, or the path of a folder or of a file ending in {', '.join(READERS)}"
    raise DataError(f"there is no data named {text!r}", fix, closest(text, [*known, *_neighbours(path)]))


def _neighbours(path: Path) -> list[str]:
    """What lies beside a path that does not exist, to suggest what was meant."""
    try:
        return [str(path.with_name(other.name)) for other in path.parent.iterdir()][:1000]
    except (OSError, ValueError):
        return []
