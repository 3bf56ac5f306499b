"""``clerestory use``: the small applications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from clerestory.apps.captioning import caption_files, captions_csv, check_file, file_cell
from clerestory.apps.datasets import load_dataset
from clerestory.apps.loading import known_models, load_model, privacy_notice
from clerestory.apps.search import build_index, search
from clerestory.apps.starter import live_or_starter
from clerestory.cli.output import PLAIN, Common, Output
from clerestory.core.errors import DataError, InputError
from clerestory.core.outputs import check_output, write_output
from clerestory.core.text import valid_unicode
from clerestory.models.protocols import AnyModel, CaptionCandidate, require_capability
from clerestory.store import Store, open_store


def search_(
    *words: str, data: str = "icons", model: str = "icons@live", limit: int = 10, common: Common = PLAIN
) -> None:
    """Search images by text, in any phrasing.

    Args:
        words: The query, such as: a happy cat.
        data: The dataset to search: its name, or any source that "data add" accepts.
        model: A release (icons@3, icons@live), a model's digest, hf:org/name, a folder (./model), or
            openai:http://host/v1#model, or starter.
        limit: The maximum number of images.
    """
    store = open_store(common.home)
    embedder = require_capability(_load(store, model, common), "Embedder", "searching images", known_models(store))
    index = build_index(embedder, load_dataset(store, data, common.out), store, common.out)
    hits = search(embedder, index, " ".join(words), limit)
    table = Table("similarity", "sample", "caption", box=None)
    for hit in hits:
        table.add_row(f"{hit.score:.2f}", hit.sample.id, hit.sample.caption)
    rows = [{"id": h.sample.id, "caption": h.sample.caption, "score": round(h.score, 6)} for h in hits]
    common.out.result(rows, table)


def describe_(
    *files: Path,
    model: str = "icons@live",
    limit: int = 3,
    csv: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> int:
    """Suggest captions for images.

    Args:
        files: JPEG, PNG or WEBP files.
        model: A release (icons@3, icons@live), a model's digest, hf:org/name, a folder (./model), or
            openai:http://host/v1#model, or starter.
        limit: The maximum number of suggestions for each image.
        csv: Write the best suggestion for each image to this file, to review and edit. It names the images relative to
            its folder, so that "data add" can open it.
        force: Replace an existing --csv file.
    """
    out = common.out
    if csv:
        _check_csv(csv, files, force)
    readable = [path for path in files if _is_readable(path, csv, out)]
    if not readable:
        raise DataError("none of the files is a readable image", "give the paths of JPEG, PNG or WEBP files")
    store = open_store(common.home)
    captioner = require_capability(_load(store, model, common), "Captioner", "captioning", known_models(store))
    table = Table("file", "suggestion", "confidence", box=None)
    rows: list[dict[str, Any]] = []
    problems: dict[str, None] = {}
    with out.task("Captioning", len(readable)) as bar:
        for path, some in caption_files(captioner, readable, limit):
            bar.advance()
            if isinstance(some, str):
                out.write_line(f"{path} is skipped: {some}")
                continue
            rows.append({"file": path, "suggestions": [_suggestion(each) for each in some]})
            for i, each in enumerate(some):
                confidence = "unknown" if isnan(each.score) else f"{each.score:.0%}"
                table.add_row(str(path) if i == 0 else "", each.text, confidence)
            if not some:
                problems[getattr(captioner, "last_error", "")] = None
    for problem in filter(None, problems):
        out.write_line(f"some images have no suggestion: {problem}")
    if csv:
        cells = [file_cell(row["file"], csv) for row in rows]
        best = [_best(row["suggestions"]) for row in rows]
        table_rows = [{"file": cell, "caption": caption} for cell, caption in zip(cells, best, strict=True)]
        write_output(csv, captions_csv(table_rows).encode(), force)
        out.write_line(f"wrote {csv}")
        if any(cell.startswith("..") for cell in cells):
            out.write_line(f"notice: {csv} names images outside its folder; put it above them to open it as data")
    out.result([{**row, "file": str(row["file"])} for row in rows], table)
    return 0 if len(rows) == len(files) and all(row["suggestions"] for row in rows) else 2


def _check_csv(csv: Path, files: Sequence[Path], force: bool) -> None:
    check_output(csv, force)
    if csv.exists() and any(path.exists() and path.samefile(csv) for path in files):
        raise InputError(f"{csv} is one of the images", "name another file for the captions")


def _is_readable(path: Path, csv: Path | None, out: Output) -> bool:
    """Whether a file can be captioned; if not, the reason is printed."""
    problem = check_file(path)
    if not problem and csv and valid_unicode(str(path)) != str(path):
        problem = "its name is not UTF-8 text, so a CSV file cannot name it; rename it"
    if problem:
        out.write_line(f"{path} is skipped: {problem}")
    return not problem


def _best(suggestions: Sequence[Mapping[str, object]]) -> object:
    return suggestions[0]["text"] if suggestions else ""


def _load(store: Store, ref: str, common: Common) -> AnyModel:
    """Load a model; a replacement by the starter, and a model on another computer, are announced first."""
    ref, replaced = live_or_starter(store, ref)
    if replaced:
        common.out.write_line(f"notice: {replaced}")
    if notice := privacy_notice(ref, store):
        common.out.write_line(f"notice: {notice}")
    return load_model(store, ref)[0]


def _suggestion(suggestion: CaptionCandidate) -> dict[str, object]:
    return {"text": suggestion.text, "score": None if isnan(suggestion.score) else suggestion.score}
