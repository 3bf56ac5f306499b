"""The verb: write the report of a model as files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from clerestory.core.files import make_folder, translate_disk_errors
from clerestory.core.outputs import check_output, write_output
from clerestory.core.sample import Dataset
from clerestory.report.collect import collect, report_name
from clerestory.report.page import build
from clerestory.report.render import render_html, render_json
from clerestory.store import Store


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where a report was written: a page for people, and the same numbers for programs."""

    html: Path
    json: Path


def page_files(out: Path, name: str, force: bool = False) -> ReportFiles:
    """Where a page and its numbers are written, after a check that they can be.

    Args:
        out: the ``.html`` file, or the folder to put it in.
        name: of the file in that folder, without the ending.
        force: existing files may be replaced.

    Raises:
        InputError: the folder does not exist or is not writable, or one of the files exists.
    """
    html = out if out.suffix == ".html" else out / f"{_file_name(name)}.html"
    files = ReportFiles(html, html.with_suffix(".json"))
    check_output(files.html, force)
    check_output(files.json, force)
    return files


def report_files(store: Store, ref: str, out: Path, force: bool = False) -> ReportFiles:
    """Where the report of a model is written; arguments and errors as for ``report``."""
    return page_files(out, report_name(store, ref), force)


def report(
    store: Store, ref: str, out: Path | None = None, images: Dataset | None = None, force: bool = False
) -> ReportFiles:
    """Write everything known of a model as one HTML file, with the same numbers as JSON next to it.

    Args:
        store: of the model.
        ref: ``icons@3``, ``icons@live``, ``icons``, or a model's digest or its beginning.
        out: the ``.html`` file, or the folder to put it in; ``reports`` in the store's folder when None.
        images: the data of the model's evaluation, for thumbnails and for the data summary.
        force: replace existing files; those in the store's folder are always replaced.

    Raises:
        NotFound: no model or release has this name.
        InputError: the files cannot be written, or exist; checked before anything is read.
    """
    if out is None:
        out, force = store.home / "reports", True
        with translate_disk_errors(out, "name a file or folder elsewhere with --out, or allow writing there"):
            make_folder(out)
    files = report_files(store, ref, out, force)
    data = collect(store, ref, images)
    page = build(data)
    write_output(files.json, render_json(data, page).encode(), force)
    write_output(files.html, render_html(page, files.json.name).encode(), force)
    return files


def _file_name(ref: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", ref).strip("-.") or "report"
