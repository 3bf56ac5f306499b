"""Whether photographs, drawings and other images are told apart: ``make bench-photos-kinds``.

``PHOTOGRAPHS`` is a JSON Lines file of photographs (``image``, a path relative to the file) that were not used to fit
the probe. ``OTHERS`` is a folder with the subfolders ``screenshots``, ``charts`` and ``paintings``; a missing one is
left out. Drawings are rendered from sets of icons that were not used to fit it. An unsure guess still counts as right
or wrong; the share of unsure ones is in the note.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from clerestory.apps.right_model import DRAWING, OTHER, PHOTOGRAPH, kinds_of
from image_conditions import CONDITIONS, HELD_OUT_SETS, SCAN, drawings, edited, image_files
from table import Row, measure

NUM_IMAGES = int(os.environ.get("NUM_IMAGES", "100"))  # of each source, at most
BATCH_SIZE = 16
PLAIN_BAR, BAR = 0.98, 0.95


def photographs() -> Iterator[Row]:
    """Captioned photographs; the bar of the plain ones is higher."""
    path = Path(os.environ.get("PHOTOGRAPHS", ""))
    if not path.is_file():
        sys.exit("set PHOTOGRAPHS to a JSON Lines file of photographs")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    files = [path.parent / row["image"] for row in random.Random(0).sample(rows, min(len(rows), NUM_IMAGES))]
    yield from measured("photographs", [Image.open(file) for file in files], PHOTOGRAPH, PLAIN_BAR)


def icons() -> Iterator[Row]:
    """Icons and emoji of sets that were not used to fit the probe, at several sizes on several backgrounds."""
    images = list(drawings(HELD_OUT_SETS, NUM_IMAGES, random.Random(2)))
    yield from measured("drawings", images, DRAWING, PLAIN_BAR)


def others() -> Iterator[Row]:
    """Screenshots and charts, which no included model knows, and paintings, which count as photographs."""
    kinds = {"screenshots": OTHER, "charts": OTHER, "paintings": PHOTOGRAPH}
    for name, kind in kinds.items():
        files = image_files(Path(os.environ.get("OTHERS", "")) / name)
        files = random.Random(0).sample(files, min(len(files), NUM_IMAGES))
        if files:
            yield from measured(name, [Image.open(file) for file in files], kind, BAR, name == "screenshots")


def measured(
    name: str, images: Sequence[Image.Image], kind: str, plain_bar: float, scanned: bool = False
) -> Iterator[Row]:
    """A row for each condition; the bar of one that changes a screenshot, a chart or a painting is not set."""
    rng = random.Random(1)
    for condition in (*CONDITIONS, *((SCAN,) if scanned else ())):
        guesses = []
        for start in range(0, len(images), BATCH_SIZE):
            guesses += kinds_of([edited(image, condition, rng) for image in images[start : start + BATCH_SIZE]])
        right = np.array([guess.kind == kind for guess in guesses])
        confident = np.array([guess.is_confident for guess in guesses])
        wrong = int((confident & ~right).sum())
        bar = plain_bar if condition == "plain" else BAR if plain_bar == PLAIN_BAR else None
        note = f"unsure {1 - confident.mean():.1%}; {wrong} wrong with confidence"
        words = f"≥ {bar}" if bar else "reported"
        share = float(right.mean())
        yield Row(
            f"{name}, {condition}: kind is right", share, "share", words, share >= (bar or 0), len(right), note=note
        )


if __name__ == "__main__":
    sys.exit(
        measure("photos_right_model", {"photographs": photographs, "icons": icons, "others": others}, sys.argv[1:])
    )
