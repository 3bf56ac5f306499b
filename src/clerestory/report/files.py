"""The verb: write the report of a model as files."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from clerestory.core.digest import digest_bytes
from clerestory.core.errors import InputError
from clerestory.core.files import make_folder, translate_disk_errors, write_atomic
from clerestory.core.outputs import check_output, write_output
from clerestory.core.sample import Dataset
from clerestory.report.collect import collect, report_name
from clerestory.report.page import build
from clerestory.report.render import render_html, render_json
from clerestory.store import Store

DIGESTS = ".written.json"  # in the reports folder of the store


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
        force: replace existing files; those in the store's folder are replaced anyway, unless a person has edited them.

    Raises:
        NotFound: no model or release has this name.
        InputError: the files cannot be written, or exist; checked before anything is read.
    """
    own_folder = out is None
    if out is None:
        out = store.home / "reports"
        with translate_disk_errors(out, "name a file or folder elsewhere with --out, or allow writing there"):
            make_folder(out)
    renewed = own_folder or force
    files = report_files(store, ref, out, renewed)
    if own_folder and not force:
        _check_unedited(files)
    data = collect(store, ref, images)
    page = build(data)
    contents = {
        files.json: render_json(data, page).encode(),
        files.html: render_html(page, files.json.name).encode(),
    }
    for path, content in contents.items():
        write_output(path, content, renewed)
    if own_folder:
        digests = {path.name: digest_bytes(content) for path, content in contents.items()}
        write_atomic(out / DIGESTS, json.dumps({**_written(out), **digests}).encode())
    return files


def _check_unedited(files: ReportFiles) -> None:
    """Check that the files of an earlier report are as they were written: a report renews its own files only.

    Raises:
        InputError: a person has edited one, or put another file in its place.
    """
    written = _written(files.html.parent)
    for path in (files.html, files.json):
        # A folder without digests was written by an earlier version, which did not keep them.
        if written and path.is_file() and digest_bytes(path.read_bytes()) != written.get(path.name):
            raise InputError(
                f"{path} has been edited since it was written",
                "keep it and write elsewhere with --out, or replace it with --force",
            )


def _written(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file that a report wrote to the folder of the store."""
    try:
        found = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _file_name(ref: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", ref).strip("-.") or "report"
