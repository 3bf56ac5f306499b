"""A training run's whole state as one safetensors file that appears at once or not at all.

The state is the model, the running average, the optimizer and one integer: batches and random numbers are functions of
the step, so nothing else has to be remembered for a resumed run to equal an uninterrupted one bit for bit.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from clerestory.core.errors import ClerestoryError
from clerestory.models.alignment import aligned

NAME = "checkpoint.safetensors"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, the quota, the limit of a file


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands.

    Attributes:
        step: steps done.
        skipped: how many of them had a loss or gradient that was not finite and changed nothing.
        seconds: wall time of the steps so far.
    """

    step: int = 0
    skipped: int = 0
    seconds: float = 0.0


def write(folder: Path, position: Position, tensors: Mapping[str, Tensor]) -> None:
    """Write the state: temporary file, fsync, rename, fsync of the folder."""
    temporary = folder / f".{NAME}.{os.getpid()}.tmp"
    flat = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(flat, temporary, metadata={"position": json.dumps(asdict(position))})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(folder / NAME)
    finally:
        temporary.unlink(missing_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def disk_told(folder: Path) -> Iterator[None]:
    """Turn a full disk into a sentence.

    Raises:
        ClerestoryError: nothing more can be written.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        full = isinstance(error, OSError) and error.errno in FULL
        if full or any(os.strerror(number) in str(error) for number in FULL):
            raise ClerestoryError(
                f"there is no room left to write to in {folder}",
                "make room; the same command goes on from the last checkpoint",
            ) from error
        raise


def read(folder: Path) -> tuple[Position, dict[str, Tensor]] | None:
    """The last state written, None when there is none that can be read (a run then starts anew)."""
    for left in folder.glob(f".{NAME}.*.tmp"):
        left.unlink(missing_ok=True)
    try:
        with safe_open(folder / NAME, framework="pt") as file:
            position = Position(**json.loads(file.metadata()["position"]))
            return position, {name: aligned(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (FileNotFoundError, SafetensorError):
        return None
