"""What caption drafts are worth: ``make bench-photos-drafts PHOTOGRAPHS=captions.jsonl``.

The file is as for ``bench-photos``. As ``tune photos --caption-drafts`` measures them: on photographs that the decoder
was not trained on, beside the nearest caption of another photograph and the most frequent one. ``captions`` in a name
is the number of captions that each photograph has; ``kept`` is whether ``tune`` would keep the decoder.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import numpy as np

from clerestory.core.codec import Tags
from clerestory.core.evidence import Recipe
from clerestory.stages.train.tune.head.drafts import DECODER, SOURCES, DraftData, MeasuredDraft, measure_drafts
from clerestory.stages.train.tune.head.fit import HeadData, cross_fitted
from clerestory.stats.aggregate import aggregate
from photos import photographs
from table import Row, measure

SIZES = ((1000, 5), (500, 5), (300, 5), (1000, 1))  # photographs, captions of each


def subset(number: int, captions: int) -> tuple[HeadData, list[str]]:
    """The data of the first photographs with the first captions of each, and these captions."""
    all_data, texts = photographs().data, photographs().captions
    data = all_data.take(np.arange(number))
    place = np.array([i for own in texts[:number] for i in range(len(own))])
    first = np.flatnonzero(place < captions)
    kept = HeadData(
        data.features, data.embeddings, data.directions[first], data.texts[first], data.owner[first], data.groups
    )
    return kept, [text for own in texts[:number] for text in own[:captions]]


def drafts() -> Iterator[Row]:
    """CIDEr-D and chrF of the decoder and of the captions that cost nothing, and the differences."""
    model, total = photographs().model, len(photographs().captions)
    for number, captions in SIZES:
        if number > total:
            continue
        data, texts = subset(number, captions)
        start = time.perf_counter()
        measured = measure_drafts(DraftData.of(data, cross_fitted(data), texts), model.embed_texts)
        seconds = time.perf_counter() - start
        name = f"{number} photographs, {captions} captions"
        lows = []
        for score in ("cider", "chrf"):
            own, *others = (_scores(measured, source, score) for source in SOURCES)
            note = ", ".join(f"{source} {known.mean():.3f}" for source, known in zip(SOURCES[1:], others, strict=True))
            groups = [str(data.groups[each.image]) for each in measured if each.source == DECODER]
            lows += [_low(own - known, groups) for known in others]
            yield Row(f"{name}: {score}", own.mean(), "", "reported", True, len(own), note=note)
        bounds = ", ".join(f"{low:+.3f}" for low in lows)
        note = f"lower bounds of the differences {bounds}; measured in {seconds:.0f} s"
        yield Row(f"{name}: kept", float(min(lows) > 0), "", "reported", True, len(own), note=note)


def _scores(measured: list[MeasuredDraft], source: str, name: str) -> np.ndarray:
    return np.array([getattr(each, name) for each in measured if each.source == source])


def _low(differences: np.ndarray, groups: list[str]) -> float:
    """The lower bound of a mean difference, with near-duplicates as one, as ``tune`` computes it."""
    rows = {"difference": differences, "group": np.array(groups, object)}
    interval = aggregate(rows, Recipe("mean", "difference", Tags(), "group")).interval
    return interval.low if interval else -np.inf


if __name__ == "__main__":
    sys.exit(measure("photos-drafts", {"drafts": drafts}, sys.argv[1:]))
