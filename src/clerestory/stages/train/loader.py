"""The images of each step: augmented here, or ahead of time by worker processes.

A worker receives the rows and the epoch of a step and returns their pixels; since the augmentation of an image is a
function of (seed, epoch, sample), every process produces the same. So a worker that is not ready yet, or has died, is
not an error: the step is prepared here. Workers read from a pipe and end with it, even if this process is killed.

Shape suffixes: B and N images, H and W stored pixels, C channels, S side of the model's input.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from clerestory.stages.train.augment import UNIFORMS, augment
from clerestory.stages.train.shuffle import Rows, SampleRng

if TYPE_CHECKING:  # a worker imports this module and should start quickly
    from clerestory.stages.train.distributed.ranks import Ranks
    from clerestory.stages.train.sampling import RowSampler

READY = b"R"
PREFETCH = 2  # batches requested ahead from each worker


class AugmentConfig(NamedTuple):
    """The augmentation: side of the result, strength of the style changes, seed of the random numbers."""

    side: int
    style: float
    seed: int


def augmented_batch(pixels_NHWC: Tensor, rows: Rows, epoch: int, config: AugmentConfig) -> Tensor:
    """The images of ``rows`` as augmented in an epoch, ``(B, C, S, S)`` in -1..1."""
    uniform_BK = SampleRng(config.seed).uniforms(np.full(len(rows), epoch), rows, UNIFORMS)
    return augment(pixels_NHWC[rows], config.side, config.style, uniform_BK)


class BatchLoader:
    """The batches of a run.

    Args:
        sampler: draws the rows of a step.
        ranks: the processes that share a batch; only this one's shard is prepared.
        pixels_NHWC: uint8.
        config: of the augmentation.
        steps: of the run; no batch beyond is prepared.
        num_workers: worker processes.
        folder: where the workers find the images.
    """

    def __init__(
        self,
        sampler: RowSampler,
        ranks: Ranks,
        pixels_NHWC: Tensor,
        config: AugmentConfig,
        steps: int,
        num_workers: int,
        folder: Path,
    ) -> None:
        self._sampler, self._ranks, self._pixels_NHWC = sampler, ranks, pixels_NHWC
        self._config, self._steps = config, steps
        self._num_workers, self._file = num_workers, folder / f"pixels-{ranks.rank}.npy"
        self._workers: list[_Worker] = []
        self._lost = 0

    def batch(self, step: int) -> tuple[int, Rows, Tensor]:
        """Epoch, rows and pixels ``(B, C, S, S)`` of a step."""
        self._start()
        if self._workers:
            for number in range(step, min(step + 1 + PREFETCH * self._num_workers, self._steps)):
                worker = self._workers[number % self._num_workers]
                if worker.accepts(number):
                    worker.request(number, *self._rows(number))
        epoch, rows = self._rows(step)
        pixels_BCSS = self._workers[step % self._num_workers].result(step) if self._workers else None
        if pixels_BCSS is None:
            pixels_BCSS = augmented_batch(self._pixels_NHWC, rows, epoch, self._config)
        return epoch, rows, pixels_BCSS

    def _rows(self, step: int) -> tuple[int, Rows]:
        return self._sampler.epoch(step), self._ranks.shard(self._sampler.draw(step))

    def wait(self) -> None:
        """Start the workers and wait until each is ready; otherwise a run begins without them."""
        self._start()
        for worker in self._workers:
            worker.wait()

    @property
    def lost(self) -> int:
        """The number of workers that died."""
        return self._lost + sum(worker.dead for worker in self._workers)

    def close(self) -> None:
        """Stop the workers."""
        self._lost = self.lost
        for worker in self._workers:
            worker.close()
        self._workers = []
        self._file.unlink(missing_ok=True)

    def _start(self) -> None:
        if self._num_workers and not self._workers:
            np.save(self._file, self._pixels_NHWC.numpy())
            self._workers = [_Worker(self._file, self._config) for _ in range(self._num_workers)]


class _Worker:
    """One process, and the thread that receives its results."""

    def __init__(self, pixels: Path, config: AugmentConfig) -> None:
        command = [sys.executable, "-m", "clerestory.stages.train.loader_worker", str(pixels), json.dumps(config)]
        # A session of its own: Ctrl-C is for the training, which stops its workers itself.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._side = config.side
        self._pending: list[int] = []  # requested steps without a result, in order
        self._results: dict[int, Tensor] = {}
        self._last = -1
        self._changed = threading.Condition()
        self._ready = self.dead = False
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def accepts(self, step: int) -> bool:
        """Whether a step can be requested and has not been; a worker that is starting or dead accepts none."""
        return self._ready and not self.dead and step > self._last

    def wait(self) -> None:
        """Wait until it is ready or dead."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self.dead)

    def request(self, step: int, epoch: int, rows: Rows) -> None:
        """Request the pixels of a step."""
        self._last = step
        with self._changed:
            self._pending.append(step)
        assert self._process.stdin is not None
        with suppress(OSError):  # it died; the thread notices
            self._process.stdin.write((json.dumps([epoch, rows.tolist()]) + "\n").encode())
            self._process.stdin.flush()

    def result(self, step: int) -> Tensor | None:
        """The pixels of a step; None if they were not requested or the worker died."""
        with self._changed:
            self._changed.wait_for(lambda: self.dead or step not in self._pending)
            pixels = self._results.pop(step, None)
            self._results = {number: later for number, later in self._results.items() if number > step}
        return pixels

    def close(self) -> None:
        """Stop the process."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # unwritten requests have no reader any more
                    pipe.close()

    def _receive(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        ready = stdout.read(1) == READY
        with self._changed:
            self._ready = ready
            self._changed.notify_all()
        while self._ready:
            head = stdout.read(4)  # the number of images that follow
            length = int.from_bytes(head, "little") * 3 * self._side**2 * 4
            content = bytearray(stdout.read(length))
            if not content or len(content) < length:
                break
            pixels_BSSC = torch.frombuffer(content, dtype=torch.float32).view(-1, self._side, self._side, 3)
            with self._changed:
                self._results[self._pending.pop(0)] = pixels_BSSC.permute(0, 3, 1, 2)
                self._changed.notify_all()
        with self._changed:
            self.dead = True
            self._changed.notify_all()
