"""Killing a training at random moments: is the result bit for bit that of an uninterrupted run?

Run alone with ``python bench/training_resume.py``; two to five minutes. Each trial trains the tiny preset in a separate
process, kills it with SIGKILL in a random step (with 0, 1 or 2 data loader workers), resumes in another process with
another number of workers, and compares with an uninterrupted run: every tensor of the last checkpoint and the logged
samples of every step.
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
from clerestory.stages.train.model_overrides import ModelOverrides
from table import Row, publish

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.shapes import shapes

TRIALS, STEPS = 20, 24
CONFIG = {"preset": "tiny", "steps": STEPS, "batch_size": 16, "threads": 1, "checkpoint_every": 3, "validate_every": 0}
# Experts balanced by a bias, so that its buffers are part of the state to restore.
EXPERTS = {"experts": 4, "experts_per_token": 2, "expert_balance": "bias"}


def rows() -> list[Row]:
    """Resumed runs that equal the uninterrupted run, of 20 trials."""
    config = TrainConfig(**CONFIG, model=ModelOverrides(**EXPERTS))  # type: ignore[arg-type]  # fields of the configs
    data, generator = shapes(), random.Random()
    same, steps, late = 0, [], 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _wait(_start(data, config, folder / "whole", 0))
        whole = _result(folder / "whole")
        for trial in range(TRIALS):
            trial_folder, step = folder / str(trial), generator.randrange(1, STEPS)
            process = _start(data, config, trial_folder, trial % 3)
            late += _kill(process, trial_folder, step)
            steps.append(step)
            _wait(_start(data, config, trial_folder, (trial + 1) % 3))
            same += _equal(_result(trial_folder), whole)
            print(f"trial {trial + 1}: killed in step {step}, {same} equal so far", file=sys.stderr)
    tensors = len(whole[0])
    note = (
        f"{tensors} tensors (weights, average, optimizer, expert biases) and the samples of {STEPS} steps; killed in "
        f"steps {min(steps)} to {max(steps)}; 0, 1, 2 workers in turn, another number after the kill; "
        f"{late} trials ended before the kill"
    )
    holds = same == TRIALS and not late
    return [Row("kill -9, resumed bit for bit", same, f"of {TRIALS}", "20 of 20", holds, TRIALS, note=note)]


def _start(data: Dataset, config: TrainConfig, folder: Path, workers: int) -> int:
    """Start a process that trains to the end; returns its id."""
    folder.mkdir(exist_ok=True)
    process = os.fork()  # a fork, as it does not import everything again
    if process:
        return process
    try:
        os.setpgid(0, 0)
        torch.set_num_threads(1)
        run = stage.prepare_run(data, replace(config, num_workers=workers).resolved(), folder, QUIET)
        run.restore()
        run.loader.wait()
        run.fit(QUIET)
        os._exit(0)
    except BaseException:  # a fork must never return into its parent's code
        traceback.print_exc()
        os._exit(1)


def _kill(process: int, folder: Path, step: int) -> bool:
    """Kill a process in a step, according to its log; True if the process ended before."""
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


def _result(folder: Path) -> tuple[dict[str, torch.Tensor], dict[int, str]]:
    """Every tensor at the end, and the samples of each step."""
    checkpoint = read(folder)
    assert checkpoint is not None
    assert checkpoint[0].step == STEPS
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return checkpoint[1], {line["step"]: line["samples"] for line in lines if "samples" in line}


def _equal(
    one: tuple[dict[str, torch.Tensor], dict[int, str]], two: tuple[dict[str, torch.Tensor], dict[int, str]]
) -> bool:
    tensors = one[0].keys() == two[0].keys() and all(torch.equal(t, two[0][name]) for name, t in one[0].items())
    return tensors and one[1] == two[1] and sorted(one[1]) == list(range(1, STEPS + 1))


if __name__ == "__main__":
    sys.exit(0 if publish("training_resume", rows()) else 1)
