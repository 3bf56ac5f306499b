"""Captions in a file beside each image: ``x.txt``, ``x.jpg.txt`` or ``x.json`` beside ``x.jpg``."""

from __future__ import annotations

import json
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from clerestory.core.evidence import Finding
from clerestory.core.sample import Caption
from clerestory.core.text import loose_name, valid_unicode
from clerestory.data import findings as data_findings
from clerestory.data.columns import Columns, RawRow
from clerestory.data.data_folder import DataFolder
from clerestory.data.findings import EmptyCaption

TEXT_SUFFIXES = (".txt", ".caption", ".text")
_BOXES = re.compile(
    r"(?:\s*-?[\d.]+(?:e-?\d+)?){5,}\s*", re.IGNORECASE
)  # of object detection: a class and four numbers


class Sidecars:
    """The files beside images.

    Args:
        folder: the data.
        images: the images.
        files: the files that may lie beside one.

    Attributes:
        files: those that do; every one of them belongs to an image.
        used: those that a caption was read from, or that are named in a finding.
    """

    def __init__(self, folder: DataFolder, images: Iterable[str], files: Iterable[str]) -> None:
        self._folder = folder
        self._by_key: defaultdict[str, list[str]] = defaultdict(list)
        for file in files:
            stem, suffix = posixpath.splitext(file)
            if suffix.lower() in (*TEXT_SUFFIXES, ".json"):
                self._by_key[loose_name(stem)].append(file)
        self.files = {file for image in images for file in self._beside(image)}
        self.used: set[str] = set()

    def _beside(self, image: str) -> list[str]:
        keys = dict.fromkeys((loose_name(posixpath.splitext(image)[0]), loose_name(image)))
        return [file for key in keys for file in self._by_key.get(key, ())]

    def read(self, row: RawRow) -> list[Finding]:
        """Add what the files beside the image of a row say; the first one with captions counts."""
        findings: list[Finding] = []
        for file in sorted(self._beside(row.file), key=lambda file: file.lower().endswith(".json")):
            try:
                content = (self._folder.root / file).read_bytes()
            except OSError:
                content = b"\xff"  # like a text that cannot be decoded
            if file.lower().endswith(".json"):
                captions = record_captions(content)
            else:
                captions, problems = text_captions(content, valid_unicode(file))
                findings += problems
                self.used |= {file} if problems else set()
            if captions:
                self.used.add(file)
                row.captions = captions
                break
        return findings


def text_captions(content: bytes, where: str) -> tuple[list[Caption], list[Finding]]:
    """Captions from a text, one per line, and a finding if it has none. Bounding boxes are not captions."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return [], [data_findings.empty_caption(where, EmptyCaption.NOT_UTF8)]
    lines = dict.fromkeys(line for raw in text.splitlines() if (line := " ".join(raw.split())))
    if lines and all(_BOXES.fullmatch(line) for line in lines):
        return [], []
    return ([Caption(line) for line in lines], []) if lines else ([], [data_findings.empty_caption(where)])


def record_captions(content: bytes) -> list[Caption]:
    """Captions from a JSON object with the columns of a table; empty if there are none."""
    record = json_record(content)
    return Columns(record).read_row(record, "")[0].captions if record else []


def json_record(content: bytes) -> Mapping[str, Any]:
    """The object in a JSON text; empty if there is none."""
    try:
        record = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return {}
    return {str(key): value for key, value in record.items()} if isinstance(record, dict) else {}
