"""Suggest captions for pictures, and write the reviewed ones where a spreadsheet can read them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from clerestory.core.errors import InputError
from clerestory.models.protocols import AnyModel, Describer, Suggestion, need

if TYPE_CHECKING:
    from PIL import Image

BYTE_ORDER_MARK = "\ufeff"
# A cell that begins with one of these may be run as a formula by a spreadsheet; the wide forms are read as well.
FORMULA_STARTS = frozenset("=+-@\t\r\n＝＋－＠")


def describe(model: AnyModel | Describer, images: Sequence[Image.Image], n: int = 3) -> list[list[Suggestion]]:
    """Up to ``n`` suggestions for each picture, best first; an empty list where the model has none.

    Raises:
        CapabilityError: the model does not describe pictures.
        InputError: ``n`` is less than 1.
    """
    describer = need(model, "Describer", "captioning")
    if n < 1:
        raise InputError(f"{n} suggestions were asked for", "ask for at least one")
    return describer.describe(list(images), n) if images else []


def captions_csv(rows: Iterable[Mapping[str, object]]) -> str:
    """A CSV table with a header, for people: Excel reads its letters rightly and runs nothing in it.

    The columns are the keys of the rows in the order they first appear; a missing cell is empty. The text begins
    with a byte order mark (write it as UTF-8), lines end as RFC 4180 says, and a text that a spreadsheet would take
    for a formula gets an apostrophe in front of it.
    """
    kept = [dict(row) for row in rows]
    header = list(dict.fromkeys(name for row in kept for name in row))
    out = io.StringIO()
    out.write(BYTE_ORDER_MARK)
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow([_safe(name) for name in header])
    writer.writerows([_safe(row.get(name, "")) for name in header] for row in kept)
    return out.getvalue()


def _safe(cell: object) -> str:
    text = "" if cell is None else str(cell)
    risky = not isinstance(cell, int | float) and text.lstrip(" ")[:1] in FORMULA_STARTS
    return "'" + text if risky else text
