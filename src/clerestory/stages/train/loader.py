"""Pictures ready for each step: made here, or ahead of time by processes of their own.

A worker is told which pictures of which epoch a step needs and answers with their pixels; since each picture's
variation is a function of (seed, epoch, sample), it makes no difference who makes it. So a worker that is not ready
yet, or has died, is no fault: the step is made here. Workers read from a pipe and end with it, even when this process
is killed.

Shape suffixes: B and N pictures, H and W pixels of the store, C channels, S side of the model's picture.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from clerestory.stages.train.augment import CHANCES, augment
from clerestory.stages.train.shuffle import Keyed, Rows

if TYPE_CHECKING:  # a worker imports this module and should start quickly
    from clerestory.stages.train.distributed.ranks import Ranks

READY = b"R"
AHEAD = 2  # batches that each worker is asked for before they are needed


class Recipe(NamedTuple):
    """How pictures are varied: side of the result, strength of the style changes, seed of the random numbers."""

    side: int
    style: float
    seed: int


def varied(pixels_NHWC: Tensor, rows: Rows, epoch: int, recipe: Recipe) -> Tensor:
    """The pictures of ``rows`` as they look in an epoch, ``(B, C, S, S)`` in -1..1."""
    uniform_BK = Keyed(recipe.seed).uniforms(np.full(len(rows), epoch), rows, CHANCES)
    return augment(pixels_NHWC[rows], recipe.side, recipe.style, uniform_BK)


class Draws(Protocol):
    """What says which pictures a step needs."""

    def epoch(self, step: int) -> int:
        """How often everything has been gone through before."""
        ...

    def draw(self, step: int) -> Rows:
        """The rows of the pictures."""
        ...


class Feed:
    """The batches of a run.

    Args:
        sampler: says which pictures a step needs.
        ranks: the processes that share a batch; only this one's part is made.
        pixels_NHWC: uint8.
        recipe: how they are varied.
        steps: of the run; nothing is made beyond.
        workers: processes.
        folder: where the workers find the pictures.
    """

    def __init__(
        self,
        sampler: Draws,
        ranks: Ranks,
        pixels_NHWC: Tensor,
        recipe: Recipe,
        steps: int,
        workers: int,
        folder: Path,
    ) -> None:
        self._sampler, self._ranks, self._pixels_NHWC = sampler, ranks, pixels_NHWC
        self._recipe, self._steps = recipe, steps
        self._count, self._file = workers, folder / f"pixels-{ranks.rank}.npy"
        self._workers: list[_Worker] = []
        self._lost = 0

    def batch(self, step: int) -> tuple[int, Rows, Tensor]:
        """Epoch, rows and pixels ``(B, C, S, S)`` of a step."""
        self._start()
        if self._workers:
            for number in range(step, min(step + 1 + AHEAD * self._count, self._steps)):
                worker = self._workers[number % self._count]
                if worker.wants(number):
                    worker.ask(number, *self._needed(number))
        epoch, rows = self._needed(step)
        pixels_BCSS = self._workers[step % self._count].answer(step) if self._workers else None
        if pixels_BCSS is None:
            pixels_BCSS = varied(self._pixels_NHWC, rows, epoch, self._recipe)
        return epoch, rows, pixels_BCSS

    def _needed(self, step: int) -> tuple[int, Rows]:
        return self._sampler.epoch(step), self._ranks.mine(self._sampler.draw(step))

    def wait(self) -> None:
        """Start the workers and wait until each is ready; without it a run begins and they join it."""
        self._start()
        for worker in self._workers:
            worker.wait()

    @property
    def lost(self) -> int:
        """How many workers have died."""
        return self._lost + sum(worker.dead for worker in self._workers)

    def close(self) -> None:
        """End the workers."""
        self._lost = self.lost
        for worker in self._workers:
            worker.close()
        self._workers = []
        self._file.unlink(missing_ok=True)

    def _start(self) -> None:
        if self._count and not self._workers:
            np.save(self._file, self._pixels_NHWC.numpy())
            self._workers = [_Worker(self._file, self._recipe) for _ in range(self._count)]


class _Worker:
    """One process, and the thread that takes in what it sends."""

    def __init__(self, pixels: Path, recipe: Recipe) -> None:
        command = [sys.executable, "-m", "clerestory.stages.train.loader_worker", str(pixels), json.dumps(recipe)]
        # A session of its own: Ctrl-C is for the training, which ends its workers itself.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._side = recipe.side
        self._asked: list[int] = []  # steps without an answer yet, in order
        self._made: dict[int, Tensor] = {}
        self._last = -1
        self._news = threading.Condition()
        self._ready = self.dead = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def wants(self, step: int) -> bool:
        """Whether a step is still to be asked for; a worker that is starting, or dead, makes none."""
        return self._ready and not self.dead and step > self._last

    def wait(self) -> None:
        """Wait until it can be asked, or has died."""
        with self._news:
            self._news.wait_for(lambda: self._ready or self.dead)

    def ask(self, step: int, epoch: int, rows: Rows) -> None:
        """Ask for the pictures of a step."""
        self._last = step
        with self._news:
            self._asked.append(step)
        assert self._process.stdin is not None
        with suppress(OSError):  # it died, which the thread notices
            self._process.stdin.write((json.dumps([epoch, rows.tolist()]) + "\n").encode())
            self._process.stdin.flush()

    def answer(self, step: int) -> Tensor | None:
        """The pixels of a step; None when it was not asked for them, or died."""
        with self._news:
            self._news.wait_for(lambda: self.dead or step not in self._asked)
            found = self._made.pop(step, None)
            self._made = {number: pixels for number, pixels in self._made.items() if number > step}
        return found

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was still to be written to it has no reader any more
                    pipe.close()

    def _listen(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        ready = stdout.read(1) == READY
        with self._news:
            self._ready = ready
            self._news.notify_all()
        while self._ready:
            head = stdout.read(4)  # how many pictures follow
            length = int.from_bytes(head, "little") * 3 * self._side**2 * 4
            content = bytearray(stdout.read(length))
            if not content or len(content) < length:
                break
            pixels_BSSC = torch.frombuffer(content, dtype=torch.float32).view(-1, self._side, self._side, 3)
            with self._news:
                self._made[self._asked.pop(0)] = pixels_BSSC.permute(0, 3, 1, 2)
                self._news.notify_all()
        with self._news:
            self.dead = True
            self._news.notify_all()
