"""Trains in a process of its own, until it is killed or done."""

from __future__ import annotations

from pathlib import Path

from tests.support.shapes import shapes

from clerestory.stages.train import TrainConfig, train
from clerestory.store import open_store


def train_shapes(home: Path, steps: int, num_workers: int) -> None:
    """Print the digest of the model at the end."""
    config = TrainConfig(
        preset="tiny",
        seed=5,
        steps=steps,
        batch_size=16,
        threads=1,
        checkpoint_every=4,
        validate_every=8,
        num_workers=num_workers,
    )
    print(train(shapes(), config, open_store(home)).model)  # noqa: T201  # what the parent reads
