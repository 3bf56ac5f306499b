"""The data loader of the training: ours compared with ``torch.utils.data.DataLoader``, on a real training.

Run alone with ``python bench/training_loader.py``; about five minutes. Both train ``nano`` on the same icons with 0, 1
and 2 workers, interleaved a few steps at a time; a ratio is the median over pairs of neighbouring rounds. The weights
must be equal bit for bit afterwards. ADR 8 says why the product uses its own loader.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from clerestory.core.progress import QUIET
from clerestory.core.sample import TRAIN
from clerestory.core.sample import Dataset as ImageDataset
from clerestory.data import open_data
from clerestory.stages.train import TrainConfig
from clerestory.stages.train.loader import PREFETCH, AugmentConfig, augmented_batch
from clerestory.stages.train.loop import Run
from clerestory.stages.train.run import prepare_run
from clerestory.stages.train.shuffle import Rows
from table import Row, publish

CONCEPT_STEP = 8  # every eighth concept: a few thousand images
STEPS, ROUNDS = 5, 9
BAR = 0.95


class StepBatches(Dataset[Any]):
    """The batches of a run, by step."""

    def __init__(self, run: Run) -> None:
        config = run.settings.config
        self.sampler, self.ranks, self.pixels_NHWC = run.sampler, run.engine.ranks, run.train_data.train.pixels_NHWC
        self.config = AugmentConfig(run.model.config.image_size, config.style_strength, config.seed)

    def __getitem__(self, step: int) -> tuple[int, Rows, torch.Tensor]:
        epoch, rows = self.sampler.epoch(step), self.ranks.shard(self.sampler.draw(step))
        return epoch, rows, augmented_batch(self.pixels_NHWC, rows, epoch, self.config)


class TorchLoader:
    """``DataLoader`` with the interface of ``BatchLoader``."""

    def __init__(self, run: Run) -> None:
        self._batches, self._steps = StepBatches(run), run.settings.steps
        self._num_workers = run.settings.config.num_workers
        self._iterator: Iterator[Any] | None = None

    def batch(self, step: int) -> Any:
        """Of the next step."""
        if self._iterator is None:
            loader = DataLoader(
                self._batches,
                batch_size=None,
                sampler=range(step, self._steps),
                num_workers=self._num_workers,
                prefetch_factor=PREFETCH if self._num_workers else None,
                collate_fn=_unchanged,
                generator=torch.Generator(),  # the default generator belongs to the training
            )
            self._iterator = iter(loader)
        return next(self._iterator)

    def wait(self) -> None:
        """Its workers are forked, so they are ready at once."""

    def close(self) -> None:
        """Stop the workers."""
        self._iterator = None


def _unchanged(batch: Any) -> Any:
    return batch


def rows() -> list[Row]:
    """One ratio for each number of workers."""
    data = open_data("icons")
    concepts = set(sorted({sample.concept for sample in data})[::CONCEPT_STEP])
    data = data.filter(lambda sample: sample.split == TRAIN and sample.concept in concepts)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_row(data, num_workers) for num_workers in (0, 1, 2)]
    finally:
        torch.set_num_threads(before)


def _row(data: ImageDataset, num_workers: int) -> Row:
    config = TrainConfig(preset="nano", threads=1, validate_every=0, num_workers=num_workers)
    with tempfile.TemporaryDirectory() as scratch:
        runs, memory = {}, {}
        for name in ("ours", "DataLoader"):
            folder = Path(scratch) / name
            folder.mkdir()
            run = prepare_run(data, config.resolved(), folder, QUIET)
            if name == "DataLoader":
                run.loader = TorchLoader(run)  # type: ignore[assignment]  # the same interface
            others = set(_children())
            run.loader.wait()
            for _ in range(STEPS):
                run.step()
            runs[name], memory[name] = run, [_mib(pid) for pid in set(_children()) - others]
        times: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(ROUNDS):
            for name in list(runs)[:: 1 if number % 2 else -1]:
                started = time.perf_counter()
                for _ in range(STEPS):
                    runs[name].step()
                times[name].append(time.perf_counter() - started)
        states = [run.state().values() for run in runs.values()]
        equal = all(torch.equal(a, b) for a, b in zip(*states, strict=True))
        size = runs["ours"].sampler.batch_size
        for run in runs.values():
            run.loader.close()
    ratios = [theirs / own for own, theirs in zip(times["ours"], times["DataLoader"], strict=True)]
    ratio = median(ratios)
    speeds = {name: STEPS * size / median(each) for name, each in times.items()}
    note = (
        f"{speeds['ours']:.0f} and {speeds['DataLoader']:.0f} samples/s; single rounds {min(ratios):.2f} to "
        f"{max(ratios):.2f}; memory of a worker {_mean(memory['ours'])} and {_mean(memory['DataLoader'])} MiB (PSS); "
        f"weights {'equal' if equal else 'DIFFERENT'}"
    )
    name = f"training samples/s against DataLoader, {num_workers} workers"
    return Row(name, ratio, "×", f"≥ {BAR}×, equal weights", ratio >= BAR and equal, ROUNDS, "DataLoader", note)


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.0f}" if values else "-"


def _children() -> list[int]:
    """The child processes of this process (Linux)."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
        except OSError:  # it has ended meanwhile
            continue
        if int(parent) == os.getpid():
            found.append(int(folder.name))
    return found


def _mib(pid: int) -> float:
    """Proportional set size: memory shared by n processes counts 1/n in each."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    sys.exit(0 if publish("training_loader", rows()) else 1)
