"""``clerestory use describe``: suggested captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from clerestory.apps.describing import SeenImage, kinds_sentence, look_at_files
from clerestory.apps.loading import known_models
from clerestory.apps.right_model import OTHER, default_is_for_drawings, included_photos, photo_encoder
from clerestory.apps.starter import DEFAULT_NAME, live_or_starter
from clerestory.apps.tags import NOT_SURE, encode_tag
from clerestory.apps.training_reference import is_starter, training_reference, unlike_sentence
from clerestory.cli.help_format import FittingModel
from clerestory.cli.model_output import label, load_named, warn
from clerestory.cli.output import PLAIN, Common, Output
from clerestory.cli.temporary_store import open_store_or_temporary
from clerestory.core.errors import DataError, InputError, NotFound
from clerestory.core.outputs import check_output, write_output
from clerestory.core.settings import Range, check_number
from clerestory.core.text import valid_unicode
from clerestory.core.units import plural
from clerestory.models.protocols import AnyModel, require_capability
from clerestory.store import Store

MAX_NAMED = 3  # skipped files that are named for each reason


def describe_(
    *files: Path,
    model: FittingModel = "",
    limit: int = 3,
    csv: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> int:
    """Suggest captions for drawings and tags for photographs.

    The exit code is 1 if a file could not be read or has no suggestion; the others are described all the same.

    Args:
        files: JPEG, PNG or WEBP files, or folders of them.
        limit: The maximum number of suggestions for each image.
        csv: Write the best suggestion for each image, and the tags of photographs, to this file, to review and edit. It
            names the images relative to its folder, so that "data add" can open it.
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
    store = open_store_or_temporary(common)
    seen, drawings, captioner = _look(store, model, readable, limit, common)
    captioned = _caption(store, captioner, drawings, limit, captioner is None, common) if drawings else {}
    rows = []
    for path in readable:
        if path in captioned:
            rows.append(captioned[path])
        elif path in seen:
            tags = [encode_tag(tag) for tag in seen[path].tags]
            drafts = [_suggestion(Suggestion(draft.text, draft.score, None)) for draft in seen[path].drafts]
            rows.append({"file": path, "unlike": seen[path].kind == OTHER, "suggestions": drafts, "tags": tags})
    if csv:
        _write_csv(csv, rows, force, out)
    out.result([{**row, "file": str(row["file"])} for row in rows], _table(rows))
    return 0 if len(rows) == len(found) and all(row["suggestions"] or "tags" in row for row in rows) else 1


def _look(
    store: Store, model: str, files: Sequence[Path], limit: int, common: Common
) -> tuple[dict[Path, SeenImage], list[Path], AnyModel | None]:
    """The images that get tags, those that get captions, and the model that captions them if it is loaded already.

    Tags come from the used model if it is a photo encoder; from the included one if no model is named and the model
    that is used then knows drawings only.
    """
    is_chosen = not model and default_is_for_drawings(store)
    loaded = None if is_chosen else load_named(store, model or f"{DEFAULT_NAME}@live", common)
    try:
        encoder = included_photos() if is_chosen else photo_encoder(loaded)
    except NotFound:  # without the weights, captions are all there is
        loaded, encoder = load_named(store, f"{DEFAULT_NAME}@live", common), None
    if encoder is None:
        return {}, list(files), loaded
    seen: dict[Path, SeenImage] = {}
    with common.out.task("Looking at the images", len(files)) as bar:
        for path, each in look_at_files(encoder, files, limit):
            bar.advance(note=path.name)
            if isinstance(each, str):
                common.out.write_line(f"{path} is skipped: {each}")
            else:
                seen[path] = each
    if not is_chosen:
        if any(each.drafts for each in seen.values()):
            common.out.write_line("notice: the captions are drafts; check each of them")
        return seen, [], loaded
    notice, warning = kinds_sentence(list(seen.values()), live_or_starter(store, f"{DEFAULT_NAME}@live")[0])
    for word, sentence in (("notice", notice), ("warning", warning)):
        if sentence:
            common.out.write_line(f"{word}: {sentence}")
    return (
        {path: each for path, each in seen.items() if each.gets_tags},
        [path for path, each in seen.items() if not each.gets_tags],
        None,
    )


def _caption(
    store: Store, loaded: AnyModel | None, files: Sequence[Path], limit: int, are_drawings: bool, common: Common
) -> dict[Path, dict[str, Any]]:
    """The rows of the images that get captions."""
    out = common.out
    loaded = loaded or load_named(store, f"{DEFAULT_NAME}@live", common)
    captioner = require_capability(loaded, "Captioner", "captioning", known_models(store))
    reference = training_reference(captioner, store, out)
    if are_drawings and is_starter(reference):  # the probe has looked at them, which is better than their pixels
        reference = replace(reference, images=None)
    rows: dict[Path, dict[str, Any]] = {}
    problems: dict[str, None] = {}
    num_unlike = 0
    with out.task("Captioning", len(files)) as bar:
        for path, some in caption_files(captioner, files, limit, reference):
            bar.advance(note=path.name)
            if isinstance(some, str):
                out.write_line(f"{path} is skipped: {some}")
                continue
            num_unlike += some.unlike
            rows[path] = {"file": path, "unlike": some.unlike, "suggestions": [*map(_suggestion, some.suggestions)]}
            if not some.suggestions:
                problems[getattr(captioner, "last_error", "")] = None
    warn(unlike_sentence(num_unlike, len(rows), reference.data), out)
    if rows and reference.captions is None:
        out.write_line("notice: the confidence of this model's captions is not measured; check each of them")
    for problem in filter(None, problems):
        out.write_line(f"some images have no suggestion: {problem}")
    return rows


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    if rows and all("tags" in row and not row["suggestions"] for row in rows):
        table = Table("file", "tags", box=None)
        for row in rows:
            table.add_row(str(row["file"]), _tag_words(row))
        return table
    table = Table("file", "suggestion", "confidence", box=None)
    for row in rows:
        if "tags" in row:
            table.add_row(str(row["file"]), f"tags: {_tag_words(row)}", "")
        for i, each in enumerate(row["suggestions"]):
            name = "" if i or "tags" in row else str(row["file"])
            table.add_row(name, each["text"], each["confidence"])
    return table


def _tag_words(row: Mapping[str, Any]) -> str:
    return ", ".join(tag["text"] for tag in row["tags"]) or NOT_SURE


def _write_csv(csv: Path, rows: Sequence[Mapping[str, Any]], force: bool, out: Output) -> None:
    """Write the best suggestion for each image, and the tags of photographs."""
    cells = [file_cell(row["file"], csv) for row in rows]
    table_rows = []
    for cell, row in zip(cells, rows, strict=True):
        best = row["suggestions"][0] if row["suggestions"] else {}
        line = {"file": cell, "caption": best.get("text", ""), "confidence": best.get("confidence", "")}
        if any("tags" in each for each in rows):
            line["suggested tags"] = ", ".join(tag["text"] for tag in row.get("tags", ()))
        table_rows.append(line)
    write_output(csv, captions_csv(table_rows).encode(), force)
    out.write_line(f"wrote {csv}")
    if any(cell.startswith("..") for cell in cells):
        out.write_line(
            f"notice: {csv} names images outside its folder; "
            "to open it with `data add`, write it to a folder that contains the images"
        )


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
