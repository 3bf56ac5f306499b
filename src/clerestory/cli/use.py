"""``clerestory use``: the small applications."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from PIL import Image
from rich.table import Table

from clerestory.apps.captioning import (
    Suggestion,
    caption_files,
    captions_csv,
    check_file,
    file_cell,
    file_problem,
    image_files,
    read_image_file,
)
from clerestory.apps.confidence import (
    FOREIGN,
    GUESS,
    NOT_MEASURED,
    UNLIKE,
    Confidence,
    SearchCalibrators,
    fit_search,
)
from clerestory.apps.datasets import load_dataset
from clerestory.apps.loading import known_models, load_model, privacy_notice
from clerestory.apps.query_language import QueryLanguages
from clerestory.apps.search import SearchIndex, build_index, search, search_by_image
from clerestory.apps.starter import live_or_starter
from clerestory.apps.training_reference import OTHER_MODEL, count_unlike, training_reference, unlike_sentence
from clerestory.cli.help_format import Model
from clerestory.cli.output import PLAIN, Common, Output
from clerestory.core.errors import DataError, InputError
from clerestory.core.outputs import check_output, write_output
from clerestory.core.settings import Range, check_number
from clerestory.core.text import valid_unicode
from clerestory.core.units import plural
from clerestory.data.images import decode_image
from clerestory.models.protocols import AnyModel, Embedder, require_capability
from clerestory.store import Store, open_store

MAX_NAMED = 3  # skipped files that are named for each reason


def search_(
    *words: str,
    image: Path | None = None,
    data: str = "icons",
    model: Model = "icons@live",
    limit: int = 10,
    common: Common = PLAIN,
) -> None:
    """Search images by text, in any phrasing, or by another image.

    Args:
        words: The query, such as: a happy cat; in a language of the model, for Clerestory's own models English.
        image: Instead of words, a JPEG, PNG or WEBP file: the images most similar to it are found.
        data: The dataset to search: its name, or any source that "data add" accepts.
        limit: The maximum number of images.
    """
    check_number("--limit", limit, Range(1))
    query, example = " ".join(words), _query_image(image) if image else None
    if example is not None and query:
        raise InputError("both words and an image are given", "search with words or with --image, not with both")
    store = open_store(common.home)
    embedder = require_capability(_load(store, model, common), "Embedder", "searching images", known_models(store))
    dataset = load_dataset(store, data, common.out)
    reference = training_reference(embedder, store, common.out)
    index = build_index(embedder, dataset, store, common.out)
    _warn(unlike_sentence(*count_unlike(reference, dataset, store), reference.data), common.out)
    calibrators = fit_search(embedder, index, store)
    if example is not None:
        hits = search_by_image(embedder, index, example, limit)
        unlike = reference.images is not None and reference.images.unlike([example])[0]
        _warn(unlike_sentence(int(unlike), 1, reference.data), common.out)
        confidences = [UNLIKE] * len(hits) if unlike else calibrators.of_image(hits)
    else:
        hits = search(embedder, index, query, limit)
        doubt = _doubt(query, embedder, index, calibrators, common.out)
        confidences = calibrators.of_text(hits, doubt)
        _notice(confidences, doubt, common.out)
    table = Table("confidence", "sample", "caption", box=None)
    rows: list[dict[str, Any]] = []
    for hit, confidence in zip(hits, confidences, strict=True):
        label = _label(confidence)
        table.add_row(label, hit.sample.id, hit.sample.caption)
        score = round(hit.score, 6)
        rows.append({"id": hit.sample.id, "caption": hit.sample.caption, "confidence": label, "score": score})
    common.out.result(rows, table)


def _query_image(path: Path) -> Image.Image:
    """The image to search with.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return decode_image(read_image_file(path))
    except (OSError, InputError) as error:
        raise InputError(
            f"the query image {path} cannot be used: {file_problem(error)}", "give a JPEG, PNG or WEBP file"
        ) from error


def _doubt(
    query: str, model: Embedder, index: SearchIndex, calibrators: SearchCalibrators, out: Output
) -> Confidence | None:
    """Why all hits of a query are guesses, which is reported; None if they may not be."""
    languages = QueryLanguages(model, index.samples)
    if foreign := languages.check(query):
        out.write_line(f"warning: {foreign.sentence}")
        return FOREIGN
    match = calibrators.query
    if match is None or match.is_answerable(index, model.embed_texts([query])[0]):
        return None
    words_in = f", in {' or '.join(languages.names)}" if languages.names else ""
    out.write_line(f"notice: nothing matches {query!r} better than random words would; try other words{words_in}")
    return GUESS


def _notice(confidences: Sequence[Confidence | None], doubt: Confidence | None, out: Output) -> None:
    """What the confidences have in common, unless a doubt was reported."""
    if doubt is not None:
        return
    if all(confidence is None for confidence in confidences):
        out.write_line("notice: no confidence is shown, because too few of the images have captions to measure it")
    elif not any(confidence and confidence.level for confidence in confidences):
        out.write_line("notice: all of these are guesses; try other words")


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
    captioner = require_capability(_load(store, model, common), "Captioner", "captioning", known_models(store))
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
                table.add_row(str(path) if i == 0 else "", each.text, _label(each.confidence))
            if not some.suggestions:
                problems[getattr(captioner, "last_error", "")] = None
    _warn(unlike_sentence(num_unlike, len(rows), reference.data), out)
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


def _warn(sentence: str, out: Output) -> None:
    """The warning that the model does not fit the images, with the remedy."""
    if sentence:
        out.write_line(f"warning: {sentence}; {OTHER_MODEL}")


def _label(confidence: Confidence | None) -> str:
    return confidence.label if confidence else NOT_MEASURED


def _load(store: Store, ref: str, common: Common) -> AnyModel:
    """Load a model; a replacement by the starter, and a model on another computer, are announced first."""
    ref, replaced = live_or_starter(store, ref)
    if replaced:
        common.out.write_line(f"notice: {replaced}")
    if notice := privacy_notice(ref, store):
        common.out.write_line(f"notice: {notice}")
    return load_model(store, ref)[0]


def _suggestion(suggestion: Suggestion) -> dict[str, object]:
    score = None if isnan(suggestion.score) else suggestion.score
    return {"text": suggestion.text, "confidence": _label(suggestion.confidence), "score": score}
