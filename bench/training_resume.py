"""Killing a training at random moments: does it end with the same bits?

Run alone with ``python bench/training_resume.py``; two to five minutes. Each trial trains the tiny preset in a process
of its own, kills it with SIGKILL in a random step (with 0, 1 or 2 workers that prepare pictures), lets another process,
with another number of workers, go on from what is on disk, and compares with a run nobody touched: every tensor of the
last checkpoint and the samples of every step as the log names them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path

import torch

from clerestory.core.progress import QUIET
from clerestory.core.sample import Dataset
from clerestory.stages.train import TrainConfig
from clerestory.stages.train import run as stage
from clerestory.stages.train.checkpoint import read
from clerestory.stages.train.model_overrides import Architecture
from table import Row, publish

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.shapes import shapes

TRIALS, STEPS = 20, 24
CONFIG = {"preset": "tiny", "steps": STEPS, "batch": 16, "threads": 1, "checkpoint_every": 3, "validate_every": 0}
# Experts that a bias steers, so that its buffers are part of what has to come back.
EXPERTS = {"experts": 4, "experts_per_token": 2, "expert_balance": "bias"}


def rows() -> list[Row]:
    """Resumed equal to untouched, of 20 trials."""
    config = TrainConfig(**CONFIG, model=Architecture(**EXPERTS))  # type: ignore[arg-type]  # fields of the configs
    data, chance = shapes(), random.Random()
    same, steps, late = 0, [], 0
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        _wait(_begin(data, config, place / "whole", 0))
        whole = _found(place / "whole")
        for trial in range(TRIALS):
            folder, step = place / str(trial), chance.randrange(1, STEPS)
            process = _begin(data, config, folder, trial % 3)
            late += _kill(process, folder, step)
            steps.append(step)
            _wait(_begin(data, config, folder, (trial + 1) % 3))
            same += _equal(_found(folder), whole)
            print(f"trial {trial + 1}: killed in step {step}, {same} equal so far", file=sys.stderr)
    tensors = len(whole[0])
    note = (
        f"{tensors} tensors (weights, average, optimizer, expert biases) and the samples of {STEPS} steps; killed in "
        f"steps {min(steps)} to {max(steps)}; 0, 1, 2 workers in turn, another number after; "
        f"{late} trials had ended before the kill"
    )
    holds = same == TRIALS and not late
    return [Row("kill -9, resumed bit for bit", same, f"of {TRIALS}", "20 of 20", holds, TRIALS, note=note)]


def _begin(data: Dataset, config: TrainConfig, folder: Path, workers: int) -> int:
    """A process that trains to the end; its id."""
    folder.mkdir(exist_ok=True)
    process = os.fork()  # everything is imported already, which saves seconds a trial
    if process:
        return process
    try:
        os.setpgid(0, 0)
        torch.set_num_threads(1)
        run = stage.prepared(data, replace(config, workers=workers).resolved(), folder, QUIET)
        run.restore()
        run.feed.wait()
        run.finish(QUIET)
        os._exit(0)
    except BaseException:  # whatever it is, a fork must not go on as its parent
        traceback.print_exc()
        os._exit(1)


def _kill(process: int, folder: Path, step: int) -> bool:
    """Kill a process in a step, told by its log; whether it was too late."""
    log = folder / "log.jsonl"
    while not (log.is_file() and log.read_bytes().count(b"\n") >= step):
        if os.waitpid(process, os.WNOHANG)[0]:
            return True
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    return os.WIFEXITED(os.waitpid(process, 0)[1])


def _wait(process: int) -> None:
    status = os.waitpid(process, 0)[1]
    assert os.WIFEXITED(status), status
    assert os.WEXITSTATUS(status) == 0, status


def _found(folder: Path) -> tuple[dict[str, torch.Tensor], dict[int, str]]:
    """Every tensor at the end, and the samples of each step."""
    kept = read(folder)
    assert kept is not None
    assert kept[0].step == STEPS
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return kept[1], {line["step"]: line["samples"] for line in lines if "samples" in line}


def _equal(
    one: tuple[dict[str, torch.Tensor], dict[int, str]], two: tuple[dict[str, torch.Tensor], dict[int, str]]
) -> bool:
    tensors = one[0].keys() == two[0].keys() and all(torch.equal(t, two[0][name]) for name, t in one[0].items())
    return tensors and one[1] == two[1] and sorted(one[1]) == list(range(1, STEPS + 1))


if __name__ == "__main__":
    sys.exit(0 if publish("training_resume", rows()) else 1)
