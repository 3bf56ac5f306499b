"""A run's state as a torch distributed checkpoint: every rank writes what it holds, any number of ranks reads it.

A checkpoint is a folder ``checkpoint-<step>`` that appears by rename when all ranks have written, after which older
ones go. The folder must be one that all machines see.
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
    found = sorted(folder.glob(f"{NAME}*/{POSITION}"), key=lambda path: int(path.parent.name.removeprefix(NAME)))
    if not found:
        return None
    return Position(**json.loads(found[-1].read_text(encoding="utf-8"))), found[-1].parent


def write(folder: Path, position: Position, state: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Write the state; every rank calls it at the same step."""
    temporary, place = folder / f".{NAME}{position.step}.tmp", folder / f"{NAME}{position.step}"
    if ranks.rank == 0:
        for left in folder.glob(f".{NAME}*.tmp"):
            shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir()
    ranks.wait()
    with _quiet():
        save(dict(state), checkpoint_id=temporary, no_dist=ranks.world == 1)
    if ranks.rank == 0:
        with (temporary / POSITION).open("w", encoding="utf-8") as file:
            json.dump(asdict(position), file)
            file.flush()
            os.fsync(file.fileno())
        if place.exists():  # of the same step, from a run that went on and was cut off before the next
            shutil.rmtree(place)
        temporary.rename(place)
        for old in folder.glob(f"{NAME}*"):
            if old != place:
                shutil.rmtree(old, ignore_errors=True)
    ranks.wait()


def read(place: Path, state: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Set every tensor of ``state`` in place, whatever number of ranks has written the checkpoint."""
    with _quiet():
        load(dict(state), checkpoint_id=place, no_dist=ranks.world == 1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's remarks about being used by one process alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
