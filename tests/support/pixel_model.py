"""An embedder of pixel statistics, cheap and deterministic; as a program it indexes a folder, to be killed or raced.

``python -m tests.support.pixel_model FOLDER HOME [PAUSE_AFTER]`` prints ``ready`` and waits once it has embedded
PAUSE_AFTER images; at the end it prints what the update did.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from clerestory.apps.folder_index import FolderIndex
from clerestory.store import open_store

SIDE = 4


class PixelModel:
    """Embeds an image by the colours of a grid of 4 × 4 fields."""

    digest = "c0ffee" * 10 + "0000"
    dims = (3 * SIDE * SIDE,)

    def __init__(self, pause_after: int = 0) -> None:
        self.images_seen, self.pause_after = 0, pause_after

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> np.ndarray:
        self.images_seen += len(images)
        if self.pause_after and self.images_seen >= self.pause_after:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            time.sleep(600)
        grids = [np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) for image in images]
        rows = np.stack([grid.ravel() - 100.3 for grid in grids])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> np.ndarray:
        return self.embed_images([Image.new("RGB", (8, 8), text) for text in texts])


def write_noise(folder: Path, numbers: Sequence[int], size: tuple[int, int] = (16, 12)) -> list[str]:
    """Write an image of random fields for each number; the same number gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        fields = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(fields).resize(size, Image.Resampling.NEAREST).save(folder / f"{number:04d}.png")
    return [f"{number:04d}.png" for number in numbers]


if __name__ == "__main__":
    model = PixelModel(int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    index = FolderIndex.open(sys.argv[1], open_store(sys.argv[2]), model.digest, model.dims)
    sys.stdout.write(json.dumps(asdict(index.update(model.embed_images))))
