"""Is a mixture of experts better than a dense model at the same cost per token? ``make experiment-experts``.

Two trainings for each seed on ``icons``: the preset ``nano``, and ``nano`` with experts in its image tower that are
together as wide as the MLP they replace (``expert_split``), so that an image token costs the same. Both see the same
images in the same order with the same augmentation, interleaved step by step in one process of one thread. Then they
are evaluated as in the retrieval suite: images without skin-tone variants against the distinct captions of their split,
ties counted against the model.

The difference of recall@10 is computed on the mean over seeds, paired by image, with a confidence interval over
concepts: it shows how far the result generalises to other images, and the values of the single seeds how far to other
runs.

It can be interrupted at any time: trainings resume from their last checkpoint, completed seeds are not repeated. With
the defaults it takes about fifteen minutes of one idle core. There is no expected result.

    python bench/experiments/experts.py [--steps 400] [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clerestory.core.codec import decode
from clerestory.core.progress import QUIET
from clerestory.core.sample import Dataset
from clerestory.data import open_data
from clerestory.stages.train import TrainConfig
from clerestory.stages.train.loop import FINAL, Run
from clerestory.stages.train.run import prepare_run
from clerestory.stages.train.threads import threads
from clerestory.stats.paired import Difference, paired_difference

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ranked import SPLITS, ranks

from table import OUT, Row, publish

DENSE, EXPERTS = "dense", "experts"
ARCHITECTURES: dict[str, dict[str, Any]] = {
    DENSE: {},
    EXPERTS: {"experts": 8, "experts_per_token": 2, "expert_balance": "bias"},
}
K = 10  # of recall@k
SAVE_EVERY = 50
RANKS = OUT / "experiment_experts_ranks.json"  # the rows are computed from it


def main(arguments: Sequence[str]) -> int:
    """Run the missing trainings, then publish."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=OUT / "experts", help="folder of the checkpoints")
    options = parser.parse_args(arguments)
    data = open_data("icons")
    found = read(options.steps)
    for seed in options.seeds:
        if str(seed) not in found["seeds"]:
            found["seeds"][str(seed)] = pair(data, seed, options.steps, options.work / f"{options.steps}-{seed}")
            write(found)
            publish("experiment_experts", rows(found))
    return 0 if publish("experiment_experts", rows(found)) else 1


def read(steps: int) -> dict[str, Any]:
    """The results of earlier calls with the same settings."""
    settings = {"steps": steps, "architectures": ARCHITECTURES}
    if RANKS.is_file():
        found: dict[str, Any] = json.loads(RANKS.read_text(encoding="utf-8"))
        if found["settings"] == settings:
            return found
    return {"settings": settings, "seeds": {}}


def write(found: dict[str, Any]) -> None:
    """Store the results atomically."""
    RANKS.parent.mkdir(exist_ok=True)
    draft = RANKS.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps(found) + "\n", encoding="utf-8")
    draft.replace(RANKS)


def pair(data: Dataset, seed: int, steps: int, work: Path) -> dict[str, Any]:
    """Both trainings of one seed, interleaved step by step, and the ranks of their models."""
    with threads(1):
        runs = {side: begin(data, side, seed, steps, work / side) for side in ARCHITECTURES}
        seconds = train_interleaved(runs, steps)
        return {
            "seconds": seconds,
            "parameters": {side: run.model.count() for side, run in runs.items()},
            "ranks": {side: ranks(data, work / side / FINAL, work) for side in runs},
        }


def begin(data: Dataset, side: str, seed: int, steps: int, work: Path) -> Run:
    """A training at its last checkpoint."""
    work.mkdir(parents=True, exist_ok=True)
    settings = {"steps": steps, "seed": seed, "model": ARCHITECTURES[side], "threads": 1, "validate_every": 0}
    run = prepare_run(data, decode(TrainConfig, settings).resolved(), work, QUIET)
    run.restore()
    return run


def train_interleaved(runs: dict[str, Run], steps: int) -> dict[str, list[float]]:
    """Train all to the end; the seconds of each step, including those before an interruption."""
    file = runs[DENSE].folder.parent / "seconds.json"
    seconds: dict[str, list[float]] = json.loads(file.read_text()) if file.is_file() else {side: [] for side in runs}
    for done in range(1, steps + 1):
        for side, run in runs.items():
            if run.position.step < done:
                started = time.perf_counter()
                run.step()
                seconds[side].append(round(time.perf_counter() - started, 4))
        if done % SAVE_EVERY == 0 or done == steps:
            for run in runs.values():
                run.save()
            file.write_text(json.dumps(seconds), encoding="utf-8")
    for run in runs.values():
        run.export(FINAL)
    return seconds


def rows(found: dict[str, Any]) -> list[Row]:
    """The comparison as rows; only the gain has a bar."""
    seeds = found["seeds"]
    if not seeds:
        return []
    said = f"seeds {', '.join(seeds)}, each of {found['settings']['steps']} steps"
    out = []
    for split in SPLITS:
        each = {side: np.array([hits(seeds[s], side, split) for s in seeds]) for side in ARCHITECTURES}
        n, captions = each[DENSE].shape[1], next(iter(seeds.values()))["ranks"][DENSE][split]["captions"]
        for side, hits_SN in each.items():
            note = f"{said}: {', '.join(f'{m:.4f}' for m in hits_SN.mean(axis=1))}; {captions} captions"
            out.append(Row(f"recall@{K} image to text, {split}, {side}", float(hits_SN.mean()), "share",
                           "reported", True, n, note=note))  # fmt: skip
        gain = difference(each[EXPERTS].mean(axis=0), each[DENSE].mean(axis=0), concepts(seeds, split))
        single = ", ".join(f"{m:+.4f}" for m in (each[EXPERTS] - each[DENSE]).mean(axis=1))
        bounds = gain.interval
        between = f"95 % interval {bounds.low:+.4f} to {bounds.high:+.4f}" if bounds else gain.no_interval
        better = bounds is not None and bounds.low > 0
        note = f"{between} over {gain.clusters} concepts; by seed {single}"
        out.append(Row(f"experts minus dense, {split}", gain.value, "share", "> 0, with its interval", better, n,
                       against="dense nano of equal active FLOPs", note=note))  # fmt: skip
    return [*out, *costs(seeds)]


def hits(seed: dict[str, Any], side: str, split: str) -> list[float]:
    """1 for each image whose own caption is among the first ten."""
    return [float(rank <= K) for rank in seed["ranks"][side][split]["ranks"]]


def concepts(seeds: dict[str, Any], split: str) -> list[str]:
    """The concept of each image."""
    named: list[str] = next(iter(seeds.values()))["ranks"][DENSE][split]["concepts"]
    return named


def difference(experts_N: np.ndarray, dense_N: np.ndarray, named: Sequence[str]) -> Difference:
    """Paired by image, clustered by concept."""
    return paired_difference(experts_N, dense_N, np.unique(np.array(named), return_inverse=True)[1])


def costs(seeds: dict[str, Any]) -> list[Row]:
    """Step time and model size."""
    ratios = []
    for seed in seeds.values():
        pairs = list(zip(*(seed["seconds"][side][3:] for side in (EXPERTS, DENSE)), strict=False))
        ratios.append(statistics.median(a / b for a, b in pairs))
    first = next(iter(seeds.values()))
    steps = [statistics.median(s["seconds"][side]) for s in seeds.values() for side in (EXPERTS, DENSE)]
    size = {side: first["parameters"][side] / 1e6 for side in ARCHITECTURES}
    note = (
        f"median ratio of interleaved steps, one thread; by seed {', '.join(f'{r:.3f}' for r in ratios)}; "
        f"a step about {statistics.median(steps):.2f} s"
    )
    return [
        Row("wall time of a step, experts over dense", statistics.median(ratios), "times", "reported", True,
            sum(len(s["seconds"][DENSE]) for s in seeds.values()), against="dense nano", note=note),
        Row("parameters, experts over dense", size[EXPERTS] / size[DENSE], "times", "reported", True, 1,
            note=f"{size[EXPERTS]:.2f} and {size[DENSE]:.2f} million"),
    ]  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(main(sys.argv[1:]))
