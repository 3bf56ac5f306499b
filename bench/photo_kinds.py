"""Fit the probe for photographs, drawings and others: ``make photo-kinds PHOTOGRAPHS=captions.jsonl OTHERS=folder``.

Reads openly licensed photographs (one JSON object a line, with ``image``, a path relative to the file), renders icons
and emoji, and reads a folder of screenshots, charts and documents, some of which are made to look scanned. Half of the
training images are grey, small, compressed or reduced to 16 colours. Writes ``kinds.safetensors`` into the package.
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
from image_conditions import CONDITIONS, FITTED_SETS, SCAN, drawings, edited, image_files

NUM_DRAWINGS = 350
INVERSE_PENALTY = 0.01
BATCH_SIZE = 16


def main(photographs: Path, others: Path) -> None:
    """Fit on the images and write the file."""
    rows = [json.loads(line) for line in photographs.read_text(encoding="utf-8").splitlines() if line.strip()]
    rng = random.Random(1)
    kinds = (
        features((Image.open(photographs.parent / row["image"]) for row in rows), ("plain",), rng),
        features(drawings(FITTED_SETS, NUM_DRAWINGS, rng), ("plain",), rng),
        features((Image.open(path) for path in image_files(others)), ("plain", SCAN), rng),
    )
    features_NF = np.concatenate(kinds)
    target_N = np.repeat(range(len(kinds)), [len(rows_NF) for rows_NF in kinds])
    mean_F = features_NF.mean(axis=0)
    fitted = LogisticRegression(C=INVERSE_PENALTY, max_iter=500, class_weight="balanced")
    fitted.fit(features_NF - mean_F, target_N)
    weight_FK = fitted.coef_.T.astype(np.float16)
    bias_K = (fitted.intercept_ - mean_F @ weight_FK.astype(np.float64)).astype(np.float32)
    save_file({"bias": bias_K, "weight": np.ascontiguousarray(weight_FK)}, resource(KINDS_FILE))
    print(f"{dict(enumerate(np.bincount(target_N)))} images; {resource(KINDS_FILE)}")


def features(images: Iterable[Image.Image], first: Sequence[str], rng: random.Random) -> np.ndarray:
    """Features ``(2 N, F)``: each image under one of the first conditions, and under one that changes it."""
    shown = []
    parts = []
    for i, image in enumerate(images):
        shown += [edited(image, first[i % len(first)], rng), edited(image, CONDITIONS[1 + i % 4], rng)]
        if len(shown) == BATCH_SIZE:
            parts.append(included_photos().features(shown).features)
            shown = []
    if shown:
        parts.append(included_photos().features(shown).features)
    return np.concatenate(parts)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
