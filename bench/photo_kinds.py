"""Fit the probe for photographs, drawings and others: ``make photo-kinds PHOTOGRAPHS=captions.jsonl OTHERS=folder``.

Reads openly licensed photographs (one JSON object a line, with ``image``, a path relative to the file), also as contact
sheets and with little light; renders icons and emoji; draws charts of many kinds and looks (``drawn_charts.py``); and
reads a folder of screenshots and documents, also as scans. All of them are also small, and grey, compressed or reduced
to 16 colours. Writes ``kinds.safetensors`` into the package. ``image_sources.csv`` names the public repositories that
the photographs and the screenshots of the shipped probe are from, and those of the images that it is measured on.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression

from clerestory.apps.right_model import included_photos
from clerestory.models.photo.folder import resource
from clerestory.models.photo.kinds import KINDS_FILE
from clerestory.models.pixels import to_rgb
from drawn_charts import charts
from image_conditions import CONDITIONS, FITTED_SETS, SCAN, at_night, drawings, edited, image_files, sheets

NUM_DRAWINGS, NUM_CHARTS, NUM_SHEETS = 600, 700, 120
WEIGHTS = (3, 1.5, 1)  # of the kinds; photographs stand for paintings too
INVERSE_PENALTY = 0.01
BATCH_SIZE = 16
EVERY = tuple((condition,) for condition in CONDITIONS)
PLAIN, SMALL, TURNS = ("plain",), ("small",), ("grey", "jpeg", "colours")


def main(photographs: Path, others: Path) -> None:
    """Fit on the images and write the file."""
    rows = [json.loads(line) for line in photographs.read_text(encoding="utf-8").splitlines() if line.strip()]
    images = [to_rgb(Image.open(photographs.parent / row["image"])) for row in rows]
    night = random.Random(4)
    screenshots = (Image.open(path) for path in image_files(others))
    fit(
        (
            features(images, EVERY),
            features(sheets(images, NUM_SHEETS, random.Random(3)), (PLAIN, SMALL, TURNS)),
            features((at_night(image, night) for image in images), (PLAIN, TURNS)),
        ),
        (features(drawings(FITTED_SETS, NUM_DRAWINGS, random.Random(1)), (PLAIN, SMALL, TURNS)),),
        (
            features(charts(NUM_CHARTS, random.Random(1)), (PLAIN, SMALL, TURNS)),
            features(screenshots, (PLAIN, SMALL, TURNS, (SCAN,))),
        ),
    )


def fit(*kinds: Sequence[np.ndarray]) -> None:
    """Fit on the features of each kind, and write the file."""
    features_NF = np.concatenate([part for parts in kinds for part in parts])
    target_N = np.repeat(range(len(kinds)), [sum(map(len, parts)) for parts in kinds])
    mean_F = features_NF.mean(axis=0)
    weight_N = (np.array(WEIGHTS) / np.bincount(target_N))[target_N]
    fitted = LogisticRegression(C=INVERSE_PENALTY, max_iter=500)
    fitted.fit(features_NF - mean_F, target_N, sample_weight=weight_N / weight_N.mean())
    weight_FK = fitted.coef_.T.astype(np.float16)
    bias_K = (fitted.intercept_ - mean_F @ weight_FK.astype(np.float64)).astype(np.float32)
    save_file({"bias": bias_K, "weight": np.ascontiguousarray(weight_FK)}, resource(KINDS_FILE))
    print(f"{dict(enumerate(np.bincount(target_N)))} images; {resource(KINDS_FILE)}")


def features(images: Iterable[Image.Image], conditions: Sequence[Sequence[str]]) -> np.ndarray:
    """Features of each image under a condition of each group, in turn."""
    rng = random.Random(1)
    shown, parts = [], []
    for i, image in enumerate(images):
        shown += [edited(image, group[i % len(group)], rng) for group in conditions]
        if len(shown) >= BATCH_SIZE:
            parts.append(included_photos().features(shown).features)
            shown = []
    if shown:
        parts.append(included_photos().features(shown).features)
    return np.concatenate(parts)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
