"""The verb: write the report of a model as files."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from clerestory.core.errors import InputError
from clerestory.core.sample import Dataset
from clerestory.report.collect import collect
from clerestory.report.page import build
from clerestory.report.render import render_html, render_json
from clerestory.store import Store


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where a report was written: a page for people, and the same numbers for programs."""

    html: Path
    json: Path


def report(store: Store, ref: str, out: Path | None = None, pictures: Dataset | None = None) -> ReportFiles:
    """Write everything known of a model as one HTML file, with the same numbers as JSON next to it.

    Args:
        store: where it is known.
        ref: ``icons@3``, ``icons@live``, ``icons``, or a model's digest or its beginning.
        out: the ``.html`` file, or the folder to put it in; ``reports`` in the store's folder when None.
        pictures: the data the model was examined on, for thumbnails and for the data summary.

    Raises:
        NotFound: nothing has this name.
        InputError: the files cannot be written.
    """
    data = collect(store, ref, pictures)
    page = build(data)
    folder = out or store.home / "reports"
    html = folder if folder.suffix == ".html" else folder / f"{_file_name(page.ref)}.html"
    files = ReportFiles(html, html.with_suffix(".json"))
    try:
        html.parent.mkdir(parents=True, exist_ok=True)
        write_text(files.json, render_json(data, page))
        write_text(files.html, render_html(page, files.json.name))
    except OSError as error:
        raise InputError(
            f"the report cannot be written to {html.parent}: {error.strerror}", "name another place"
        ) from error
    return files


def _file_name(ref: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", ref).strip("-.") or "report"


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none: into a temporary one beside it, then by rename."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
