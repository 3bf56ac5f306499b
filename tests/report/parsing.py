"""A page taken apart with the parser of the standard library."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "rect", "line", "circle", "polyline", "path", "input", "hr"}
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    parents: tuple[Element, ...] = ()
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def inside(self, tag: str) -> bool:
        return any(p.tag == tag for p in self.parents)


class Parsed(HTMLParser):
    """Every element in order, with its attributes, ancestors and the text within it; fails on unbalanced tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.chunks: list[tuple[Element, str]] = []
        self.feed(html)
        self.close()
        assert not self.open, [e.tag for e in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {k: v or "" for k, v in attrs}, tuple(self.open))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {k: v or "" for k, v in attrs}, tuple(self.open)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open[-1].tag == tag, (tag, [e.tag for e in self.open])
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.texts.append(data)
        if self.open and data.strip():
            self.chunks.append((self.open[-1], data))

    def all(self, tag: str) -> list[Element]:
        return [e for e in self.elements if e.tag == tag]

    def visible(self) -> list[tuple[Element, str]]:
        """Each piece of text a reader meets; style, and the marks along an axis, are not among it."""
        return [(e, text) for e, text in self.chunks if not any(_unseen(p) for p in (e, *e.parents))]


def _unseen(element: Element) -> bool:
    return element.tag in ("style", "script", "head") or "scale" in element.attributes.get("class", "").split()
