"""The state of a training run as one safetensors file, written atomically.

The state is the model, its moving average, the optimizer and one integer: batches and random numbers are functions of
the step, so nothing else is needed for a resumed run to equal an uninterrupted one bit for bit.
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
from clerestory.core.files import atomic_path
from clerestory.models.alignment import aligned

NAME = "checkpoint.safetensors"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, the quota, the size limit of a file


@dataclass(frozen=True, slots=True)
class Position:
    """The progress of a run.

    Attributes:
        step: completed steps.
        skipped: those of them that were skipped because the loss or the gradient was infinite or NaN.
        seconds: wall time of the steps so far.
    """

    step: int = 0
    skipped: int = 0
    seconds: float = 0.0


def write(folder: Path, position: Position, tensors: Mapping[str, Tensor]) -> None:
    """Write the state atomically."""
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with atomic_path(folder / NAME) as temporary:
        save_file(contiguous, temporary, metadata={"position": json.dumps(asdict(position))})


@contextmanager
def translate_disk_full(folder: Path) -> Iterator[None]:
    """Turn the errors of a full disk into one sentence.

    Raises:
        ClerestoryError: nothing more can be written.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        full = isinstance(error, OSError) and error.errno in DISK_FULL
        if full or any(os.strerror(number) in str(error) for number in DISK_FULL):
            raise ClerestoryError(
                f"there is no space left on the disk of {folder}",
                "free disk space; the same command resumes from the last checkpoint",
            ) from error
        raise


def read(folder: Path) -> tuple[Position, dict[str, Tensor]] | None:
    """The last checkpoint; None if there is none or it cannot be read, and the run starts again."""
    for leftover in folder.glob(f".{NAME}.*"):
        leftover.unlink(missing_ok=True)
    try:
        with safe_open(folder / NAME, framework="pt") as file:
            position = Position(**json.loads(file.metadata()["position"]))
            return position, {name: aligned(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (FileNotFoundError, SafetensorError):
        return None
