"""Caption suggestions for images, and a CSV file of the reviewed captions that spreadsheets open."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from clerestory.core.errors import InputError
from clerestory.models.protocols import AnyModel, CaptionCandidate, Captioner, require_capability

if TYPE_CHECKING:
    from PIL import Image

BYTE_ORDER_MARK = "\ufeff"
# A spreadsheet may run a cell that begins with one of these as a formula; it accepts the full-width forms, too.
FORMULA_STARTS = frozenset("=+-@\t\r\n＝＋－＠")


def caption_images(
    model: AnyModel | Captioner, images: Sequence[Image.Image], n: int = 3
) -> list[list[CaptionCandidate]]:
    """Up to ``n`` suggestions for each image, best first; an empty list for an image without any.

    Raises:
        CapabilityError: the model cannot generate captions.
        InputError: ``n`` is less than 1.
    """
    captioner = require_capability(model, "Captioner", "captioning")
    if n < 1:
        raise InputError(f"the number of suggestions is {n}", "request at least one")
    return captioner.caption_images(list(images), n) if images else []


def captions_csv(rows: Iterable[Mapping[str, object]]) -> str:
    """A CSV table with a header that Excel reads as UTF-8 and in which no cell is run as a formula.

    The columns are the keys of the rows in the order of their first appearance; a missing cell is empty. The text
    begins with a byte order mark (write it as UTF-8), lines end as in RFC 4180, and a text that a spreadsheet would
    run as a formula is preceded by an apostrophe.
    """
    table = [dict(row) for row in rows]
    header = list(dict.fromkeys(name for row in table for name in row))
    out = io.StringIO()
    out.write(BYTE_ORDER_MARK)
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow([_escape(name) for name in header])
    writer.writerows([_escape(row.get(name, "")) for name in header] for row in table)
    return out.getvalue()


def _escape(cell: object) -> str:
    text = "" if cell is None else str(cell)
    risky = not isinstance(cell, int | float) and text.lstrip(" ")[:1] in FORMULA_STARTS
    return "'" + text if risky else text
