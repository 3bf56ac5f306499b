"""How far can images without captions replace captions? ``make experiment-captions``.

Three trainings of ``nano`` for each seed on ``icons``:

- ``tenth``: the captions of a tenth of the training concepts only;
- ``tenth+images``: the same captions, and all other training images without captions and without their concepts,
  with the self-supervision of ``SELF_SUPERVISION``;
- ``all``: every training caption.

All have the same number of steps and of captions per step, in the same order for the captions they have in common. Each
seed draws its own tenth of the concepts. Then each model is evaluated as in the retrieval suite: images without skin-
tone variants against the distinct captions of their split, ties counted against the model.

The difference of recall@10 is computed on the mean over seeds, paired by image, with a confidence interval over
concepts (and by cluster bootstrap): it shows how far the result generalises to other images, and the values of the
single seeds how far to other tenths and other runs. The settings were chosen on ``val`` with seed 0 only, without using
``test``.

It can be interrupted at any time: a training resumes from its last checkpoint, completed ones are not repeated. Two
processes can share the work with different ``--seeds`` or ``--arms``. One seed takes about four minutes of one core.
There is no expected result.

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
from clerestory.stages.train.run import prepare_run
from clerestory.stages.train.shuffle import SampleRng
from clerestory.stages.train.threads import threads
from clerestory.stats.bootstrap import cluster_bootstrap
from clerestory.stats.paired import paired_difference

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ranked import SPLITS, ranks

from table import OUT, Row, publish

TENTH, TENTH_AND_IMAGES, ALL = "tenth", "tenth+images", "all"
ARMS = (TENTH, TENTH_AND_IMAGES, ALL)
SHARE = 0.1
BATCH = 64
SELF_SUPERVISION: dict[str, Any] = {"method": "slip", "projection_head": False, "batch_size": 64}
K = 10  # of recall@k
RESULT = OUT / "experiment_captions.json"


def main(arguments: Sequence[str]) -> int:
    """Run the missing trainings, then publish."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5])
    parser.add_argument("--arms", choices=ARMS, nargs="+", default=list(ARMS))
    parser.add_argument("--only-table", action="store_true", help="publish the stored results without training")
    parser.add_argument("--work", type=Path, default=OUT / "captions", help="folder of the checkpoints")
    options = parser.parse_args(arguments)
    if not options.only_table:
        icons = open_data("icons")
        for seed in options.seeds:
            for arm in options.arms:
                run_training(icons, arm, seed, options.steps, options.work)
    return 0 if publish("experiment-captions", rows(read())) else 1


def read() -> dict[str, Any]:
    """The results of all calls so far: one entry for each training."""
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}


def save(name: str, result: dict[str, Any]) -> None:
    """Add the result of a training atomically; two processes may do so at the same time."""
    OUT.mkdir(exist_ok=True)
    with RESULT.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        draft = RESULT.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps({**read(), name: result}) + "\n", encoding="utf-8")
        draft.replace(RESULT)


def run_training(icons: Dataset, arm: str, seed: int, steps: int, work: Path) -> None:
    """Train one arm with one seed and store the ranks of its model, unless they are stored already."""
    data = arm_data(icons, arm, seed)
    config = settings(arm, seed, steps)
    name, subject = f"{arm} {seed}", digest([data.digest, encode(config), SPLITS])
    if read().get(name, {}).get("subject") == subject:
        return
    folder = work / f"{arm}-{seed}-{subject[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with threads(1):
        run = prepare_run(data, config.resolved(), folder, QUIET)
        run.restore()
        print(f"{name}: {len(run.train_data.concepts)} concepts with captions, {len(run.train_data.train.captions)} "
              f"captions, {len(run.train_data.unlabelled_UHWC)} images without", file=sys.stderr)  # fmt: skip
        started = time.process_time()
        run.fit(QUIET)
        seconds = time.process_time() - started
        result = {
            "subject": subject,
            "steps": steps,
            "cpu_seconds": round(seconds, 1),
            "concepts": len(run.train_data.concepts),
            "captions": len(run.train_data.train.captions),
            "images": len(run.train_data.train.pixels_NHWC),
            "unlabelled": len(run.train_data.unlabelled_UHWC),
            "self_supervision": SELF_SUPERVISION if arm == TENTH_AND_IMAGES else {},
            "ranks": ranks(icons, folder / FINAL, folder),
        }
    save(name, result)
    shutil.rmtree(folder)
    print(f"{name}: {recall(result, 'val').mean():.4f} on val, {seconds:.0f} s of one core", file=sys.stderr)


def settings(arm: str, seed: int, steps: int) -> TrainConfig:
    """The settings of one training; the arms differ only in self-supervision."""
    common = {"steps": steps, "batch_size": BATCH, "seed": seed, "threads": 1}
    common |= {"validate_every": 0, "checkpoint_every": 50}
    return decode(TrainConfig, {**common, "self_supervision": SELF_SUPERVISION if arm == TENTH_AND_IMAGES else {}})


def arm_data(icons: Dataset, arm: str, seed: int) -> Dataset:
    """The data of one arm: captions of a tenth of the concepts; the rest without captions, removed, or unchanged."""
    if arm == ALL:
        return icons
    concepts = sorted({s.concept for s in icons if s.split == TRAIN})
    shuffled = SampleRng(seed, "captions of a tenth").generator(0, "concepts").permutation(concepts)
    known = set(shuffled[: round(SHARE * len(concepts))].tolist())
    samples = [s for s in icons if s.split != TRAIN or s.concept in known]
    if arm == TENTH_AND_IMAGES:
        others = [s for s in icons if s.split == TRAIN and s.concept not in known]
        samples += [replace(s, captions=(), concept="") for s in others]
    return Dataset(f"icons, {arm}", samples, icons.read)


def rows(found: dict[str, Any]) -> list[Row]:
    """The comparison as rows, over the seeds of all three arms; only the gain has a bar."""
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
            about = f"{len(seeds)} seeds of {steps} steps: {each}; {of['captions']} candidate captions"
            out.append(Row(f"recall@{K} image to caption, {split}, {arm}", float(hits_SN.mean()), "share",
                           "reported", True, n, note=about))  # fmt: skip
        out += [gain(hits, groups, split), share(hits, split)]
    cost = {arm: float(np.mean([found[f"{arm} {s}"]["cpu_seconds"] for s in seeds])) for arm in ARMS}
    note = "; ".join(f"{arm} {seconds:.0f} s" for arm, seconds in cost.items())
    out.append(Row("time of tenth+images over tenth", cost[TENTH_AND_IMAGES] / cost[TENTH], "×", "reported", True,
                   len(seeds), note=f"one core: {note}"))  # fmt: skip
    return out


def gain(hits: dict[str, NDArray[np.float64]], groups: NDArray[np.int64], split: str) -> Row:
    """The gain from the images without captions, with its interval."""
    a, b = hits[TENTH_AND_IMAGES].mean(axis=0), hits[TENTH].mean(axis=0)
    difference = paired_difference(a, b, groups)
    by_bootstrap = cluster_bootstrap(
        lambda columns, w_RN: w_RN @ columns[0] / w_RN.sum(axis=1), [a - b], groups, draws=2000
    )
    single = ", ".join(f"{m:+.4f}" for m in (hits[TENTH_AND_IMAGES] - hits[TENTH]).mean(axis=1))
    bounds = difference.interval
    between = f"95 % interval {bounds.low:+.4f} to {bounds.high:+.4f}" if bounds else difference.no_interval
    boot = (
        by_bootstrap
        if isinstance(by_bootstrap, str)
        else (f"bootstrap {by_bootstrap.low:+.4f} to {by_bootstrap.high:+.4f}")
    )
    return Row(f"{TENTH_AND_IMAGES} minus {TENTH}, {split}", difference.value, "share", "> 0, with its interval",
               bounds is not None and bounds.low > 0, difference.n, against="the same captions without the images",
               note=f"{between} over {difference.clusters} concepts ({boot}); by seed {single}")  # fmt: skip


def share(hits: dict[str, NDArray[np.float64]], split: str) -> Row:
    """The share of the recall with all captions that a tenth of them reaches with the images."""
    tenth, with_images, whole = (float(hits[arm].mean()) for arm in ARMS)
    note = f"without the images {tenth / whole:.3f}"
    return Row(f"share of all captions' recall@{K}, {split}", with_images / whole, "share", "reported", True,
               hits[ALL].shape[1], note=note)  # fmt: skip


def recall(found: dict[str, Any], split: str) -> NDArray[np.float64]:
    """1 for each image whose own caption is among the first ten."""
    return np.array([float(rank <= K) for rank in found["ranks"][split]["ranks"]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
