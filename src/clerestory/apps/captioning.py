"""Caption suggestions for images, and a CSV file of the reviewed captions that spreadsheets open."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from clerestory.apps.confidence import UNLIKE, Confidence
from clerestory.apps.training_reference import TrainingReference
from clerestory.core.errors import DataError, InputError
from clerestory.core.files import read_problem
from clerestory.data.data_folder import IMAGE_SUFFIXES
from clerestory.data.images import check_image, decode_image, image_batches
from clerestory.models.protocols import AnyModel, CaptionCandidate, Captioner, require_capability

if TYPE_CHECKING:
    from PIL import Image

Description = TypeVar("Description")

BATCH_SIZE = 16
BYTE_ORDER_MARK = "\ufeff"
# A spreadsheet may run a cell that begins with one of these as a formula; it accepts the full-width forms, too.
FORMULA_STARTS = frozenset("=+-@\t\r\n＝＋－＠")


def caption_images(
    model: AnyModel | Captioner, images: Sequence[Image.Image], n: int = 3
) -> list[list[CaptionCandidate]]:
    """Up to ``n`` suggestions for each image, best first; an empty list for an image without any.

    Raises:
        CapabilityError: the model cannot generate captions.
        InputError: ``n`` is less than 1.
    """
    captioner = require_capability(model, "Captioner", "captioning")
    if n < 1:
        raise InputError(f"the number of suggestions is {n}", "request at least one")
    return captioner.caption_images(list(images), n) if images else []


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A suggested caption, the model's score of it, and its confidence; None where that was not measured."""

    text: str
    score: float
    confidence: Confidence | None


@dataclass(frozen=True, slots=True)
class SuggestedCaptions:
    """The suggestions for one image, best first, and whether it is unlike the images the model was trained on."""

    suggestions: tuple[Suggestion, ...]
    unlike: bool


def suggest_captions(
    model: AnyModel | Captioner, images: Sequence[Image.Image], n: int, reference: TrainingReference | None = None
) -> list[SuggestedCaptions]:
    """Suggestions for each image, with their calibrated confidence: the same for commands, tables and pages.

    All suggestions for an image that is unlike the training images are guesses.

    Args:
        model: a captioner.
        images: the images.
        n: the most suggestions for each.
        reference: the measurements of the model on its training data.

    Raises:
        CapabilityError, InputError: as ``caption_images``.
    """
    far = reference.images.unlike(images) if reference and reference.images else [False] * len(images)
    calibrator = reference.captions if reference else None

    def confidence(score: float, unlike: bool) -> Confidence | None:
        if unlike:
            return UNLIKE
        return calibrator.confidence(score) if calibrator and not isnan(score) else None

    return [
        SuggestedCaptions(tuple(Suggestion(c.text, c.score, confidence(c.score, unlike)) for c in candidates), unlike)
        for candidates, unlike in zip(caption_images(model, images, n), far, strict=True)
    ]


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The files, and of each folder its images at any depth, sorted by name; hidden files and other types are left out.

    Raises:
        DataError: a folder has no image.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside: list[Path] = []
        for folder, folders, names in os.walk(path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            images = (name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES)
            inside += [Path(folder) / name for name in images if not name.startswith(".")]
        if not inside:
            raise DataError(f"the folder {path} has no images", "give a folder with JPEG, PNG or WEBP files")
        found += sorted(inside)
    return list(dict.fromkeys(found))


def caption_files(
    captioner: Captioner, files: Sequence[Path], n: int = 3, reference: TrainingReference | None = None
) -> Iterator[tuple[Path, SuggestedCaptions | str]]:
    """Each file with its suggestions, or the reason why it has none; a few decoded images in memory at a time."""
    return for_each_file(files, lambda images: suggest_captions(captioner, images, n, reference))


def for_each_file(
    files: Sequence[Path], describe: Callable[[Sequence[Image.Image]], Sequence[Description]]
) -> Iterator[tuple[Path, Description | str]]:
    """Each file with what ``describe`` says about its image, or the reason why it cannot be read.

    A few decoded images are in memory at a time, and none of a batch while the next one is decoded.
    """
    problems: dict[Path, str] = {}

    def load(path: Path) -> Image.Image | None:
        try:
            return decode_image(read_image_file(path))
        except (OSError, InputError) as error:
            problems[path] = file_problem(error)
            return None

    def answer(batch: Sequence[tuple[Path, Image.Image | None]]) -> list[tuple[Path, Description | str]]:
        descriptions = iter(describe([image for _, image in batch if image is not None]))
        return [(path, next(descriptions) if image is not None else problems[path]) for path, image in batch]

    for batch in image_batches(files, load, BATCH_SIZE):
        yield from answer(batch)


def read_image_file(path: Path) -> bytes:
    """The bytes of an image file; a named pipe, which might never end, is not read.

    Raises:
        InputError: it is a pipe, a device or a socket.
        OSError: it cannot be read.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError("it is a pipe, a device or a socket, not a file")
    return path.read_bytes()


def check_file(path: Path) -> str:
    """Why an image file cannot be captioned; empty if it can."""
    try:
        check_image(read_image_file(path))
    except (OSError, InputError) as error:
        return file_problem(error)
    return ""


def file_problem(error: OSError | InputError) -> str:
    """The problem with a file, and the remedy if there is one, in one line."""
    return read_problem(error) if isinstance(error, OSError) else str(error)


def file_cell(path: Path, csv_file: Path) -> str:
    """A file as a CSV table names it: relative to the folder of the table, as ``clerestory data add`` reads it."""
    return safe_path(os.path.relpath(path, csv_file.parent))


def safe_path(path: str) -> str:
    """The same path, beginning with ``./`` if a spreadsheet would run it as a formula."""
    return f"./{path}" if _is_formula(path) else path


def captions_csv(rows: Iterable[Mapping[str, object]]) -> str:
    """A CSV table with a header that Excel reads as UTF-8 and in which no cell is run as a formula.

    The columns are the keys of the rows in the order of their first appearance; a missing cell is empty. The text
    begins with a byte order mark (write it as UTF-8), lines end as in RFC 4180, and a text that a spreadsheet would
    run as a formula is preceded by an apostrophe.
    """
    table = [dict(row) for row in rows]
    header = list(dict.fromkeys(name for row in table for name in row))
    out = io.StringIO()
    out.write(BYTE_ORDER_MARK)
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow([_escape(name) for name in header])
    writer.writerows([_escape(row.get(name, "")) for name in header] for row in table)
    return out.getvalue()


def _escape(cell: object) -> str:
    text = "" if cell is None else str(cell)
    return "'" + text if not isinstance(cell, int | float) and _is_formula(text) else text


def _is_formula(text: str) -> bool:
    return text.lstrip(" ")[:1] in FORMULA_STARTS
