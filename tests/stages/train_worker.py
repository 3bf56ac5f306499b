"""Trains until killed or done, then prints the model's digest.

python -m tests.stages.train_worker HOME SEED STEPS WORKERS
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.shapes import shapes


def main() -> None:
    from clerestory.stages.train import TrainConfig, train
    from clerestory.store import open_store

    home, (seed, steps, workers) = Path(sys.argv[1]), map(int, sys.argv[2:5])
    config = TrainConfig(
        preset="tiny",
        seed=seed,
        steps=steps,
        batch_size=16,
        threads=1,
        checkpoint_every=4,
        validate_every=8,
        num_workers=workers,
    )
    print(train(shapes(), config, open_store(home)).model)  # noqa: T201  # what the parent reads


if __name__ == "__main__":
    main()
