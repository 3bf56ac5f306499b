"""One way in for every kind of data."""

from __future__ import annotations

from pathlib import Path

from clerestory.core import extensions
from clerestory.core.errors import DataError, closest
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset
from clerestory.data import parquet
from clerestory.data.icons import open_icons


def open_data(spec: str | Path, progress: Progress = QUIET) -> Dataset:
    """Open data: ``icons``, a folder, a ``.parquet``, ``.csv`` or ``.jsonl`` file, or a registered extension.

    Raises:
        DataError: there is nothing of that name, or nothing in it can be read.
    """
    if str(spec) == "icons":
        return open_icons(progress)
    path = Path(spec).expanduser()
    if path.suffix == ".parquet" and path.is_file():
        return parquet.open_written(path)
    known = extensions.names("data")
    fix = f"give one of {', '.join(known)} or a path"
    raise DataError(f"there is no data named {str(spec)!r}", fix, closest(str(spec), known))
