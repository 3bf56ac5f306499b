"""Tables for tests: how a test writes one, and what is read from it."""

from __future__ import annotations

from pathlib import Path

from clerestory.core.sample import Dataset


def captions(data: Dataset) -> dict[str, list[str]]:
    return {sample.id: [caption.text for caption in sample.captions] for sample in data}


def table(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
