"""``clerestory report``."""

from __future__ import annotations

from pathlib import Path

from clerestory.apps.datasets import load_dataset
from clerestory.apps.starter import stored_model
from clerestory.cli.output import PLAIN, Common
from clerestory.models.starter import STARTER
from clerestory.report import report
from clerestory.store import open_store


def report_(
    ref: str = "icons@live", /, *, data: str = "icons", out: Path | None = None, common: Common = PLAIN
) -> None:
    """Write a report on a model, as HTML and JSON.

    Args:
        ref: A release (icons@3, icons@live), a model's digest, or the starter.
        data: The dataset with the images of its examples.
        out: The folder or the .html file to write (default: in the folder of the store).
    """
    store = open_store(common.home)
    files = report(
        store, stored_model(store, ref) if ref == STARTER else ref, out, load_dataset(store, data, common.out)
    )
    common.out.result({"html": str(files.html), "json": str(files.json)}, f"{files.html}", f"{files.json}")
