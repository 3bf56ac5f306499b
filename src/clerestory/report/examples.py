"""The examples that an evaluation stored, with thumbnails of their images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clerestory.core.errors import NotFound
from clerestory.core.rows import TaskName
from clerestory.core.sample import Dataset
from clerestory.report.model import CaptionExample, Neighbour, RetrievalExample
from clerestory.report.thumbnails import ReportThumbnails

MAX_QUERIES, MAX_NEIGHBOURS, MAX_CAPTIONS = 2, 6, 3


@dataclass(frozen=True, slots=True)
class Examples:
    """Queries with their nearest answers, and generated captions."""

    queries: tuple[RetrievalExample, ...] = ()
    captions: tuple[CaptionExample, ...] = ()


def read_examples(content: bytes, data: Dataset | None) -> Examples:
    """Read the ``examples`` artifact of an evaluation.

    Of each split, direction and grade at most ``MAX_QUERIES`` are shown with ``MAX_NEIGHBOURS`` answers, and
    ``MAX_CAPTIONS`` captions of each split; thumbnails come from ``data``, as long as their total size allows.

    Raises:
        ValueError, KeyError, TypeError: the artifact is not of this form.
    """
    artifact = json.loads(content)
    reader = _Reader(data)
    # Captions first: they need few images, and the total size of the thumbnails is limited.
    captions = tuple(reader.caption(one) for one in _first(artifact.get("captions", ()), MAX_CAPTIONS, "split"))
    chosen = _first(artifact["examples"], MAX_QUERIES, "split", "task", "kind")
    return Examples(tuple(reader.query(one) for one in chosen), captions)


def _first(rows: list[Mapping[str, Any]], limit: int, *keys: str) -> list[Mapping[str, Any]]:
    taken: dict[tuple[Any, ...], int] = {}
    chosen = []
    for one in rows:
        group = tuple(one[key] for key in keys)
        taken[group] = taken.get(group, 0) + 1
        if taken[group] <= limit:
            chosen.append(one)
    return chosen


class _Reader:
    def __init__(self, data: Dataset | None) -> None:
        self._data = data
        self._thumbnails = ReportThumbnails()

    def thumbnail(self, sample_id: str) -> str:
        """A data URI; empty without such an image, if it is unreadable, or if the size limit is reached."""
        if self._data is None:
            return ""
        try:
            sample = self._data[sample_id]
        except NotFound:
            return ""
        return self._thumbnails.of(sample, self._data.read)

    def query(self, one: Mapping[str, Any]) -> RetrievalExample:
        is_text = one["task"] == TaskName.TEXT_TO_IMAGE
        return RetrievalExample(
            task=one["task"],
            split=one["split"],
            grade=one["kind"],
            sample=one["sample"],
            caption=one["caption"],
            rank=float(one["rank"]),
            candidates=int(one.get("candidates", 0)),
            neighbours=tuple(
                Neighbour(n["sample"], n["caption"], bool(n["correct"]), self.thumbnail(n["sample"]) if is_text else "")
                for n in one["neighbours"][:MAX_NEIGHBOURS]
            ),
            # The image of a text query would give its answer away.
            thumbnail="" if is_text else self.thumbnail(one["sample"]),
        )

    def caption(self, one: Mapping[str, Any]) -> CaptionExample:
        suggestions = tuple(str(s["text"]) for s in one["suggestions"])
        return CaptionExample(one["split"], one["sample"], one["caption"], suggestions, self.thumbnail(one["sample"]))
