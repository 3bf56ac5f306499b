"""The verb: write the report of a model as files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from clerestory.core.files import translate_disk_errors, write_atomic
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


def report(store: Store, ref: str, out: Path | None = None, images: Dataset | None = None) -> ReportFiles:
    """Write everything known of a model as one HTML file, with the same numbers as JSON next to it.

    Args:
        store: of the model.
        ref: ``icons@3``, ``icons@live``, ``icons``, or a model's digest or its beginning.
        out: the ``.html`` file, or the folder to put it in; ``reports`` in the store's folder when None.
        images: the data of the model's evaluation, for thumbnails and for the data summary.

    Raises:
        NotFound: no model or release has this name.
        InputError: the files cannot be written.
    """
    data = collect(store, ref, images)
    page = build(data)
    folder = out or store.home / "reports"
    html = folder if folder.suffix == ".html" else folder / f"{_file_name(page.ref)}.html"
    files = ReportFiles(html, html.with_suffix(".json"))
    with translate_disk_errors(html.parent, "choose another folder"):
        write_atomic(files.json, render_json(data, page).encode())
        write_atomic(files.html, render_html(page, files.json.name).encode())
    return files


def _file_name(ref: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", ref).strip("-.") or "report"
