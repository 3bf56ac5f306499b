"""How precise the tags of photographs are: ``make bench-photos-kinds``.

``PHOTOGRAPHS`` is a JSON Lines file of photographs with five captions each (``image``, a path relative to the file;
``captions``) that were not used to fit the tags. A tag is right if one of the captions has the word, or a word for
something that it covers: "puppy" for the tag "dog". Captions do not name everything, so the true precision is higher.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from clerestory.apps.right_model import included_photos
from clerestory.apps.tags import included_tagger
from clerestory.stats.intervals import wilson
from photo_tags import caption_words, learned_words
from table import Row, measure

NUM_IMAGES = int(os.environ.get("NUM_IMAGES", "400"))
MIN_CAPTIONS = 5
BATCH_SIZE = 16
MIN_PRECISION, MIN_COVERAGE = 0.88, 0.4


def tags() -> Iterator[Row]:
    """Coverage, precision and calibration."""
    path = Path(os.environ.get("PHOTOGRAPHS", ""))
    if not path.is_file():
        sys.exit("set PHOTOGRAPHS to a JSON Lines file of captioned photographs (image, captions)")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = [row for row in rows if len(row["captions"]) >= MIN_CAPTIONS]
    rows = random.Random(0).sample(rows, min(len(rows), NUM_IMAGES))
    tagger = included_tagger()
    meanings = {each.tag: {each.tag, *each.words} for each in tagger.vocabulary}
    for name, words in learned_words(tagger.vocabulary).items():
        meanings[name] = meanings.get(name, set()) | words

    tagged, all_right, wrong = 0, 0, Counter[str]()
    probabilities, right = [], []
    for start in range(0, len(rows), BATCH_SIZE):
        batch = rows[start : start + BATCH_SIZE]
        found = included_photos().features([Image.open(path.parent / row["image"]) for row in batch])
        for row, some in zip(batch, tagger.tags(found), strict=True):
            said = caption_words(row["captions"])
            correct = [bool(meanings[tag.text] & said) for tag in some]
            wrong.update(tag.text for tag, ok in zip(some, correct, strict=True) if not ok)
            probabilities += [tag.probability for tag in some]
            right += correct
            tagged += bool(some)
            all_right += bool(some) and all(correct)
    coverage, precision = tagged / len(rows), float(np.mean(right))
    interval = wilson(precision, len(right), 1.96, 0.95)
    often = ", ".join(f"{name} ({n})" for name, n in wrong.most_common(5))
    yield Row("photographs with a tag", coverage, "share", f"≥ {MIN_COVERAGE}", coverage >= MIN_COVERAGE, len(rows))
    note = f"95 % interval {interval.low:.3f} to {interval.high:.3f}; wrong most often: {often}"
    yield Row(
        "tags: precision", precision, "share", f"≥ {MIN_PRECISION}", precision >= MIN_PRECISION, len(right), "", note
    )
    share = all_right / tagged
    yield Row("photographs with a tag: all tags are right", share, "share", "reported", True, tagged)
    gap = float(np.mean(probabilities)) - precision
    yield Row("tags: mean probability less precision", gap, "share", "within 0.05", abs(gap) <= 0.05, len(right))


if __name__ == "__main__":
    sys.exit(measure("photos_tags", {"tags": tags}, sys.argv[1:]))
