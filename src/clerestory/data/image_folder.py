"""Writing a dataset as a folder of image files with a table, which opens as the same dataset.

The images are written byte for byte. ``captions.jsonl`` beside them has a line for each sample with every field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from clerestory.core.codec import encode
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset, Sample
from clerestory.data.data_folder import IGNORED_FOLDER, IMAGE_SUFFIXES

TABLE = "captions.jsonl"
MAX_STEM = 80  # characters of an id in the name of a file
_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp"}


def as_image_folder(data: Dataset) -> Dataset:
    """The dataset as a folder of its images opens: the source of a sample that has none is its file."""
    names = _file_names(data)
    samples = [sample if sample.source else replace(sample, source=names[sample.id]) for sample in data]
    return Dataset(data.name, samples, lambda sample: data.read(data[sample.id]), data.findings, file_of=data.file_of)


def write_image_folder(data: Dataset, folder: Path, progress: Progress = QUIET) -> None:
    """Write the images and the table of a dataset into an existing, empty folder.

    Images of a folder keep their paths in it. Those of a table or a Parquet file are numbered and lie side by side,
    since the name of a sub-folder would become a group of its samples.

    Args:
        data: what to write.
        folder: where to.
        progress: reports the images.
    """
    names = _file_names(data)
    with (folder / TABLE).open("w", encoding="utf-8") as table, progress.task("Writing images", len(data)) as bar:
        for sample in data:
            path = folder / names[sample.id]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.read(sample))
            table.write(json.dumps(_row(sample, names[sample.id]), ensure_ascii=False) + "\n")
            bar.advance()


def _file_names(data: Dataset) -> dict[str, str]:
    """The path of each image in the folder, by the id of its sample."""
    if all(_is_own_path(data, sample) for sample in data):
        return {sample.id: sample.id for sample in data}
    return {sample.id: f"{i:06d}-{_stem(sample.id)}" + _suffix(data.read(sample)) for i, sample in enumerate(data)}


def _row(sample: Sample, name: str) -> dict[str, object]:
    row: dict[str, object] = {"image": name, "id": sample.id, "captions": encode(sample.captions)}
    optional = ("concept", "groups", "licence", "source", "split")
    return row | {field: encode(getattr(sample, field)) for field in optional if getattr(sample, field)}


def _is_own_path(data: Dataset, sample: Sample) -> bool:
    """Whether the id of a sample is the path of its file in the folder that it comes from."""
    file, path = data.file_of(sample), PurePosixPath(sample.id)
    if file is None or path.is_absolute() or path.suffix.lower() not in IMAGE_SUFFIXES:
        return False
    return not _has_hidden(path.parts) and file.as_posix().endswith(f"/{sample.id}") and path.as_posix() == sample.id


def _has_hidden(parts: Iterable[str]) -> bool:
    return any(part.startswith(".") or part == IGNORED_FOLDER for part in parts)


def _stem(id: str) -> str:
    """The readable part of an id, of ASCII characters that every file system has."""
    name = PurePosixPath(id).name
    stem = name.rpartition(".")[0] if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES else name
    return re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-")[:MAX_STEM] or "image"


def _suffix(content: bytes) -> str:
    return next(suffix for start, suffix in _SUFFIXES.items() if content.startswith(start))
