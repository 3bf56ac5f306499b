"""Hugging Face datasets: ``hf:org/name``, ``hf:org/name#configuration``, or a folder on this computer.

The library ``datasets`` is an optional extra; it is imported only when such data is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from clerestory.core.errors import DataError, MissingExtra
from clerestory.core.evidence import Finding
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset
from clerestory.data import findings as data_findings
from clerestory.data import parquet
from clerestory.data.assemble import assemble
from clerestory.data.columns import IMAGE_COLUMNS, SPLIT_NAMES, Columns, RawRow
from clerestory.data.findings import IncompleteRow
from clerestory.data.identity import ScannedRow
from clerestory.data.image_scan import scan_image
from clerestory.data.optional import pa, pq

HF = "hf:"
SAVED_FILES = ("dataset_info.json", "dataset_dict.json", "state.json")


def open_huggingface(spec: str, progress: Progress = QUIET, keep_columns: Sequence[str] = ()) -> Dataset:
    """Open a Hugging Face dataset with all of its splits.

    The images are in the column with the feature ``Image``; class labels become their names; captions, concepts and
    the rest are in the columns that ``Columns`` knows. Without a column ``id``, ids are ``split/number``.

    Args:
        spec: ``hf:org/name`` (followed by ``#configuration`` if it has several), or ``hf:./folder``, written by
            ``save_to_disk`` or with Parquet files.
        progress: advanced by every row of a split.
        keep_columns: columns whose full values become groups; see ``Columns``.

    Raises:
        MissingExtra: the library ``datasets`` is not installed.
        DataError: the dataset does not exist, cannot be read, or has no image column.
    """
    splits = _load(spec)
    root = _file_root(spec)
    tables = {split: (_undecoded(table), _image_column(table, spec)) for split, table in splits.items()}
    names = dict.fromkeys(name for table, _ in tables.values() for name in table.column_names)
    columns = Columns(names, {column for _, column in tables.values()}, keep_columns, where=spec)
    scanned: list[ScannedRow] = []
    findings: list[Finding] = []
    ids: dict[str, set[str]] = {}
    for split, (table, column) in tables.items():
        with progress.task(f"Checking images of {split}", len(table)) as task:
            for number, (raw, content, row_findings) in enumerate(_rows(table, columns, column, split, root)):
                findings += row_findings
                raw.location = (split, number)
                if content is not None:
                    scanned.append((raw, scan_image(content)))
                    ids.setdefault(split, set()).add(raw.id)
                task.advance()
    if sum(map(len, ids.values())) > len(set().union(*ids.values())):  # ids that count from 0 in each split
        for raw, _ in scanned:
            raw.id = f"{raw.location[0]}/{raw.id}"

    def read(location: tuple[str, int]) -> bytes:
        table, column = tables[location[0]]
        return _bytes(table[location[1]][column], root) or b""

    name = spec.removeprefix(HF).rstrip("/").rsplit("/", 1)[-1]
    return assemble(name, scanned, read, findings, [columns], separate_rows=bool(keep_columns))


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote a folder."""
    return any((folder / file).is_file() for file in SAVED_FILES[1:])


def parquet_with_images(path: Path) -> bool:
    """Whether a Parquet file contains images, not only the names of image files."""
    try:
        with path.open("rb") as file:
            return bool(parquet.image_column(pq.read_schema(file)))
    except (pa.ArrowException, OSError):
        return False


def _rows(
    table: Any, columns: Columns, column: str, split: str, root: Path
) -> Iterator[tuple[RawRow, bytes | None, list[Finding]]]:
    labels = _label_names(table)
    licence = str(getattr(table.info, "license", "") or "")
    for number, row in enumerate(table):
        cells = {key: _label_name(value, labels.get(key)) for key, value in row.items() if key != column}
        raw, row_findings = columns.read_row(cells, f"{split}, row {number + 1}")
        raw.id = raw.id or f"{split}/{number:08d}"
        raw.licence = raw.licence or licence
        if not raw.split and split.lower() in SPLIT_NAMES:
            raw.split = SPLIT_NAMES[split.lower()]
        elif not raw.split:
            raw.groups.setdefault("hf_split", split)
        content = _bytes(row[column], root)
        if content is None:
            row_findings = [*row_findings, _without_image(raw.where, row[column], root)]
        yield raw, content, row_findings


def _library(spec: str = "a Hugging Face dataset") -> Any:
    try:
        return import_module("datasets")
    except ImportError:
        raise MissingExtra(
            f"{spec} needs the library datasets, which is not installed", "pip install 'clerestory[huggingface]'"
        ) from None


def _load(spec: str) -> Mapping[str, Any]:
    """The splits by name."""
    datasets = _library(spec)
    name, _, configuration = spec.removeprefix(HF).partition("#")
    if not name:
        raise DataError("hf: must be followed by a dataset", "write hf:org/name, or hf:./folder")
    folder = Path(name).expanduser()
    local = name.startswith((".", "/", "~")) or folder.is_dir()
    if local and not folder.is_dir():
        raise DataError(f"the folder {folder} does not exist", "name the folder of a dataset, or hf:org/name")
    datasets.disable_progress_bars()
    try:
        if not local:
            loaded = datasets.load_dataset(name, configuration or None)
        elif any((folder / file).is_file() for file in SAVED_FILES):
            loaded = datasets.load_from_disk(str(folder))
        else:
            loaded = datasets.load_dataset("parquet", data_files=_parquet_files(folder))
    except DataError:
        raise
    except Exception as error:  # datasets passes on the errors of the libraries it uses
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        fix = (
            "check the folder"
            if local
            else "check the name and the network, or save it to a folder and use hf:./folder"
        )
        raise DataError(f"{spec} cannot be opened: {reason}", fix) from error
    return loaded if isinstance(loaded, dict) else {str(loaded.split or "all"): loaded}


def _file_root(spec: str) -> Path:
    """The folder below which the cells of a dataset may name image files: its own, or the cache of downloads."""
    folder = Path(spec.removeprefix(HF).partition("#")[0]).expanduser()
    cache = Path(_library(spec).config.HF_CACHE_HOME).expanduser()
    return (folder if folder.is_dir() else cache).resolve()


def _parquet_files(folder: Path) -> dict[str, list[str]]:
    """Parquet files by split, as the hub lays them out: ``train-00000-of-00002.parquet``, ``train/0000.parquet``."""
    files: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        stem = path.stem.split("-")[0].lower()
        split = stem if stem in SPLIT_NAMES else path.parent.name.lower()
        # "all" is reserved in the library
        files.setdefault(split if split in SPLIT_NAMES else "data", []).append(str(path))
    if not files:
        raise DataError(
            f"{folder} contains neither a saved dataset nor Parquet files",
            "name the folder that save_to_disk wrote",
        )
    return files


def _image_column(table: Any, spec: str) -> str:
    """The column with the feature ``Image``, else a binary column; common names are preferred."""
    image = _library(spec).Image
    columns = [name for name, feature in table.features.items() if isinstance(feature, image)]
    columns = columns or [name for name, feature in table.features.items() if _is_binary(feature)]
    common = [name for name in columns if name.lower() in IMAGE_COLUMNS]
    if not columns:
        raise DataError(
            f"{spec} has no image column (its columns are {', '.join(table.column_names)})",
            "cast the column with the images to datasets.Image()",
        )
    return str((common or columns)[0])


def _is_binary(feature: Any) -> bool:
    return getattr(feature, "dtype", "") in ("binary", "large_binary")


def _undecoded(table: Any) -> Any:
    """The same rows, with encoded bytes instead of decoded images."""
    image = _library().Image
    for name, feature in table.features.items():
        if isinstance(feature, image):
            table = table.cast_column(name, image(decode=False))
    return table


def _label_names(table: Any) -> dict[str, list[str]]:
    label = _library().ClassLabel
    return {name: feature.names for name, feature in table.features.items() if isinstance(feature, label)}


def _label_name(value: Any, names: list[str] | None) -> Any:
    """The name of a class label; -1 and None mean that the row is not labelled."""
    if names is None or value is None:
        return value
    return names[value] if 0 <= value < len(names) else ""


def _bytes(value: Any, root: Path) -> bytes | None:
    """The bytes of an image cell; a file is only read below ``root``, since the cell may come from a stranger."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, dict):
        return None
    if value.get("bytes"):
        return bytes(value["bytes"])
    try:
        path = Path(value.get("path") or "").resolve()
        return path.read_bytes() if path.is_relative_to(root) else None
    except (OSError, ValueError):
        return None


def _without_image(where: str, value: Any, root: Path) -> Finding:
    """A row whose image is missing, or whose file cannot be read; skipped."""
    file = value.get("path") if isinstance(value, dict) else None
    if isinstance(file, str) and file:
        outside = "\0" not in file and Path(file).is_file() and not Path(file).resolve().is_relative_to(root)
        return data_findings.outside_folder(where, file) if outside else data_findings.missing_file(where, file)
    return data_findings.incomplete_row(where, IncompleteRow.NO_IMAGE)
