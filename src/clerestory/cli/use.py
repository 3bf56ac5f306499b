"""``clerestory use``: the small applications."""

from __future__ import annotations

from math import isnan
from pathlib import Path

from rich.table import Table

from clerestory.apps.catalogue import dataset
from clerestory.apps.describe import captions_csv, describe
from clerestory.apps.loading import known_models, load_model, privacy_notice
from clerestory.apps.search import build_index, search
from clerestory.apps.starter import live_or_starter
from clerestory.cli.output import PLAIN, Common
from clerestory.core.errors import DataError, InputError
from clerestory.data.images import decode_image
from clerestory.models.protocols import AnyModel, Suggestion, need
from clerestory.store import Store, open_store


def search_(
    *words: str, data: str = "icons", model: str = "icons@live", most: int = 10, common: Common = PLAIN
) -> None:
    """Find pictures by words, in any phrasing.

    Args:
        words: What to look for, such as: a happy cat.
        data: The pictures to search in: a name, or what "data add" takes.
        model: A release (icons@3, icons@live), a model's digest, hf:org/name, a folder (./model), or
            openai:http://host/v1#model, or starter.
        most: How many pictures to show.
    """
    store = open_store(common.home)
    loaded = need(_load(store, model, common), "Embedder", "searching pictures", known_models(store))
    index = build_index(loaded, dataset(store, data, common.out), store, common.out)
    hits = search(loaded, index, " ".join(words), most)
    table = Table("similarity", "picture", "caption", box=None)
    for hit in hits:
        table.add_row(f"{hit.score:.2f}", hit.sample.id, hit.sample.caption)
    rows = [{"id": h.sample.id, "caption": h.sample.caption, "score": round(h.score, 6)} for h in hits]
    common.out.result(rows, table)


def describe_(
    *pictures: Path, model: str = "icons@live", most: int = 3, csv: Path | None = None, common: Common = PLAIN
) -> int:
    """Suggest captions for pictures.

    Args:
        pictures: JPEG, PNG or WEBP files.
        model: A release (icons@3, icons@live), a model's digest, hf:org/name, a folder (./model), or
            openai:http://host/v1#model, or starter.
        most: How many suggestions for each picture.
        csv: Write the best suggestion of each picture to this file, to review and edit.
    """
    out = common.out
    images, read = [], []
    for path in pictures:
        try:
            images.append(decode_image(path.read_bytes()))
            read.append(path)
        except (OSError, InputError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            out.say(f"{path} is left out: {why}")
    if not images:
        raise DataError("none of the pictures can be read", "give the paths of JPEG, PNG or WEBP files")
    store = open_store(common.home)
    loaded = need(_load(store, model, common), "Describer", "captioning", known_models(store))
    suggestions = describe(loaded, images, most)
    if problem := getattr(loaded, "trouble", ""):
        out.say(f"some pictures got no description: {problem}")
    table = Table("picture", "suggestion", "how sure", box=None)
    rows = []
    for path, offers in zip(read, suggestions, strict=True):
        rows.append({"picture": str(path), "suggestions": [_offer(offer) for offer in offers]})
        for i, offer in enumerate(offers):
            sure = "not told" if isnan(offer.score) else f"{offer.score:.0%}"
            table.add_row(str(path) if i == 0 else "", offer.text, sure)
    if csv:
        best = [{"picture": p.name, "caption": o[0].text if o else ""} for p, o in zip(read, suggestions, strict=True)]
        csv.write_text(captions_csv(best), encoding="utf-8", newline="")
        out.say(f"wrote {csv}")
    out.result(rows, table)
    return 0 if len(read) == len(pictures) and all(suggestions) else 2


def _load(store: Store, ref: str, common: Common) -> AnyModel:
    """The model; where it is another than asked for, or pictures would leave this computer, that is said first."""
    ref, other = live_or_starter(store, ref)
    if other:
        common.out.say(f"notice: {other}")
    if notice := privacy_notice(ref):
        common.out.say(f"notice: {notice}")
    return load_model(store, ref)[0]


def _offer(offer: Suggestion) -> dict[str, object]:
    return {"text": offer.text, "score": None if isnan(offer.score) else offer.score}
