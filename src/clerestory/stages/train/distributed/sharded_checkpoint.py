"""A run's state as a torch distributed checkpoint: every rank writes its shards, any number of ranks can read it.

A checkpoint is a folder ``checkpoint-<step>``, renamed from a temporary one when all ranks have written; then all but
the one before it are deleted. Each has the SHA-256 of its files: a damaged one is reported, and the run resumes from
the other. All machines must see the folder.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from torch import Tensor
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from clerestory.core.digest import digest_file
from clerestory.stages.train.checkpoint import Position
from clerestory.stages.train.distributed.ranks import Ranks

NAME, POSITION, DIGESTS = "checkpoint-", "position.json", "sha256-{rank}.json"
KEPT = 2


def latest(folder: Path, report: Callable[[str], object] = lambda message: None) -> tuple[Position, Path] | None:
    """The last intact checkpoint in a run's folder; ``report`` receives one sentence for each damaged one."""
    for checkpoint in _complete(folder):
        if _is_intact(checkpoint):
            return Position(**json.loads((checkpoint / POSITION).read_text(encoding="utf-8"))), checkpoint
        report(f"the checkpoint {checkpoint} is damaged and not used; the run resumes from an earlier one or at step 0")
    return None


def _complete(folder: Path) -> list[Path]:
    """The folders of complete checkpoints, the last one first."""
    complete = [path.parent for path in folder.glob(f"{NAME}*/{POSITION}")]
    return sorted(complete, key=lambda path: int(path.name.removeprefix(NAME)), reverse=True)


def _is_intact(checkpoint: Path) -> bool:
    expected: dict[str, str] = {}
    try:
        for file in checkpoint.glob(DIGESTS.format(rank="*")):
            expected |= json.loads(file.read_text(encoding="utf-8"))
        return expected.keys() == _contents(checkpoint) and all(
            digest_file(checkpoint / name) == value for name, value in expected.items()
        )
    except (OSError, ValueError, TypeError):
        return False


def _contents(checkpoint: Path) -> set[str]:
    """The names of the files whose digests are kept."""
    digests = set(checkpoint.glob(DIGESTS.format(rank="*")))
    return {path.name for path in checkpoint.iterdir() if path not in digests}


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
        _write_json(temporary / POSITION, asdict(position))
    ranks.barrier()
    share = sorted(_contents(temporary))[ranks.rank :: ranks.world_size]
    ranks.barrier()  # before the first of them adds a file
    digests = {name: digest_file(temporary / name) for name in share}
    _write_json(temporary / DIGESTS.format(rank=ranks.rank), digests)
    ranks.barrier()
    if ranks.rank == 0:
        if target.exists():  # of the same step, from a resumed run that was killed before its next checkpoint
            shutil.rmtree(target)
        temporary.rename(target)
        for old in _complete(folder)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
    ranks.barrier()


def _write_json(path: Path, content: object) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())


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
