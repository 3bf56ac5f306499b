"""A page as HTML, JSON and Markdown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from clerestory.core.codec import encode
from clerestory.report.model import EvidenceRecord, ReportData
from clerestory.report.view import ReportPage

HERE = Path(__file__).parent
FORMAT = "clerestory-report/2"
# Drawings and thumbnails repeat numbers and images; measurements and reasons are under ``known`` as a whole.
OMITTED = {"svg", "thumbnail", "measurement", "reason"}


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_html(page: ReportPage, json_name: str = "") -> str:
    """One HTML document that needs nothing else: style and drawings are inside, there is no script.

    Args:
        page: what it shows.
        json_name: the file with the same numbers, to link to; empty for no link.
    """
    style = Markup((HERE / "style.css").read_text(encoding="utf-8"))
    return _environment().get_template("report.html").render(page=page, style=style, json_name=json_name)


def fill(template: str, **values: object) -> str:
    """Another page of the same style: a template by its file name, with the common style sheet inside."""
    style = Markup((HERE / "style.css").read_text(encoding="utf-8"))
    return _environment().get_template(template).render(style=style, **values)


def render_json(data: ReportData, page: ReportPage) -> str:
    """Everything known (``known``) and everything the page shows (``shown``), without thumbnails and drawings."""
    known = {**_plain(data), "evidence": [_evidence(record) for record in data.evidence]}
    content = {"format": FORMAT, "ref": page.ref, "model": page.model, "shown": _plain(page), "known": known}
    return json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def render_markdown(page: ReportPage) -> str:
    """A model card: the answer, the numbers, the data and where it all comes from."""
    environment = _environment().overlay(autoescape=False)
    environment.filters["cell"] = _cell
    return environment.get_template("card.md").render(page=page)


def _cell(text: str) -> str:
    """Text that stays inside one cell of a Markdown table and is not markup."""
    escaped = text.replace("\\", "\\\\").replace("<", "&lt;")
    for mark in ("|", "`", "*", "]("):
        escaped = escaped.replace(mark, f"\\{mark}")
    return " ".join(escaped.split())


def _evidence(record: EvidenceRecord) -> dict[str, Any]:
    return {"id": record.id, "changed": list(record.changed), **encode(record.evidence)}


def _plain(value: Any) -> Any:
    """Plain JSON data of a value, without what ``OMITTED`` names."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain_fields({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain_fields(value._asdict())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return encode(value)


def _plain_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in fields.items() if name not in OMITTED}
