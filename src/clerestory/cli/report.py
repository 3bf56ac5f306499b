"""``clerestory report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from clerestory.apps.datasets import evaluated_data
from clerestory.apps.loading import resolve_stored
from clerestory.apps.registration import stored_model
from clerestory.cli.help_format import Model
from clerestory.cli.output import PLAIN, Common
from clerestory.core.errors import InputError
from clerestory.report import report
from clerestory.report.files import report_files
from clerestory.report.sign_page import write_sign_page
from clerestory.store import open_store


def report_(
    ref: Model = "icons@live",
    /,
    *,
    data: str = "",
    task: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    out: Path | None = None,
    summary: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Write a report on a model, as HTML and JSON.

    Args:
        data: The dataset with the images of its examples (default: that of its newest evaluation, or the data of the
            first --task).
        task: A task that it was evaluated on: its file, the folder of its pack or its name.
        out: The folder or the .html file to write (default: in the folder of the store).
        summary: Write one A4 page to sign, to this folder or .html file, instead of the whole report.
        force: Replace existing files, also a report in the folder of the store that was edited.
    """
    store = open_store(common.home)
    model = ref if resolve_stored(store, ref) else stored_model(store, ref)
    if summary is not None:
        if out is not None:
            raise InputError("--out and --summary name two pages", "write one after the other")
        written = write_sign_page(store, model, summary, force)
        common.out.result({"html": str(written.html), "json": str(written.json)}, f"{written.html}", f"{written.json}")
        return
    if out is not None:
        report_files(store, model, out, force)  # an error before the work
    from clerestory.cli.evaluate import evaluation_data  # here, because it imports torch

    data = data or ("" if task else evaluated_data(store, store.resolve(model).digest))
    files = report(store, model, out, evaluation_data(store, data, task, common.out), force)
    common.out.result({"html": str(files.html), "json": str(files.json)}, f"{files.html}", f"{files.json}")
