"""How much do pictures without captions replace captions? ``make experiment-captions``.

Three trainings of ``nano`` for each seed on ``icons``:

- ``tenth``: the captions of a tenth of the training concepts, and nothing else;
- ``tenth+pictures``: the same captions, and all other training pictures without captions and without their concepts,
  learnt from as ``RECIPE`` says;
- ``all``: every training caption.

All take equally many steps on equally many captions, in the same order where they have the same captions. Each seed
draws its own tenth, whole concepts at a time. Then each model is asked for captions as the evaluation asks: pictures
without skin-tone variants against the distinct captions of their split, ties against the model.

The difference of recall@10 is that of the mean over seeds, picture by picture, with an interval over concepts (and the
same by cluster bootstrap): it says how far the result holds for other pictures, and the single seeds beside it how far
for other tenths and other runs. The recipe was chosen on ``val`` with seed 0 alone; ``test`` was not looked at.

It can be interrupted at any time: a training goes on from its last checkpoint, finished ones are not done again. Two
processes may share the work: give them different ``--seeds`` or ``--arms``. One seed takes about four
minutes of one core. Expected: nothing is promised; the table says what came out.

    python bench/experiments/captions.py [--steps 250] [--seeds 0 1 2 3 4 5] [--only-table]
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import decode, encode
from clerestory.core.digest import digest
from clerestory.core.progress import QUIET
from clerestory.core.sample import TRAIN, Dataset
from clerestory.data import open_data
from clerestory.stages.train import TrainConfig
from clerestory.stages.train.loop import FINAL
from clerestory.stages.train.run import prepared
from clerestory.stages.train.shuffle import Keyed
from clerestory.stages.train.threads import threads
from clerestory.stats.bootstrap import cluster_bootstrap
from clerestory.stats.paired import paired_difference

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ranked import SPLITS, ranks

from table import OUT, Row, publish

TENTH, PICTURES, ALL = "tenth", "tenth+pictures", "all"
ARMS = (TENTH, PICTURES, ALL)
SHARE = 0.1
BATCH = 64
RECIPE: dict[str, Any] = {"method": "slip", "head": False, "batch": 64}
FIRST = 10  # recall@10
RESULT = OUT / "experiment_captions.json"


def main(arguments: Sequence[str]) -> int:
    """Train what is missing, then publish."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5])
    parser.add_argument("--arms", choices=ARMS, nargs="+", default=list(ARMS))
    parser.add_argument("--only-table", action="store_true", help="publish what is there, train nothing")
    parser.add_argument("--work", type=Path, default=OUT / "captions", help="where checkpoints go")
    given = parser.parse_args(arguments)
    if not given.only_table:
        icons = open_data("icons")
        for seed in given.seeds:
            for arm in given.arms:
                one(icons, arm, seed, given.steps, given.work)
    return 0 if publish("experiment-captions", rows(read())) else 1


def read() -> dict[str, Any]:
    """What all calls so far found: one entry for each training."""
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}


def keep(name: str, found: dict[str, Any]) -> None:
    """Add one training's result; two processes may do so at once, and a reader never sees half of it."""
    OUT.mkdir(exist_ok=True)
    with RESULT.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        draft = RESULT.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps({**read(), name: found}) + "\n", encoding="utf-8")
        draft.replace(RESULT)


def one(icons: Dataset, arm: str, seed: int, steps: int, work: Path) -> None:
    """Train one arm with one seed and keep what its model finds, unless that is known."""
    data = arm_of(icons, arm, seed)
    config = settings(arm, seed, steps)
    name, subject = f"{arm} {seed}", digest([data.digest, encode(config), SPLITS])
    if read().get(name, {}).get("subject") == subject:
        return
    folder = work / f"{arm}-{seed}-{subject[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with threads(1):
        run = prepared(data, config.resolved(), folder, QUIET)
        run.restore()
        print(f"{name}: {len(run.material.concepts)} concepts with captions, {len(run.material.train.captions)} "
              f"captions, {len(run.material.unlabelled_UHWC)} pictures without", file=sys.stderr)  # fmt: skip
        started = time.process_time()
        run.finish(QUIET)
        seconds = time.process_time() - started
        found = {
            "subject": subject,
            "steps": steps,
            "cpu_seconds": round(seconds, 1),
            "concepts": len(run.material.concepts),
            "captions": len(run.material.train.captions),
            "pictures": len(run.material.train.pixels_NHWC),
            "unlabelled": len(run.material.unlabelled_UHWC),
            "recipe": RECIPE if arm == PICTURES else {},
            "ranks": ranks(icons, folder / FINAL, folder),
        }
    keep(name, found)
    shutil.rmtree(folder)
    print(f"{name}: {recall(found, 'val').mean():.4f} on val, {seconds:.0f} s of one core", file=sys.stderr)


def settings(arm: str, seed: int, steps: int) -> TrainConfig:
    """Of one training; the arms differ in nothing but learning from pictures alone."""
    given = {"steps": steps, "batch": BATCH, "seed": seed, "threads": 1, "validate_every": 0, "checkpoint_every": 50}
    return decode(TrainConfig, {**given, "self_supervision": RECIPE if arm == PICTURES else {}})


def arm_of(icons: Dataset, arm: str, seed: int) -> Dataset:
    """The data of one arm: captions of a tenth of the concepts, and the rest bare, gone, or as it was."""
    if arm == ALL:
        return icons
    concepts = sorted({s.concept for s in icons if s.split == TRAIN})
    shuffled = Keyed(seed, "captions of a tenth").generator(0, "concepts").permutation(concepts)
    known = set(shuffled[: round(SHARE * len(concepts))].tolist())
    samples = [s for s in icons if s.split != TRAIN or s.concept in known]
    if arm == PICTURES:
        others = [s for s in icons if s.split == TRAIN and s.concept not in known]
        samples += [replace(s, captions=(), concept="") for s in others]
    return Dataset(f"icons, {arm}", samples, icons.read)


def rows(found: dict[str, Any]) -> list[Row]:
    """The comparison as rows, over the seeds that all three arms have; only "better" has a bar."""
    seeds = sorted({int(name.rpartition(" ")[2]) for name in found})
    seeds = [s for s in seeds if all(f"{arm} {s}" in found for arm in ARMS)]
    if not seeds:
        return []
    steps = found[f"{ALL} {seeds[0]}"]["steps"]
    out = []
    for split in SPLITS:
        hits = {arm: np.array([recall(found[f"{arm} {s}"], split) for s in seeds]) for arm in ARMS}
        of = found[f"{ALL} {seeds[0]}"]["ranks"][split]
        n, groups = len(of["ranks"]), np.unique(np.array(of["concepts"]), return_inverse=True)[1]
        for arm, hits_SN in hits.items():
            each = ", ".join(f"{m:.4f}" for m in hits_SN.mean(axis=1))
            about = f"{len(seeds)} seeds of {steps} steps: {each}; {of['captions']} captions to choose from"
            out.append(Row(f"recall@{FIRST} image to caption, {split}, {arm}", float(hits_SN.mean()), "share",
                           "reported", True, n, note=about))  # fmt: skip
        out += [gain(hits, groups, split), share(hits, split)]
    cost = {arm: float(np.mean([found[f"{arm} {s}"]["cpu_seconds"] for s in seeds])) for arm in ARMS}
    note = "; ".join(f"{arm} {seconds:.0f} s" for arm, seconds in cost.items())
    out.append(Row("time of tenth+pictures over tenth", cost[PICTURES] / cost[TENTH], "×", "reported", True,
                   len(seeds), note=f"one core: {note}"))  # fmt: skip
    return out


def gain(hits: dict[str, NDArray[np.float64]], groups: NDArray[np.int64], split: str) -> Row:
    """What the pictures without captions add, with its interval."""
    a, b = hits[PICTURES].mean(axis=0), hits[TENTH].mean(axis=0)
    found = paired_difference(a, b, groups)
    again = cluster_bootstrap(lambda columns, w_RN: w_RN @ columns[0] / w_RN.sum(axis=1), [a - b], groups, draws=2000)
    single = ", ".join(f"{m:+.4f}" for m in (hits[PICTURES] - hits[TENTH]).mean(axis=1))
    bounds = found.interval
    between = f"95 % interval {bounds.low:+.4f} to {bounds.high:+.4f}" if bounds else found.no_interval
    boot = again if isinstance(again, str) else f"bootstrap {again.low:+.4f} to {again.high:+.4f}"
    return Row(f"{PICTURES} minus {TENTH}, {split}", found.value, "share", "> 0, with its interval",
               bounds is not None and bounds.low > 0, found.n, against="the same captions without the pictures",
               note=f"{between} over {found.clusters} concepts ({boot}); by seed {single}")  # fmt: skip


def share(hits: dict[str, NDArray[np.float64]], split: str) -> Row:
    """What share of the result with all captions a tenth of them reaches with the pictures."""
    tenth, pictures, whole = (float(hits[arm].mean()) for arm in ARMS)
    note = f"without the pictures {tenth / whole:.3f}"
    return Row(f"share of all captions' recall@{FIRST}, {split}", pictures / whole, "share", "reported", True,
               hits[ALL].shape[1], note=note)  # fmt: skip


def recall(found: dict[str, Any], split: str) -> NDArray[np.float64]:
    """1 for each picture whose own caption is among the first ten."""
    return np.array([float(rank <= FIRST) for rank in found["ranks"][split]["ranks"]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
