"""A run's state as a torch distributed checkpoint: every rank writes its shards, any number of ranks can read it.

A checkpoint is a folder ``checkpoint-<step>``, renamed from a temporary one when all ranks have written; then older
checkpoints are deleted. All machines must see the folder.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from torch import Tensor
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from clerestory.stages.train.checkpoint import Position
from clerestory.stages.train.distributed.ranks import Ranks

NAME, POSITION = "checkpoint-", "position.json"


def latest(folder: Path) -> tuple[Position, Path] | None:
    """The last complete checkpoint in a run's folder."""
    positions = sorted(folder.glob(f"{NAME}*/{POSITION}"), key=lambda path: int(path.parent.name.removeprefix(NAME)))
    if not positions:
        return None
    return Position(**json.loads(positions[-1].read_text(encoding="utf-8"))), positions[-1].parent


def write(folder: Path, position: Position, state: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Write the state; every rank calls it at the same step."""
    temporary, target = folder / f".{NAME}{position.step}.tmp", folder / f"{NAME}{position.step}"
    if ranks.rank == 0:
        for stale in folder.glob(f".{NAME}*.tmp"):
            shutil.rmtree(stale, ignore_errors=True)
        temporary.mkdir()
    ranks.barrier()
    with _quiet():
        save(dict(state), checkpoint_id=temporary, no_dist=ranks.world_size == 1)
    if ranks.rank == 0:
        with (temporary / POSITION).open("w", encoding="utf-8") as file:
            json.dump(asdict(position), file)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():  # of the same step, from a resumed run that was killed before its next checkpoint
            shutil.rmtree(target)
        temporary.rename(target)
        for old in folder.glob(f"{NAME}*"):
            if old != target:
                shutil.rmtree(old, ignore_errors=True)
    ranks.barrier()


def read(source: Path, state: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Set every tensor of ``state`` in place; the checkpoint may be written by any number of ranks."""
    with _quiet():
        load(dict(state), checkpoint_id=source, no_dist=ranks.world_size == 1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress torch's warnings about a single process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
