"""One function that opens every kind of data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clerestory.core import extensions
from clerestory.core.errors import DataError, closest
from clerestory.core.files import expand_user
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset
from clerestory.core.text import valid_unicode
from clerestory.data.caption_tables import SPREADSHEET_SUFFIXES
from clerestory.data.cells import language as language_tag
from clerestory.data.data_folder import DataFolder
from clerestory.data.findings import ABOUT_SPLITS, same_split
from clerestory.data.folder import ARCHIVE_SUFFIXES, FolderFiles, open_folder, open_table, sort_files, unused_findings
from clerestory.data.huggingface import HF, is_saved, open_huggingface, parquet_with_images
from clerestory.data.icons import open_icons
from clerestory.data.parquet_tables import open_parquet
from clerestory.data.shards import is_sharded, open_shards
from clerestory.data.splits import splits_by_concept
from clerestory.data.webdataset import open_archives, open_webdataset

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp"))
NEW_SPLITS, LANGUAGE = "new-splits:", "language:"
ENGLISH = "en"  # of captions whose data names no language
Reader = Callable[[Path, Progress, Sequence[str]], Dataset]

READERS: dict[str, Reader] = {
    ".parquet": open_parquet,
    **dict.fromkeys((".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".txt"), open_table),
    ".tar": open_webdataset,
}


def open_data(spec: str | Path, progress: Progress = QUIET, keep_columns: Sequence[str] = ()) -> Dataset:
    """Open data: ``icons``, a folder of images or of shards, a file (``.parquet``, ``.csv``, ``.jsonl``), ``hf:…``.

    An extension opens by the name under which it is registered. ``new-splits:`` before any of these divides the samples
    anew into train, val and test, in place of the splits that the source assigns; ``language:de:`` is the language of
    the captions for which the data names none.

    Unreadable images, empty captions, duplicate ids and missing files are skipped and listed in the ``findings`` of the
    dataset. Images are read when they are needed, not when the data is opened.

    Args:
        spec: a name or a path.
        progress: advanced by every image.
        keep_columns: columns of a table whose full values become groups; each row is then a separate sample, even if
            several share an image, and has a split only if the table has one.

    Raises:
        DataError: unknown name, no readable image, or a column of ``keep_columns`` does not exist.
        MissingExtra: ``hf:`` needs the library ``datasets``.
    """
    text = str(spec)
    if text.startswith(NEW_SPLITS):
        return with_new_splits(open_data(text.removeprefix(NEW_SPLITS), progress, keep_columns))
    if text.startswith(LANGUAGE):
        language, rest = _split_language(text)
        return with_language(open_data(rest, progress, keep_columns), language)
    if not text.strip():
        raise DataError("the name of the data is empty", "name a folder, a table or hf:org/name")
    path = expand_user(spec)
    known = known_names()
    if text == "icons":
        return open_icons(progress)
    if isinstance(spec, str) and text in known:
        dataset: Dataset = extensions.find("data", text)(progress)
        return dataset
    if text.startswith(HF):
        return open_huggingface(text, progress, keep_columns)
    if path.is_dir() and is_sharded(path):
        return open_shards(path)
    if path.is_dir():
        return _open_folder(path, progress, keep_columns)
    if path.is_file():
        reader = READERS.get(path.suffix.lower())
        if reader is None:
            raise DataError(f"{path} has an unknown format", _fix_of_format(path))
        return reader(path, progress, keep_columns)
    raise _does_not_exist(text, path)


def check_exists(spec: str, names: Sequence[str] = ()) -> None:
    """Check at once, without opening it, that there is what a source names; data of a hub may still be missing.

    Args:
        spec: the source.
        names: further names of data, to suggest the intended one.

    Raises:
        DataError: there is no such data.
    """
    text = bare_source(spec)
    if text.strip() and text not in known_names() and not text.startswith(HF) and not expand_user(text).exists():
        raise _does_not_exist(text, expand_user(text), names)


def known_names() -> list[str]:
    """The names of the built-in datasets."""
    return sorted({"icons", *extensions.names("data")})


def _does_not_exist(text: str, path: Path, names: Sequence[str] = ()) -> DataError:
    known = known_names()
    fix = f"use {', '.join(known)}, hf:org/name, or the path of a folder or of a file ending in {', '.join(READERS)}"
    return DataError(f"the data {text!r} does not exist", fix, closest(text, [*names, *known, *_neighbours(path)]))


def _fix_of_format(path: Path) -> str:
    """What to do with a file that is not a source of data."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return f"name its folder, {path.parent}, instead of the single image"
    if suffix in ARCHIVE_SUFFIXES:
        return "unpack it, then name the folder"
    if suffix in SPREADSHEET_SUFFIXES:
        return "save it as CSV (in Excel: CSV UTF-8), then name that file"
    return f"name a folder, or a file ending in {', '.join(READERS)}"


def _open_folder(path: Path, progress: Progress, keep_columns: Sequence[str]) -> Dataset:
    """Open a folder: as a saved Hugging Face dataset, as archives, as Parquet with images, else as images."""
    if is_saved(path):
        return open_huggingface(f"{HF}{path}", progress, keep_columns)
    folder = DataFolder(path)
    files = sort_files(folder)
    if files.images:
        return open_folder(folder, files, progress, keep_columns)
    archives = [file for file in files.others if file.lower().endswith(".tar")]
    tables = [file for file in files.tables if file.lower().endswith(".parquet")]
    if archives:
        rest = FolderFiles([], files.tables, [file for file in files.others if file not in archives])
        findings = [*folder.findings(), *unused_findings(rest)]
        return open_archives(folder.name, folder.root, archives, findings, progress, keep_columns)
    if any(parquet_with_images(folder.root / file) for file in tables):
        rest = FolderFiles([], [file for file in files.tables if file not in tables], files.others)
        data = open_huggingface(f"{HF}{path}", progress, keep_columns)
        data.findings = (*data.findings, *folder.findings(), *unused_findings(rest))
        return data
    return open_folder(folder, files, progress, keep_columns)


def in_language(spec: str, language: str) -> str:
    """A source whose captions are in a language, where the data names none; in place of an earlier one.

    Raises:
        DataError: this is not a language tag.
    """
    if language and not language_tag(language):
        raise DataError(f"{language!r} is not a language tag", "use a code such as de, fr or pt-BR (BCP 47)")
    new_splits = NEW_SPLITS if spec.startswith(NEW_SPLITS) else ""
    rest = bare_source(spec)
    return f"{new_splits}{LANGUAGE}{language_tag(language)}:{rest}" if language else new_splits + rest


def bare_source(spec: str) -> str:
    """A source without ``new-splits:`` and ``language:de:``: a name, a path or ``hf:…``."""
    return _split_language(spec.removeprefix(NEW_SPLITS))[1]


def _split_language(text: str) -> tuple[str, str]:
    """The language before a source, empty if there is none, and the rest."""
    language, colon, rest = text.removeprefix(LANGUAGE).partition(":")
    return (language, rest) if text.startswith(LANGUAGE) and colon else ("", text)


def with_language(data: Dataset, language: str) -> Dataset:
    """The same samples; captions that the data does not mark with another language than English are in this one."""
    samples = [
        replace(s, captions=tuple(replace(c, lang=language) if c.lang == ENGLISH else c for c in s.captions))
        for s in data
    ]
    return Dataset(data.name, samples, lambda sample: data.read(data[sample.id]), data.findings, file_of=data.file_of)


def with_new_splits(data: Dataset) -> Dataset:
    """The same samples, divided by concept into train (80 %), val and test (10 % each) like data without splits."""
    split_of_concept = splits_by_concept((sample.concept, sample.image) for sample in data)
    samples = [replace(sample, split=split_of_concept[sample.concept]) for sample in data]
    findings = [same_split(found) for found in data.findings if found.code not in ABOUT_SPLITS]
    return Dataset(data.name, samples, lambda sample: data.read(data[sample.id]), findings, file_of=data.file_of)


@dataclass(frozen=True, slots=True)
class DataSource:
    """A place of data.

    Attributes:
        spec: opens the same data from any working directory.
        name: the name that the data gets by default: that of the folder, or of the file without its suffix.
    """

    spec: str
    name: str


def locate(source: str | Path) -> DataSource:
    """The place that a source names, as ``open_data`` understands it.

    Raises:
        DataError: its path cannot be stored, because it is not UTF-8.
    """
    text = str(source)
    if text.startswith(NEW_SPLITS):
        place = locate(text.removeprefix(NEW_SPLITS))
        return DataSource(NEW_SPLITS + place.spec, place.name)
    if text.startswith(LANGUAGE):
        language, rest = _split_language(text)
        place = locate(rest)
        return DataSource(in_language(place.spec, language), place.name)
    if text in {"icons", *extensions.names("data")}:
        return DataSource(text, text)
    prefix, configuration = "", ""
    if text.startswith(HF):
        name, hash_, rest = text.removeprefix(HF).partition("#")
        prefix, configuration = HF, hash_ + rest
        text = name
    path = expand_user(text)
    if not text or not path.exists():
        return DataSource(str(source), str(source))
    path = path.resolve()
    if valid_unicode(str(path)) != str(path):
        raise DataError(f"the path {valid_unicode(str(path))} is not UTF-8", "rename the folder or the file")
    return DataSource(f"{prefix}{path}{configuration}", path.name if path.is_dir() else path.stem)


def _neighbours(path: Path) -> list[str]:
    """The files beside a path that does not exist, to suggest the intended one."""
    try:
        return [str(path.with_name(other.name)) for other in path.parent.iterdir()][:1000]
    except (OSError, ValueError):
        return []
