"""Hugging Face data sets: ``hf:org/name``, ``hf:org/name#configuration``, or a folder on this computer.

The library ``datasets`` is an optional extra; nothing of it is imported before such data is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from clerestory.core.errors import DataError, MissingExtra
from clerestory.core.evidence import Finding
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset, Sample
from clerestory.data import findings as data_findings
from clerestory.data.assemble import assemble
from clerestory.data.columns import PICTURE, SPLITS, Columns, Entry
from clerestory.data.image_scan import Seen, look

HF = "hf:"
SAVED = ("dataset_info.json", "dataset_dict.json", "state.json")


def open_huggingface(spec: str, progress: Progress = QUIET, keep: Sequence[str] = ()) -> Dataset:
    """Open a Hugging Face data set with all of its splits.

    The pictures are in the column whose feature is an image; labels are told by their names; captions, concepts and
    the rest are found by the names of columns that ``fields`` knows. Without a column ``id``, ids are ``split/number``.

    Args:
        spec: ``hf:org/name`` (``#configuration`` behind it where it has several), or ``hf:./folder``: what
            ``save_to_disk`` wrote, or a folder of Parquet files.
        progress: told about each split.
        keep: columns that become groups whole; see ``fields.Columns``.

    Raises:
        MissingExtra: the library ``datasets`` is not installed.
        DataError: there is no such data set, it cannot be read, or no column holds pictures.
    """
    splits = _load(spec)
    looked: list[tuple[Entry, Seen]] = []
    findings: list[Finding] = []
    rows: dict[str, tuple[Any, int, str]] = {}
    for split, table in splits.items():
        column = _picture_column(table, spec)
        plain = _undecoded(table)
        columns = Columns(table.column_names, taken=[column], keep=keep, where=spec)
        with progress.task(f"Looking at pictures of {split}", len(table)) as task:
            for number, (entry, content, noticed) in enumerate(_entries(plain, columns, column, split)):
                findings += noticed
                if content is None:
                    findings.append(data_findings.lacking(entry.where, "it holds no picture"))
                else:
                    looked.append((entry, look(content)))
                    rows.setdefault(entry.id, (plain, number, column))
                task.advance()
        findings += columns.findings()

    def read(sample: Sample) -> bytes:
        plain, number, column = rows[sample.id]
        return _bytes(plain[number][column]) or b""

    name = spec.removeprefix(HF).rstrip("/").rsplit("/", 1)[-1]
    return assemble(name, looked, read, dict.fromkeys(findings), splits=not keep)


def _entries(
    plain: Any, columns: Columns, column: str, split: str
) -> Iterator[tuple[Entry, bytes | None, list[Finding]]]:
    named = _label_names(plain)
    licence = str(getattr(plain.info, "license", "") or "")
    for number, row in enumerate(plain):
        cells = {key: _told(value, named.get(key)) for key, value in row.items() if key != column}
        entry, noticed = columns.entry(cells, f"{split}, row {number + 1}")
        entry.id = entry.id or f"{split}/{number:08d}"
        entry.licence = entry.licence or licence
        if not entry.split and split.lower() in SPLITS:
            entry.split = SPLITS[split.lower()]
        elif not entry.split:
            entry.groups.setdefault("hf_split", split)
        yield entry, _bytes(row[column]), noticed


def _library(spec: str = "a Hugging Face data set") -> Any:
    try:
        return import_module("datasets")
    except ImportError:
        raise MissingExtra(
            f"{spec} needs the library datasets, which is not installed", "pip install 'clerestory[huggingface]'"
        ) from None


def _load(spec: str) -> Mapping[str, Any]:
    """The splits by name."""
    datasets = _library(spec)
    place, _, configuration = spec.removeprefix(HF).partition("#")
    if not place:
        raise DataError("hf: alone names no data set", "write hf:org/name, or hf:./folder")
    folder = Path(place).expanduser()
    local = place.startswith((".", "/", "~")) or folder.is_dir()
    if local and not folder.is_dir():
        raise DataError(f"there is no folder {folder}", "give the folder of a data set, or hf:org/name")
    datasets.disable_progress_bars()
    try:
        if not local:
            loaded = datasets.load_dataset(place, configuration or None)
        elif any((folder / name).is_file() for name in SAVED):
            loaded = datasets.load_from_disk(str(folder))
        else:
            loaded = datasets.load_dataset("parquet", data_files=_parquet_files(folder))
    except DataError:
        raise
    except Exception as error:  # the library raises errors of many libraries below it
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        fix = (
            "check the folder"
            if local
            else "check the name and the network, or save it to a folder and give hf:./folder"
        )
        raise DataError(f"{spec} cannot be opened: {reason}", fix) from error
    return loaded if isinstance(loaded, dict) else {str(loaded.split or "all"): loaded}


def _parquet_files(folder: Path) -> dict[str, list[str]]:
    """Parquet files by split, as the hub lays them out: ``train-00000-of-00002.parquet``, ``train/0000.parquet``."""
    files: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        stem = path.stem.split("-")[0].lower()
        split = stem if stem in SPLITS else path.parent.name.lower()
        files.setdefault(split if split in SPLITS else "all", []).append(str(path))
    if not files:
        raise DataError(
            f"{folder} holds neither a saved data set nor Parquet files", "give the folder that save_to_disk wrote"
        )
    return files


def _picture_column(table: Any, spec: str) -> str:
    """The column whose feature is an image, else one of bytes; a usual name goes first."""
    image = _library(spec).Image
    holds = [name for name, feature in table.features.items() if isinstance(feature, image)]
    holds = holds or [name for name, feature in table.features.items() if _is_binary(feature)]
    usual = [name for name in holds if name.lower() in PICTURE]
    if not holds:
        raise DataError(
            f"no column of {spec} holds pictures (it has {', '.join(table.column_names)})",
            "cast the column with the pictures to datasets.Image()",
        )
    return str((usual or holds)[0])


def _is_binary(feature: Any) -> bool:
    return getattr(feature, "dtype", "") in ("binary", "large_binary")


def _undecoded(table: Any) -> Any:
    """The same rows, with encoded bytes instead of decoded pictures."""
    image = _library().Image
    for name, feature in table.features.items():
        if isinstance(feature, image):
            table = table.cast_column(name, image(decode=False))
    return table


def _label_names(table: Any) -> dict[str, list[str]]:
    label = _library().ClassLabel
    return {name: feature.names for name, feature in table.features.items() if isinstance(feature, label)}


def _told(value: Any, names: list[str] | None) -> Any:
    """A label by its name; -1 and None are no label."""
    if names is None or value is None:
        return value
    return names[value] if 0 <= value < len(names) else ""


def _bytes(value: Any) -> bytes | None:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, dict):
        return None
    if value.get("bytes"):
        return bytes(value["bytes"])
    try:
        return Path(value.get("path") or "").read_bytes()
    except OSError:
        return None
