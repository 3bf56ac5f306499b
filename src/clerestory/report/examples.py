"""The examples an examination kept, with thumbnails of their pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clerestory.core.errors import NotFound
from clerestory.core.sample import Dataset
from clerestory.report.model import Example, Neighbour, Written
from clerestory.report.thumbnails import Thumbnails

EACH, NEIGHBOURS, WRITTEN = 2, 6, 3


@dataclass(frozen=True, slots=True)
class Examples:
    """Questions with their nearest answers, and captions the model wrote."""

    retrieved: tuple[Example, ...]
    written: tuple[Written, ...]


def read_examples(content: bytes, pictures: Dataset | None) -> Examples:
    """Read the ``examples`` artifact of an examination.

    Of each split, direction and kind at most ``EACH`` are kept with ``NEIGHBOURS`` answers, and ``WRITTEN`` captions
    of each split; thumbnails come from ``pictures`` where the sample is in them, as long as there is room.

    Raises:
        ValueError, KeyError, TypeError: the artifact is not of this form.
    """
    artifact = json.loads(content)
    reader = _Reader(pictures)
    # Written captions first: they need few pictures, and the room for thumbnails is limited.
    written = tuple(reader.written(one) for one in _first(artifact.get("captions", ()), WRITTEN, "split"))
    chosen = _first(artifact["examples"], EACH, "split", "task", "kind")
    return Examples(tuple(reader.example(one) for one in chosen), written)


def _first(rows: list[Mapping[str, Any]], most: int, *keys: str) -> list[Mapping[str, Any]]:
    taken: dict[tuple[Any, ...], int] = {}
    kept = []
    for one in rows:
        group = tuple(one[key] for key in keys)
        taken[group] = taken.get(group, 0) + 1
        if taken[group] <= most:
            kept.append(one)
    return kept


class _Reader:
    def __init__(self, pictures: Dataset | None) -> None:
        self._pictures = pictures
        self._thumbnails = Thumbnails()

    def picture(self, sample_id: str) -> str:
        """A thumbnail as a data URI; empty when there is no such picture, or it cannot be read, or no room is left."""
        if self._pictures is None:
            return ""
        try:
            sample = self._pictures[sample_id]
        except NotFound:
            return ""
        return self._thumbnails.of(sample, self._pictures.read)

    def example(self, one: Mapping[str, Any]) -> Example:
        by_words = one["task"] == "text_to_image"
        return Example(
            task=one["task"],
            split=one["split"],
            grade=one["kind"],
            sample=one["sample"],
            caption=one["caption"],
            rank=float(one["rank"]),
            candidates=int(one.get("candidates", 0)),
            neighbours=tuple(
                Neighbour(n["sample"], n["caption"], bool(n["correct"]), self.picture(n["sample"]) if by_words else "")
                for n in one["neighbours"][:NEIGHBOURS]
            ),
            # Asked in words: showing the picture as well would give the answer away.
            picture="" if by_words else self.picture(one["sample"]),
        )

    def written(self, one: Mapping[str, Any]) -> Written:
        said = tuple(str(s["text"]) for s in one["suggestions"])
        return Written(one["split"], one["sample"], one["caption"], said, self.picture(one["sample"]))
