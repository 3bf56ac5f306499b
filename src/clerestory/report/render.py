"""A page as HTML, JSON and Markdown."""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from clerestory.core.codec import encode
from clerestory.report.model import ReportData
from clerestory.report.view import Page

HERE = Path(__file__).parent
FORMAT = "clerestory-report/1"
# Drawings and thumbnails are the same numbers and pictures once more; they would make the JSON ten times as long.
DRAWN = {"svg", "picture"}


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_html(page: Page, json_name: str = "") -> str:
    """One HTML document that needs nothing else: style and drawings are inside, there is no script.

    Args:
        page: what it shows.
        json_name: the file with the same numbers, to link to; empty for no link.
    """
    style = Markup((HERE / "style.css").read_text(encoding="utf-8"))
    return _environment().get_template("report.html").render(page=page, style=style, json_name=json_name)


def fill(template: str, **values: object) -> str:
    """Another page of the same look: a template by its file name, filled in, with the common style inside."""
    style = Markup((HERE / "style.css").read_text(encoding="utf-8"))
    return _environment().get_template(template).render(style=style, **values)


def render_json(data: ReportData, page: Page) -> str:
    """What is known (``known``) and what the page says of it (``shown``); thumbnails and drawings left out."""
    known = {**_plain(data), "evidence": [_evidence(data, i) for i in range(len(data.evidence))]}
    content = {"format": FORMAT, "ref": page.ref, "model": page.model, "shown": _plain(page), "known": known}
    return json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def render_markdown(page: Page) -> str:
    """A model card: the answer, the numbers, the data and where it all comes from."""
    environment = _environment().overlay(autoescape=False)
    environment.filters["cell"] = _cell
    return environment.get_template("card.md").render(page=page)


def _cell(text: str) -> str:
    """Text that stays inside one cell of a Markdown table and is no markup."""
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")
    return " ".join(escaped.split())


def _evidence(data: ReportData, place: int) -> dict[str, Any]:
    held = data.evidence[place]
    return {"id": held.id, "changed": list(held.changed), **encode(held.evidence)}


def _plain(value: Any) -> Any:
    """Plain JSON data of a noun, without what is drawn."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (f.name for f in dataclasses.fields(value) if f.name not in DRAWN)
        return {name: _plain(getattr(value, name)) for name in fields}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return encode(value)
