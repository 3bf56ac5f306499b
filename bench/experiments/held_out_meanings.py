"""The names of pictograms that mean a held-out concept: ``python -m bench.experiments.held_out_meanings``.

Writes ``src/clerestory/data/held_out_meanings.json``: the names that the comparisons of words and spelling let through,
and whose cosine to a held-out caption of the icons is at least 0.8 in the text tower. To be run again when the icons'
captions or splits, the pinned sets of pictograms or the comparisons change.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import clerestory.data
from clerestory.core.sample import TEST, VAL, Dataset
from clerestory.data import packages
from clerestory.data.held_out_names import MEANINGS, HeldOutNames
from clerestory.data.icons import open_icons
from clerestory.data.pictograms import _read_set, sets
from clerestory.models.folder_check import MINILM_DIGEST
from clerestory.models.text_tower import load_text_tower

MAX_COSINE = 0.8


def supplement_names(icons: Dataset, styles: Iterable[str]) -> list[str]:
    """The captions of the pictograms that would be trained on, except those of emoji in further styles; sorted."""
    styles, held_out = list(styles), HeldOutNames(icons)
    packages.fetch([sets()[style] for style in styles])
    drawings = (drawing for style in styles for drawing in _read_set(style, icons, held_out))
    return sorted({drawing.caption for drawing in drawings if drawing.counterpart is None})


def main() -> int:
    """Write the file, and print how many names it has."""
    icons = open_icons()
    file = Path(clerestory.data.__path__[0]) / MEANINGS
    file.write_text('{"names": []}', encoding="utf-8")  # from nothing, so that no name stays without a reason
    names = supplement_names(icons, sets())
    captions = sorted({sample.caption for sample in icons if sample.split in (TEST, VAL)})
    tower = load_text_tower()
    nearest_N = (tower.embed(names) @ tower.embed(captions).T).max(axis=1)
    found = [names[row] for row in np.flatnonzero(nearest_N >= MAX_COSINE)]
    content = {"icons": icons.digest, "text_tower": MINILM_DIGEST, "min_cosine": MAX_COSINE, "names": found}
    file.write_text(json.dumps(content, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(found)} of {len(names)} names mean one of {len(captions)} held-out captions\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
