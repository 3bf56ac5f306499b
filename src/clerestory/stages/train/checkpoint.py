"""The state of a training run as one safetensors file, written atomically.

The state is the model, its moving average, the optimizer and one integer: batches and random numbers are functions of
the step, so nothing else is needed for a resumed run to equal an uninterrupted one bit for bit. The file has the
SHA-256 of its content, and the checkpoint before it is kept: a damaged one is reported, and the run resumes from the
other.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from clerestory.core.digest import canonical
from clerestory.core.errors import ClerestoryError, IntegrityError
from clerestory.core.files import atomic_path
from clerestory.models.loading import load_tensors

NAME = "checkpoint.safetensors"
PREVIOUS = "checkpoint.previous.safetensors"
DAMAGED = "the last checkpoint in {folder} is damaged, so {consequence}"
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
    """Write the state atomically; the checkpoint before it is kept as ``PREVIOUS``."""
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    metadata = {"position": json.dumps(asdict(position)), "sha256": _digest(position, contiguous)}
    with atomic_path(folder / NAME) as temporary:
        save_file(contiguous, temporary, metadata=metadata)
        if (folder / NAME).exists():
            with atomic_path(folder / PREVIOUS) as link:
                link.unlink(missing_ok=True)
                try:
                    os.link(folder / NAME, link)
                except OSError:  # exFAT and network drives have no hard links
                    shutil.copyfile(folder / NAME, link)


def _digest(position: Position, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the position and of every tensor's name, type, shape and bytes."""
    layout = {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in tensors.items()}
    sha = hashlib.sha256(canonical([asdict(position), layout]))
    for name in sorted(tensors):
        sha.update(tensors[name].cpu().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


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


def read(
    folder: Path, report: Callable[[str], object] = lambda message: None
) -> tuple[Position, dict[str, Tensor]] | None:
    """The last intact checkpoint; None without one, and the run starts at step 0.

    Args:
        folder: of the run.
        report: called with one sentence if the last checkpoint is damaged.
    """
    for leftover in folder.glob(f".{Path(NAME).stem}.*"):
        leftover.unlink(missing_ok=True)
    damaged = False
    for name in (NAME, PREVIOUS):
        try:
            found = _read(folder / name)
        except FileNotFoundError:
            continue
        except IntegrityError:
            damaged = True
            # It must not become the previous one when the next is written.
            (folder / name).unlink()
            continue
        if damaged:
            report(DAMAGED.format(folder=folder, consequence=f"the run continues from step {found[0].step}"))
        return found
    if damaged:
        report(DAMAGED.format(folder=folder, consequence="the run starts again at step 0"))
    return None


def _read(file: Path) -> tuple[Position, dict[str, Tensor]]:
    tensors, metadata = load_tensors(file)
    try:
        position = Position(**json.loads(metadata["position"]))
        intact = metadata["sha256"] == _digest(position, tensors)
    except (ValueError, TypeError, KeyError) as error:
        raise IntegrityError(f"{file} is damaged") from error
    if not intact:
        raise IntegrityError(f"{file} is damaged: its content does not have its SHA-256")
    return position, tensors
