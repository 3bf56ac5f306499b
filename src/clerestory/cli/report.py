"""``clerestory report``."""

from __future__ import annotations

from pathlib import Path

from clerestory.apps.catalogue import dataset
from clerestory.cli.output import PLAIN, Common
from clerestory.report import report
from clerestory.store import open_store


def report_(
    ref: str = "icons@live", /, *, data: str = "icons", out: Path | None = None, common: Common = PLAIN
) -> None:
    """One HTML file and one JSON with everything known of a model.

    Args:
        ref: A release (icons@3, icons@live) or a model's digest.
        data: Where the pictures of its examples come from.
        out: The folder or the .html file to write (default: in the store's folder).
    """
    store = open_store(common.home)
    files = report(store, ref, out, dataset(store, data, common.out))
    common.out.result({"html": str(files.html), "json": str(files.json)}, f"{files.html}", f"{files.json}")
