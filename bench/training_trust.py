"""Reliability of training: injected faults, false alarms, the monitor's overhead, the estimate, the shuffled order.

Everything is a real short training of a tiny model on the CPU. The estimate is made and checked in separate processes,
as a user would: ``clerestory train --plan`` and then ``clerestory train``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from clerestory.stages.train.shuffle import ShuffledOrder
from table import Row, publish

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.training_faults import FAULTS, MAX_DETECTION_STEP, STEPS, healthy, start_run, trial

HEALTHY = 10
SEED = 10  # the thresholds were chosen on runs with lower seeds
TRIALS = 3
PROBE = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
from tests.support.shapes import more_shapes
from clerestory.stages.train import TrainConfig, train
from clerestory.stages.train import estimate as estimating
from clerestory.stages.train.estimate import estimate_training, store_estimate
from clerestory.store import open_store
config = TrainConfig(preset="tiny", steps=150, batch_size=64, threads=1, seed=int(sys.argv[3]), caption_share=1.0)
data, store = more_shapes(), open_store(Path(sys.argv[2]))
if sys.argv[4] == "plan":
    store_estimate(estimate_training(data, config), data, config, store)
    estimating.MAX_SECONDS = 2.0
    estimating.time = SimpleNamespace(perf_counter=time.process_time)
    print(estimate_training(data, config).seconds)
else:
    evidence = train(data, config, store).evidence
    values = {m.name: m.value for m in evidence.measurements}
    print(values["plan_time_ratio"], values["plan_memory_ratio"], evidence.cost.cpu_seconds)
"""


def rows() -> list[Row]:
    """All rows; about ninety seconds on an idle machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            return [*_faults(work), _alarms(work), _overhead(work), *_estimate(work), *_order()]
    finally:
        torch.set_num_threads(before)


def _faults(work: Path) -> Iterator[Row]:
    """Every fault, injected into a separate training."""
    steps, missed = [], []
    for number, fault in enumerate(FAULTS):
        reported = trial(fault, work / f"fault-{number}", seed=SEED)
        if fault.code in reported:
            steps.append(reported[fault.code])
        else:
            missed.append(fault.name)
    caught = len(steps)
    note = f"reported at step {min(steps)} to {max(steps)}; missed: {', '.join(missed) or 'none'}"
    bar = f"≥ 9 of 10 within {MAX_DETECTION_STEP} steps"
    yield Row("injected faults detected", caught, f"of {len(FAULTS)}", bar, caught >= 9, len(FAULTS), note=note)


def _alarms(work: Path) -> Row:
    """Trainings without a fault, with different sizes, batches and learning rates."""
    alarms = {}
    for number in range(SEED, SEED + HEALTHY):
        reported = healthy(work / f"healthy-{number}", number)
        if reported:
            alarms[number] = ", ".join(reported)
    note = f"{STEPS} steps each, three with experts; " + (str(alarms) if alarms else "none")
    return Row("false alarms in healthy runs", len(alarms), "runs", "0 of 10", not alarms, HEALTHY, note=note)


def _overhead(work: Path) -> Row:
    """CPU time of the monitor as a share of a long run, with a check every tenth step, every second one a full check.

    Steps without a check, with a check and with a full check are interleaved, so that all see the machine equally busy.
    """
    run = start_run(work / "overhead", steps=1100, batch_size=64, caption_share=0.25)
    run.step()
    interval, seconds = run.instrumentation.interval, np.zeros((40, 3))
    for number in range(seconds.size):
        depth = number % 3
        run.instrumentation.is_check = lambda step, yes=depth > 0: yes  # type: ignore[method-assign,misc]  # interleaved
        run.instrumentation.is_full_check = lambda step, yes=depth > 1: yes  # type: ignore[method-assign,misc]  # interleaved
        started = time.process_time()
        run.step()
        seconds[number // 3, depth] = time.process_time() - started
    plain, check, full_check = np.median(seconds, axis=0)
    share = ((check + full_check) / 2 / plain - 1) / interval
    note = (
        f"a step {1e3 * plain:.1f} ms, with a check {1e3 * check:.1f} ms, with a full check {1e3 * full_check:.1f} ms; "
        "the share is smaller for larger models"
    )
    return Row(
        "monitor, share of the CPU time", float(100 * share), "%", "≤ 1 %", bool(share <= 0.01), len(seconds), note=note
    )


def _estimate(work: Path) -> Iterator[Row]:
    """Estimate and run, three times, each in a separate process; the median counts.

    Wall time also depends on the other load of the machine in the two processes, so CPU time is compared as well, which
    shows the accuracy of the estimate itself.
    """
    ratios = []
    for seed in range(TRIALS):
        (estimated,) = _in_process(work, seed, "plan")
        wall, memory, cpu = _in_process(work, seed, "train")
        ratios.append((wall, cpu / estimated, memory))
    names = {"wall time": 0.2, "CPU time": 0.2, "peak memory": 0.15}
    for (name, bound), values in zip(names.items(), zip(*ratios, strict=True), strict=True):
        value = median(values)
        note = f"all: {', '.join(f'{v:.2f}' for v in values)}; load average {os.getloadavg()[0]:.1f}"
        holds = abs(value - 1) <= bound
        yield Row(f"--plan: {name}, actual / estimated", value, "×", f"1 ± {bound}", holds, TRIALS, note=note)


def _in_process(work: Path, seed: int, mode: str) -> list[float]:
    root = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-c", PROBE, root, str(work / "home"), str(seed), mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(x) for x in done.stdout.split()]


def _order() -> Iterator[Row]:
    """A shuffle of a million samples: each exactly once, and the time to get a batch at any step."""
    size = 1_000_003
    order = ShuffledOrder(size, 0)
    started = time.perf_counter()
    epoch: NDArray[np.int64] = order.take(0, size)
    whole = time.perf_counter() - started
    each_once = bool((np.bincount(epoch, minlength=size) == 1).all())
    started = time.perf_counter()
    numpy = np.random.default_rng(0).permutation(size)
    peer = time.perf_counter() - started
    assert len(numpy) == size
    seconds = []
    for start in range(10**9, 10**9 + 50):
        started = time.perf_counter()
        order.take(start * 256, 256)
        seconds.append(time.perf_counter() - started)
    note = f"the whole epoch {whole:.2f} s, numpy's permutation {peer:.2f} s and 8 MB of memory"
    yield Row("shuffled order: a million samples, each once", float(each_once), "", "1", each_once, size, "numpy", note)
    resume = 1e3 * median(seconds)
    yield Row(
        "shuffled order: a batch of 256 at any step",
        resume,
        "ms",
        "< 5 ms",
        resume < 5,
        50,
        note="no stored permutation, no skipping",
    )


if __name__ == "__main__":
    sys.exit(0 if publish("training_trust", rows()) else 1)
