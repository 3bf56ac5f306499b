"""How well ``photos`` finds photographs: ``make bench-photos PHOTOGRAPHS=captions.jsonl``.

The file has one captioned photograph in each line: ``image`` (a path, relative to the file) and ``captions`` (English).
The bars of quality are for 1,000 photographs with five captions each, of which none was used to make the model.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from clerestory.apps.query_match import QueryMatch, fit_query_match
from clerestory.apps.search import SearchIndex
from clerestory.core.sample import Sample
from clerestory.models import open_reference
from clerestory.models.photo.encoder import PhotoEncoder
from clerestory.models.photo.space import PhotoSpace
from clerestory.stages.train.tune.head.fit import (
    HeadData,
    assign_folds,
    caption_ranks,
    cross_fitted,
    fit_head,
    near_duplicates,
    reciprocal_ranks,
)
from clerestory.stages.train.tune.head.requirements import NUM_FOLDS
from table import Row, measure

QUERIES = json.loads(Path(__file__).with_name("photo_queries.json").read_text(encoding="utf-8"))
FIRST, MIN_SHOWING, CANDIDATES, FEW = 5, 5, 101, 200
Rows = Iterator[Row]


class Photographs(NamedTuple):
    """The photographs of the bench: their captions and what the model knows about them."""

    model: PhotoEncoder
    captions: list[list[str]]
    data: HeadData
    embed_seconds: float
    caption_rows: np.ndarray


@cache
def photographs() -> Photographs:
    """Embed the photographs, once for all sections."""
    file = os.environ.get("PHOTOGRAPHS", "")
    if not Path(file).is_file():
        sys.exit("set PHOTOGRAPHS to a JSON Lines file of captioned photographs (image, captions)")
    lines = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()]
    model = open_reference("photos")
    assert isinstance(model, PhotoEncoder)
    model.embed_images([Image.new("RGB", (64, 64))])
    paths = [Path(file).parent / line["image"] for line in lines]
    start = time.perf_counter()
    found = model.features([Image.open(path) for path in paths])
    seconds = time.perf_counter() - start
    captions = [line["captions"] for line in lines]
    owner = np.array([i for i, texts in enumerate(captions) for _ in texts])
    rows = model.text_tower.embed([text.strip() for texts in captions for text in texts])
    space = model.space
    data = HeadData(
        found.features,
        space.embed_features(found.features, found.logits)[:, 1:],
        space.directions(rows),
        space.embed_texts(rows)[:, 1:],
        owner,
        near_duplicates(found.features, [str(path) for path in paths]),
    )
    return Photographs(model, captions, data, seconds, rows)


def retrieval() -> Rows:
    """Words find photographs, without anybody's captions."""
    data = photographs().data
    ranks = 1 / reciprocal_ranks(data.texts, data.embeddings, data.owner)
    images = caption_ranks(data.texts, data.embeddings, data.owner)
    yield _share("text→image recall@10", ranks <= 10, 0.36)
    yield Row("median rank", float(np.median(ranks)), "", "≤ 28", bool(np.median(ranks) <= 28), len(ranks))
    yield _share("image→text recall@10", images <= 10, 0.33)


def own_captions() -> Rows:
    """The gain of a head, on photographs that it was not fitted on."""
    data = photographs().data
    held_out = cross_fitted(data)
    without = (1 / reciprocal_ranks(data.texts, data.embeddings, data.owner)) <= 10
    yield _share("recall@10, head of four fifths", (1 / reciprocal_ranks(data.texts, held_out, data.owner)) <= 10, 0.54)
    images = caption_ranks(data.texts, held_out, data.owner)
    yield Row("image→text recall@10, same", float((images <= 10).mean()), "", "reported", True, len(images))
    yield _share("recall@10, head of 200", _head_of(data, FEW), 0.41)
    for number in (25, 50, 100):
        hits = _head_of(data, number)
        holds = bool(hits.mean() >= without.mean() - 0.005)
        yield Row(f"recall@10, head of {number}", float(hits.mean()), "", "≥ no head", holds, len(hits))
    first, ten = _among_candidates(data, held_out)
    yield _share(f"recall@1 of {CANDIDATES}, head of the rest", first, 0.48)
    yield _share(f"recall@10 of {CANDIDATES}, head of the rest", ten, 0.91)
    start = time.perf_counter()
    fit_head(data)
    seconds = time.perf_counter() - start
    yield Row(
        "fitting a head, after embedding",
        seconds,
        "s",
        "≤ 10 s",
        seconds <= 10,
        len(data.owner),
        note="captions, after embedding",
    )


def queries() -> Rows:
    """Everyday queries, and queries about things that no photograph shows."""
    here = photographs()
    texts = [" ".join(captions).lower() for captions in here.captions]
    precisions, answerable = [], []
    for query, patterns in QUERIES["everyday"].items():
        shows = np.array([all(re.search(pattern, text) for pattern in patterns) for text in texts])
        if shows.sum() >= MIN_SHOWING:
            answerable.append(query)
            best = np.argsort(-(here.data.embeddings @ _text(here, query)))[:FIRST]
            precisions.append(shows[best].mean())
    yield _share(f"precision@{FIRST} of everyday queries", np.array(precisions), 0.6)
    absent = [query for query in QUERIES["about_nothing_here"] if not _mentioned(query, texts)]
    for name, embeddings, bar in (("", here.data.embeddings, 0.92), (", with a head", cross_fitted(here.data), 0.96)):
        kept, rejected = (
            np.array([np.max(embeddings @ _text(here, query)) for query in some]) for some in (answerable, absent)
        )
        auroc = float((kept[:, None] > rejected).mean())
        note = f"{len(absent)} queries about nothing here"
        yield Row(f"nothing matches: AUROC{name}", auroc, "", f"≥ {bar}", auroc >= bar, len(answerable), note=note)
    match = _match()
    for name, some, is_good in (("kept", answerable, True), ("rejected", absent, False)):
        decided = [match.is_answerable(_index(), here.model.embed_texts([query])[0]) == is_good for query in some]
        yield Row(f"nothing matches: {name}", float(np.mean(decided)), "", "", True, len(some), note="at the limit")


def speed() -> Rows:
    """Embedding on this machine, decoding included."""
    here = photographs()
    seconds = here.embed_seconds / len(here.captions) * 1_000
    yield Row("embedding 1,000 photographs", seconds, "s", "≤ 25 s", seconds <= 25, len(here.captions))


def _share(name: str, hits: Any, bar: float) -> Row:
    value = float(np.mean(hits))
    error = float(np.std(hits) / np.sqrt(len(hits)))
    return Row(name, value, "", f"≥ {bar}", value >= bar, len(hits), note=f"± {1.96 * error:.3f}")


def _head_of(data: HeadData, number: int) -> Any:
    """Hits where each fold is embedded by a head of some photographs of the other folds."""
    folds, out = assign_folds(data.groups), np.zeros_like(data.embeddings)
    draw = np.random.default_rng(0)
    for fold in range(NUM_FOLDS):
        rows = np.flatnonzero(folds == fold)
        others = np.sort(draw.choice(np.flatnonzero(folds != fold), number, replace=False))
        head = fit_head(data.take(others)).head
        out[rows] = PhotoSpace.mix(data.embeddings[rows], head.predict(data.features[rows]), head)
    return (1 / reciprocal_ranks(data.texts, out, data.owner)) <= 10


def _among_candidates(data: HeadData, held_out: Any) -> tuple[Any, Any]:
    """Whether each caption's photograph is first, and among ten, of itself and others of its fold."""
    folds, draw, ranks = assign_folds(data.groups), np.random.default_rng(0), []
    for text, own in zip(data.texts, data.owner, strict=True):
        others = draw.choice(
            np.flatnonzero((folds == folds[own]) & (np.arange(len(data)) != own)), CANDIDATES - 1, replace=False
        )
        ranks.append(1 + int((held_out[others] @ text >= held_out[own] @ text).sum()))
    return np.array(ranks) <= 1, np.array(ranks) <= 10


def _text(here: Photographs, query: str) -> Any:
    return here.model.embed_texts([query])[0, 1:]


def _mentioned(query: str, texts: list[str]) -> bool:
    """Whether one of its last two words is in a caption."""
    nouns = [word for word in re.findall(r"[a-z-]{4,}", query.lower()) if word not in ("with", "from", "work", "image")]
    return any(re.search(rf"\b{noun}s?\b", text) for noun in nouns[-2:] for text in texts)


@cache
def _match() -> QueryMatch:
    here = photographs()
    match = fit_query_match(here.model, _index(), np.zeros((0, here.model.dims[-1]), np.float32))
    assert match is not None
    return match


@cache
def _index() -> SearchIndex:
    here = photographs()
    rows = np.concatenate([np.zeros((len(here.captions), 1)), here.data.embeddings], axis=1).astype(np.float32)
    samples = tuple(Sample(id=str(i), image="", captions=()) for i in range(len(rows)))
    return SearchIndex(here.model.digest, "", samples, rows, here.model.dims)


SECTIONS = {"retrieval": retrieval, "captions": own_captions, "queries": queries, "speed": speed}

if __name__ == "__main__":
    sys.exit(measure("photos", SECTIONS, sys.argv[1:]))
