"""How precise the tags of photographs are: ``make bench-photos-kinds``.

``PHOTOGRAPHS`` is a JSON Lines file of photographs with five captions each (``image``, a path relative to the file;
``captions``) that were not used to fit the tags. A tag is right if one of the captions has the word, or a word for
something that it covers: "puppy" for the tag "dog". Captions do not name everything, so the true precision is higher.

Tags that are learned from captions are measured in five folds, in four random orders: learned from the photographs of
four folds, as ``tune photos`` does, and counted on the fifth. A learned tag is right if a caption has the very word, or
its plural.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from clerestory.apps.right_model import included_photos
from clerestory.apps.tags import included_tagger
from clerestory.models.photo.encoder import PhotoFeatures
from clerestory.models.photo.learned_tags import phrases_of
from clerestory.stages.train.tune.head.caption_tags import learn_from_captions
from clerestory.stages.train.tune.head.fit import near_duplicates
from clerestory.stats.intervals import wilson
from table import Row, measure

NUM_IMAGES = int(os.environ.get("NUM_IMAGES", "400"))
MIN_CAPTIONS = 5
BATCH_SIZE = 16
MIN_PRECISION, MIN_COVERAGE = 0.88, 0.4
NUM_ORDERS, NUM_FOLDS, FITTED_ON = 4, 5, (50, 100, 200, 400, 800)


@cache
def photographs() -> tuple[list[list[str]], PhotoFeatures]:
    """The captions and the features of each photograph, in random order."""
    path = Path(os.environ.get("PHOTOGRAPHS", ""))
    if not path.is_file():
        sys.exit("set PHOTOGRAPHS to a JSON Lines file of captioned photographs (image, captions)")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = [row for row in rows if len(row["captions"]) >= MIN_CAPTIONS]
    rows = random.Random(0).sample(rows, min(len(rows), NUM_IMAGES))
    parts = [
        included_photos().features([Image.open(path.parent / row["image"]) for row in rows[start : start + BATCH_SIZE]])
        for start in range(0, len(rows), BATCH_SIZE)
    ]
    return [row["captions"] for row in rows], PhotoFeatures(
        *(np.concatenate(part) for part in zip(*parts, strict=True))
    )


def tags() -> Iterator[Row]:
    """Coverage, precision and calibration."""
    captions, found = photographs()
    tagger = included_tagger()
    tagged, all_right, wrong = 0, 0, Counter[str]()
    probabilities, right = [], []
    for texts, some in zip(captions, tagger.tags(found), strict=True):
        said = phrases_of(texts)
        correct = [bool(tagger.meanings[tag.text] & said) for tag in some]
        wrong.update(tag.text for tag, ok in zip(some, correct, strict=True) if not ok)
        probabilities += [tag.probability for tag in some]
        right += correct
        tagged += bool(some)
        all_right += bool(some) and all(correct)
    coverage, precision = tagged / len(captions), float(np.mean(right))
    interval = wilson(precision, len(right), 1.96, 0.95)
    often = ", ".join(f"{name} ({n})" for name, n in wrong.most_common(5))
    covers = coverage >= MIN_COVERAGE
    yield Row("photographs with a tag", coverage, "share", f"≥ {MIN_COVERAGE}", covers, len(captions))
    note = f"95 % interval {interval.low:.3f} to {interval.high:.3f}; wrong most often: {often}"
    yield Row(
        "tags: precision", precision, "share", f"≥ {MIN_PRECISION}", precision >= MIN_PRECISION, len(right), "", note
    )
    share = all_right / tagged
    yield Row("photographs with a tag: all tags are right", share, "share", "reported", True, tagged)
    gap = float(np.mean(probabilities)) - precision
    yield Row("tags: mean probability less precision", gap, "share", "within 0.05", abs(gap) <= 0.05, len(right))


def learned() -> Iterator[Row]:
    """Precision and coverage of tags that are learned from captions, by the number of captioned photographs."""
    captions, found = photographs()
    number = len(captions)
    orders = [np.random.default_rng(seed).permutation(number) for seed in range(NUM_ORDERS)]
    for size in (size for size in FITTED_ON if size <= number * (NUM_FOLDS - 1) // NUM_FOLDS):
        right: list[list[bool]] = [[] for _ in orders]
        covered, words = 0, []
        for order, own in zip(orders, right, strict=True):
            for fold in range(NUM_FOLDS):
                held_out, fitted = order[fold::NUM_FOLDS], np.delete(order, np.s_[fold::NUM_FOLDS])[:size]
                groups = near_duplicates(found.features[fitted], [str(i) for i in fitted])
                tags = learn_from_captions(found.features[fitted], [captions[i] for i in fitted], groups)
                words.append(tags.names if tags else ())
                for i, some in zip(held_out, tags.probable(found.features[held_out]) if tags else (), strict=False):
                    said = phrases_of(captions[i])
                    own += [name in said for name, _ in some]
                    covered += bool(some)
        often = ", ".join(name for name, _ in Counter(w for some in words for w in some).most_common(8)) or "none"
        name, counts = f"learned from {size} photographs", [len(some) for some in words]
        if total := [each for own in right for each in own]:
            precision = float(np.mean(total))
            by_order = ", ".join(f"{np.mean(own):.3f} of {len(own)}" for own in right if own)
            note = f"by order {by_order}; words {min(counts)} to {max(counts)}, mean {np.mean(counts):.1f}; {often}"
            holds = precision >= MIN_PRECISION
            yield Row(f"{name}: precision", precision, "share", f"≥ {MIN_PRECISION}", holds, len(total), "", note)
        share = covered / (number * len(orders))
        yield Row(f"{name}: photographs with a tag", share, "share", "reported", True, number)


if __name__ == "__main__":
    sys.exit(measure("photos_tags", {"tags": tags, "learned": learned}, sys.argv[1:]))
