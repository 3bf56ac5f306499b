"""The pages of the documentation, and what is in their code blocks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GUIDES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
PAGES = sorted([*GUIDES, ROOT / "CHANGELOG.md", *ROOT.glob("bench/*.md")])
SHELLS = ("", "sh", "console")
ENTRY = "clerestory.cli.main"  # of processes that torchrun starts


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A fenced code block: its language, its text, and the last line of text before it."""

    language: str
    text: str
    before: str

    @property
    def file(self) -> str:
        """The file that it shows: named by its first line, or as the last file of the text before."""
        first = re.match(r"(?:#|<!--) (\S+\.\w+)", self.text)
        named = re.findall(r"`([\w./-]+\.(?:toml|csv|sh|jsonl))`", self.before)
        return first[1] if first else (named[0] if named else "")

    def commands(self) -> Iterator[list[str]]:
        """The arguments of each ``clerestory`` in a block of shell lines."""
        if self.language in SHELLS:
            for line in re.sub(r"\\\n\s*", "", self.text).splitlines():
                for part in re.split(r";\s", re.sub(r"(^|\s)# ?.*$", "", line)):
                    yield from arguments(part)


def arguments(command: str) -> Iterator[list[str]]:
    """The arguments of a line that calls ``clerestory``; nothing for other lines."""
    try:
        words = shlex.split(command.removeprefix("$ "))
    except ValueError:
        return  # prose
    if ENTRY in words:
        yield words[words.index(ENTRY) + 1 :]
    elif words and words[0].removeprefix(".venv/bin/") == "clerestory":
        yield words[1:]


def blocks(page: Path) -> list[Block]:
    found, before = [], ""
    for chunk in re.split(r"(^```.*?^```$\n?)", page.read_text("utf-8"), flags=re.M | re.S):
        fenced = re.fullmatch(r"```(\w*)[^\n]*\n(.*?)```\n?", chunk, re.S)
        if fenced:
            found.append(Block(fenced[1], fenced[2], before))
        elif chunk.strip():
            before = chunk.strip().rpartition("\n\n")[2]
    return found


def spans(page: Path) -> Iterator[list[str]]:
    """The arguments of each ``clerestory …`` in the text; not a mere name of a command, nor several in one."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    for span in re.findall(r"`((?:\.venv/bin/)?clerestory [^`|]+)`", text):
        yield from arguments(span)
