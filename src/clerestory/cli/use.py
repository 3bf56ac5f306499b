"""``clerestory use``: the small applications."""

from __future__ import annotations

from math import isnan
from pathlib import Path

from rich.table import Table

from clerestory.apps.captioning import caption_images, captions_csv
from clerestory.apps.datasets import load_dataset
from clerestory.apps.loading import known_models, load_model, privacy_notice
from clerestory.apps.search import build_index, search
from clerestory.apps.starter import live_or_starter
from clerestory.cli.output import PLAIN, Common
from clerestory.core.errors import DataError, InputError
from clerestory.data.images import decode_image
from clerestory.models.protocols import AnyModel, CaptionCandidate, require_capability
from clerestory.store import Store, open_store


def search_(
    *words: str, data: str = "icons", model: str = "icons@live", limit: int = 10, common: Common = PLAIN
) -> None:
    """Search images by text, in any phrasing.

    Args:
        words: The query, such as: a happy cat.
        data: The dataset to search: its name, or any source that "data add" accepts.
        model: A release (icons@3, icons@live), a model's digest, hf:org/name, a folder (./model), or
            openai:http://host/v1#model, or starter.
        limit: The maximum number of images.
    """
    store = open_store(common.home)
    embedder = require_capability(_load(store, model, common), "Embedder", "searching images", known_models(store))
    index = build_index(embedder, load_dataset(store, data, common.out), store, common.out)
    hits = search(embedder, index, " ".join(words), limit)
    table = Table("similarity", "sample", "caption", box=None)
    for hit in hits:
        table.add_row(f"{hit.score:.2f}", hit.sample.id, hit.sample.caption)
    rows = [{"id": h.sample.id, "caption": h.sample.caption, "score": round(h.score, 6)} for h in hits]
    common.out.result(rows, table)


def describe_(
    *files: Path, model: str = "icons@live", limit: int = 3, csv: Path | None = None, common: Common = PLAIN
) -> int:
    """Suggest captions for images.

    Args:
        files: JPEG, PNG or WEBP files.
        model: A release (icons@3, icons@live), a model's digest, hf:org/name, a folder (./model), or
            openai:http://host/v1#model, or starter.
        limit: The maximum number of suggestions for each image.
        csv: Write the best suggestion for each image to this file, to review and edit.
    """
    out = common.out
    images, read = [], []
    for path in files:
        try:
            images.append(decode_image(path.read_bytes()))
            read.append(path)
        except (OSError, InputError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            out.write_line(f"{path} is skipped: {reason}")
    if not images:
        raise DataError("none of the files is a readable image", "give the paths of JPEG, PNG or WEBP files")
    store = open_store(common.home)
    captioner = require_capability(_load(store, model, common), "Captioner", "captioning", known_models(store))
    suggestions = caption_images(captioner, images, limit)
    if problem := getattr(captioner, "last_error", ""):
        out.write_line(f"some images have no suggestion: {problem}")
    table = Table("file", "suggestion", "confidence", box=None)
    rows = []
    for path, some in zip(read, suggestions, strict=True):
        rows.append({"file": str(path), "suggestions": [_suggestion(each) for each in some]})
        for i, each in enumerate(some):
            confidence = "unknown" if isnan(each.score) else f"{each.score:.0%}"
            table.add_row(str(path) if i == 0 else "", each.text, confidence)
    if csv:
        best = [{"file": p.name, "caption": s[0].text if s else ""} for p, s in zip(read, suggestions, strict=True)]
        csv.write_text(captions_csv(best), encoding="utf-8", newline="")
        out.write_line(f"wrote {csv}")
    out.result(rows, table)
    return 0 if len(read) == len(files) and all(suggestions) else 2


def _load(store: Store, ref: str, common: Common) -> AnyModel:
    """Load a model; a replacement by the starter, and a model on another computer, are announced first."""
    ref, replaced = live_or_starter(store, ref)
    if replaced:
        common.out.write_line(f"notice: {replaced}")
    if notice := privacy_notice(ref):
        common.out.write_line(f"notice: {notice}")
    return load_model(store, ref)[0]


def _suggestion(suggestion: CaptionCandidate) -> dict[str, object]:
    return {"text": suggestion.text, "score": None if isnan(suggestion.score) else suggestion.score}
