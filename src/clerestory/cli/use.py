"""``clerestory use describe``: suggested captions."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from clerestory.apps.captioning import (
    Suggestion,
    caption_files,
    captions_csv,
    check_file,
    file_cell,
    image_files,
)
from clerestory.apps.loading import known_models
from clerestory.apps.training_reference import training_reference, unlike_sentence
from clerestory.cli.help_format import Model
from clerestory.cli.model_output import label, load_named, warn
from clerestory.cli.output import PLAIN, Common, Output
from clerestory.core.errors import DataError, InputError
from clerestory.core.outputs import check_output, write_output
from clerestory.core.settings import Range, check_number
from clerestory.core.text import valid_unicode
from clerestory.core.units import plural
from clerestory.models.protocols import require_capability
from clerestory.store import open_store

MAX_NAMED = 3  # skipped files that are named for each reason


def describe_(
    *files: Path,
    model: Model = "icons@live",
    limit: int = 3,
    csv: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> int:
    """Suggest captions for images.

    Args:
        files: JPEG, PNG or WEBP files, or folders of them.
        limit: The maximum number of suggestions for each image.
        csv: Write the best suggestion for each image to this file, to review and edit. It names the images relative to
            its folder, so that "data add" can open it.
        force: Replace an existing --csv file.
    """
    out = common.out
    check_number("--limit", limit, Range(1))
    found = image_files(files)
    if csv:
        _check_csv(csv, found, force)
    readable = _readable(found, csv, out)
    if not readable:
        raise DataError("none of the files is a readable image", "give the paths of JPEG, PNG or WEBP files")
    store = open_store(common.home)
    captioner = require_capability(load_named(store, model, common), "Captioner", "captioning", known_models(store))
    reference = training_reference(captioner, store, out)
    table = Table("file", "suggestion", "confidence", box=None)
    rows: list[dict[str, Any]] = []
    problems: dict[str, None] = {}
    num_unlike = 0
    with out.task("Captioning", len(readable)) as bar:
        for path, some in caption_files(captioner, readable, limit, reference):
            bar.advance(note=path.name)
            if isinstance(some, str):
                out.write_line(f"{path} is skipped: {some}")
                continue
            num_unlike += some.unlike
            rows.append({"file": path, "unlike": some.unlike, "suggestions": [*map(_suggestion, some.suggestions)]})
            for i, each in enumerate(some.suggestions):
                table.add_row(str(path) if i == 0 else "", each.text, label(each.confidence))
            if not some.suggestions:
                problems[getattr(captioner, "last_error", "")] = None
    warn(unlike_sentence(num_unlike, len(rows), reference.data), out)
    if rows and reference.captions is None:
        out.write_line("notice: the confidence of this model's captions is not measured; check each of them")
    for problem in filter(None, problems):
        out.write_line(f"some images have no suggestion: {problem}")
    if csv:
        cells = [file_cell(row["file"], csv) for row in rows]
        best = [row["suggestions"][0] if row["suggestions"] else {} for row in rows]
        table_rows = [
            {"file": cell, "caption": each.get("text", ""), "confidence": each.get("confidence", "")}
            for cell, each in zip(cells, best, strict=True)
        ]
        write_output(csv, captions_csv(table_rows).encode(), force)
        out.write_line(f"wrote {csv}")
        if any(cell.startswith("..") for cell in cells):
            out.write_line(
                f"notice: {csv} names images outside its folder; "
                "to open it with `data add`, write it to a folder that contains the images"
            )
    out.result([{**row, "file": str(row["file"])} for row in rows], table)
    return 0 if len(rows) == len(found) and all(row["suggestions"] for row in rows) else 2


def _check_csv(csv: Path, files: Sequence[Path], force: bool) -> None:
    check_output(csv, force)
    if csv.exists() and any(path.exists() and path.samefile(csv) for path in files):
        raise InputError(f"{csv} is one of the images", "name another file for the captions")


def _readable(files: Sequence[Path], csv: Path | None, out: Output) -> list[Path]:
    """The files that can be captioned; of the others, the first ones of each reason are named."""
    readable: list[Path] = []
    skipped: dict[str, list[Path]] = {}
    for path in files:
        problem = check_file(path)
        if not problem and csv and valid_unicode(str(path)) != str(path):
            problem = "its name is not UTF-8 text, so a CSV file cannot name it; rename it"
        if problem:
            skipped.setdefault(problem, []).append(path)
        else:
            readable.append(path)
    for problem, paths in skipped.items():
        for path in paths[:MAX_NAMED]:
            out.write_line(f"{path} is skipped: {problem}")
        if len(paths) > MAX_NAMED:
            out.write_line(f"{plural(len(paths) - MAX_NAMED, 'more file is', 'more files are')} skipped: {problem}")
    return readable


def _suggestion(suggestion: Suggestion) -> dict[str, object]:
    score = None if isnan(suggestion.score) else suggestion.score
    return {"text": suggestion.text, "confidence": label(suggestion.confidence), "score": score}
