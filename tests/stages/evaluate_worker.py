"""Evaluates coloured tiles in a process of its own, writing down every picture the model is asked about."""

import time
from pathlib import Path

import numpy as np
from tests.support.colour_tiles import ColourModel, tiles

from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.store import open_store

CONFIG = EvaluateConfig(
    caption_samples=10, latency_samples=0, min_slice_concepts=10, batch_size=8, suites=("retrieval", "captioning")
)


class Watched(ColourModel):
    def __init__(self, log: Path, stop_after: int) -> None:
        super().__init__()
        self.log = log
        self.stop_after = stop_after
        self.asked = 0

    def embed_images(self, images, dim=None) -> np.ndarray:
        rows = super().embed_images(images, dim)
        self.asked += len(images)
        with self.log.open("a", encoding="utf-8") as out:
            out.write(f"{len(images)}\n")
        if self.stop_after and self.asked >= self.stop_after:
            time.sleep(600)
        return rows


def evaluate_tiles(home: Path, log: Path, stop_after: int) -> None:
    """Hangs when ``stop_after`` pictures were asked for, so that it can be killed in the middle; 0 never hangs."""
    evaluate(Watched(log, stop_after), tiles(), CONFIG, open_store(home))
