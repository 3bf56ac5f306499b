"""The Markdown of a runbook as blocks for a template: headings, lists, code and paragraphs, and nothing else.

The template escapes every text, so that HTML in a runbook is shown as text. Any other line is part of a paragraph.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_HEADING = re.compile(r"#{1,6}\s+(.+?)\s*#*")
_ITEM = re.compile(r"\s*(?:([-*+])|\d{1,9}[.)])\s+(.+)")
_FENCE = re.compile(r"\s*```")
_SPAN = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*")


@dataclass(frozen=True, slots=True)
class RunbookSpan:
    """A piece of a line: text, code or bold."""

    kind: Literal["text", "code", "bold"]
    text: str


@dataclass(frozen=True, slots=True)
class RunbookBlock:
    """One block.

    Attributes:
        kind: of the block; the items of a list of numbers are ``ordered``.
        lines: of code one; of a list the items; otherwise one.
    """

    kind: Literal["heading", "paragraph", "ordered", "bullets", "code"]
    lines: tuple[tuple[RunbookSpan, ...], ...]


def runbook_blocks(text: str) -> list[RunbookBlock]:
    """The blocks of a runbook, in their order."""
    blocks: list[RunbookBlock] = []
    kind: Literal["paragraph", "ordered", "bullets"] = "paragraph"
    open_lines: list[str] = []

    def close() -> None:
        if open_lines:
            blocks.append(RunbookBlock(kind, tuple(_spans(line) for line in open_lines)))
            open_lines.clear()

    lines = iter(text.splitlines())
    for line in lines:
        if _FENCE.match(line):
            close()
            code = []
            for inner in lines:  # up to the closing fence, or to the end
                if _FENCE.match(inner):
                    break
                code.append(inner)
            blocks.append(RunbookBlock("code", ((RunbookSpan("text", "\n".join(code)),),)))
        elif not line.strip():
            close()
        elif heading := _HEADING.fullmatch(line):
            close()
            blocks.append(RunbookBlock("heading", (_spans(heading.group(1)),)))
        elif item := _ITEM.fullmatch(line):
            wanted: Literal["ordered", "bullets"] = "bullets" if item.group(1) else "ordered"
            if kind != wanted:
                close()
            kind = wanted
            open_lines.append(item.group(2))
        elif open_lines:  # goes on in the next line
            open_lines[-1] += f" {line.strip()}"
        else:
            kind = "paragraph"
            open_lines.append(line.strip())
    close()
    return blocks


def _spans(line: str) -> tuple[RunbookSpan, ...]:
    spans, end = [], 0
    for match in _SPAN.finditer(line):
        if match.start() > end:
            spans.append(RunbookSpan("text", line[end : match.start()]))
        code, bold = match.groups()
        spans.append(RunbookSpan("code", code) if code else RunbookSpan("bold", bold))
        end = match.end()
    return (*spans, RunbookSpan("text", line[end:])) if end < len(line) else tuple(spans)
