"""Statistics: false alarms and power, speed of intervals, and ranking against clip-benchmark.

Run alone with ``python bench/evaluation_statistics.py``; a little over a minute. Both sides of the ranking run in fresh
processes of one thread each, taking turns, because the memory of each is measured. clip-benchmark is installed by this
bench, without its requirements, into ``bench/.peers``.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats as distributions

from clerestory.core.evidence import Recipe
from clerestory.stages.evaluate.shared.class_prompts import prediction_columns
from clerestory.stats.aggregate import aggregate
from clerestory.stats.paired import paired_difference
from clerestory.stats.ranking import best_ranks
from clerestory.stats.verdict import gate_difference
from table import Row, publish

PEERS = Path(__file__).parent / ".peers"
CLIP_BENCHMARK = "clip-benchmark==1.6.2"
IMAGES, TEXTS_EACH, WIDTH, CLASSES = 5000, 5, 512, 1000
FILES = ("images", "texts", "seen", "classes", "target")
RECALLS = (1, 5, 10)
ROUNDS = 3
ROUNDING = 1e-15  # of a share in 64 bits, when terms are added in another order
TRIALS = 4000
Floats = NDArray[np.float64]


def rows() -> list[Row]:
    """Every promise of the statistics, measured."""
    return [*gate_rows(), *cluster_rows(), *interval_rows(), *ranking_rows()]


def gate_rows() -> Iterator[Row]:
    """2,000 samples, 75 % right, 1 % of all samples flipping at random in each direction, α = 0.01."""
    note = "an alarm is the answer fail; exact one-sided McNemar; base accuracy 0.75, 1 % of samples flip each way"
    power = gate_fails(0.02, seed=1) / TRIALS
    yield Row("gate, 2 points worse: detected", power, "share", "≥ 0.97", power >= 0.97, TRIALS, note=note)
    alarms = gate_fails(0.0, seed=2) / TRIALS
    yield Row("gate, equally good: false alarms", alarms, "share", "≤ 0.012", alarms <= 0.012, TRIALS, note=note)


def gate_fails(drop: float, seed: int, samples: int = 2000, churn: float = 0.01, right: float = 0.75) -> int:
    """How many of the trials the gate calls worse."""
    rng, failed, groups = np.random.default_rng(seed), 0, np.arange(samples)
    for _ in range(TRIALS):
        live, chance = rng.random(samples) < right, rng.random(samples)
        candidate = live ^ np.where(live, chance < (churn + drop) / right, chance < churn / (1 - right))
        failed += gate_difference(candidate.astype(np.float64), live.astype(np.float64), groups).outcome == "fail"
    return failed


def cluster_rows() -> Iterator[Row]:
    """300 clusters of 5 rows, an intra-cluster correlation of 0.5, α = 0.05, no true difference."""
    for kind in ("scores", "right or wrong"):
        ours, naive = cluster_alarms(kind == "right or wrong", seed=3)
        yield Row(
            f"300 clusters of 5, {kind}: false alarms",
            ours,
            "share",
            "0.04 to 0.06",
            0.04 <= ours <= 0.06,
            TRIALS,
            against="t test without clusters",
            note=f"without clusters {naive:.3f}",
        )


def cluster_alarms(binary: bool, seed: int) -> tuple[float, float]:
    """The share of false alarms, ours and that of a t test that ignores clusters."""
    rng, ours, naive, groups = np.random.default_rng(seed), 0, 0, np.repeat(np.arange(300), 5)
    for _ in range(TRIALS):
        if binary:
            # Whether the two differ, and who wins, are the concept's for half of the rows and the row's own for others.
            shared, own = rng.random((2, 300)).repeat(5, axis=1), rng.random((2, 1500))
            draw = np.where(rng.random(1500) < math.sqrt(0.5), shared, own)
            base = draw[1] < 0.5
            a, b = (base ^ (draw[0] < 0.3)).astype(np.float64), base.astype(np.float64)
        else:
            b = rng.normal(size=1500)
            a = b + math.sqrt(0.5) * (rng.normal(size=300).repeat(5) + rng.normal(size=1500))
        p = paired_difference(a, b, groups).p
        ours += p is not None and p < 0.05
        naive += bool(distributions.ttest_rel(a, b).pvalue < 0.05)
    return ours / TRIALS, naive / TRIALS


def interval_rows() -> Iterator[Row]:
    """The interval of a mean of 5,000 noughts and ones as an evaluation computes it, against a resampling loop."""
    rng = np.random.default_rng(4)
    hits = (rng.random(5000) < 0.7).astype(np.float64)
    scores, recipe = hits.tolist(), Recipe("mean", "score")

    def loop() -> Floats:
        return np.array([np.mean(rng.choice(scores, len(scores), replace=True)) for _ in range(1000)])

    ours, theirs = interleaved([lambda: aggregate({"score": hits}, recipe), loop], [50, 1])
    yield Row(
        "interval of a binary mean, n=5,000",
        theirs / ours,
        "times",
        "≥ 100 × 1,000 draws of a resampling loop",
        theirs / ours >= 100,
        ROUNDS,
        against="np.mean(rng.choice(scores, n)) over a list",
        note=f"{1000 * ours:.2f} ms (a recipe over rows, closed form) against {1000 * theirs:.0f} ms",
    )


def interleaved(calls: list[Callable[[], object]], repeats: list[int]) -> list[float]:
    """The least time of each call over the rounds, in seconds; all calls take turns."""
    best = [math.inf] * len(calls)
    for _ in range(ROUNDS):
        for place, (call, times) in enumerate(zip(calls, repeats, strict=True)):
            for _ in range(times):
                start = time.perf_counter()
                call()
                best[place] = min(best[place], time.perf_counter() - start)
    return best


def equal(name: str, ours: float | None, theirs: float) -> bool:
    """Whether two values are the same; a mean of means also when the order of the additions is not the same."""
    if ours is not None and name == "mean_per_class_recall":
        return abs(ours - theirs) <= ROUNDING
    return ours == theirs


def ranking_rows() -> Iterator[Row]:
    """Retrieval both ways, 5,000 images × 25,000 texts of 512 numbers, and 1,000 classes, on equal embeddings."""
    peer = install_peer()
    with tempfile.TemporaryDirectory() as folder:
        embeddings(Path(folder))
        first, theirs, last = (side(name, folder, peer) for name in ("ours", "theirs", "ours"))
    seconds, peak, against = min(first.seconds, last.seconds), max(first.peak, last.peak), "clip-benchmark 1.6.2"
    unequal = [name for name, value in theirs.values.items() if not equal(name, last.values.get(name), value)]
    differences = ", ".join(f"{name} {last.values.get(name)} ≠ {theirs.values[name]}" for name in unequal)
    yield Row(
        "retrieval and zero-shot metrics equal to clip-benchmark's",
        len(theirs.values) - len(unequal),
        "numbers",
        f"all {len(theirs.values)}, with ==; the mean of classes within {ROUNDING:g}",
        not unequal,
        IMAGES * (2 + TEXTS_EACH),
        against,
        differences or ", ".join(f"{name} {value:.4f}" for name, value in theirs.values.items()),
    )
    ratio, ranking = theirs.seconds / seconds, (theirs.seconds - theirs.product) / max(seconds - last.product, 1e-3)
    yield Row(
        "ranking 5,000 images × 25,000 texts, both ways",
        ratio,
        "times",
        "≥ 20 × clip-benchmark's",
        ratio >= 20,
        1,
        against,
        f"{seconds:.2f} s (least of {2 * ROUNDS}) against {theirs.seconds:.1f} s (once), one thread each, both with "
        f"the product of the embeddings ({last.product:.2f} s, {theirs.product:.2f} s); without it {ranking:.0f} ×",
    )
    note = f"peak of the process above what it held before; the peer {theirs.peak:,.0f} MiB"
    yield Row("ranking 5,000 × 25,000, extra memory", peak, "MiB", "≤ 1,024 MiB", peak <= 1024, 1, against, note)


@dataclass(frozen=True)
class Side:
    """What one side measured: its metrics, the time of ranking, that of the product alone, and its extra memory."""

    values: dict[str, float]
    seconds: float
    product: float
    peak: float


def side(name: str, folder: str, peer: Path) -> Side:
    """Measure one side in a process of its own, on one thread."""
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    paths = os.pathsep.join([str(peer), os.environ.get("PYTHONPATH", "")]) if name == "theirs" else ""
    environment = os.environ | one | ({"PYTHONPATH": paths} if paths else {})
    command = [sys.executable, __file__, name, folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the side {name} failed: {done.stderr[-800:]}")
    return Side(**json.loads(done.stdout.splitlines()[-1]))


def install_peer() -> Path:
    """The folder that clip-benchmark lies in, installed without its requirements when it does not."""
    folder = PEERS / "clip-benchmark"
    if not (folder / "clip_benchmark").is_dir():
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--target", str(folder), CLIP_BENCHMARK], check=True)
    return folder


def embeddings(folder: Path) -> None:
    """Images, five noisy texts of each, and classes with noisy images, all of length 1."""
    rng = np.random.default_rng(6)

    def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        lengths: NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / lengths

    images = unit(rng.standard_normal((IMAGES, WIDTH), dtype=np.float32))
    own = np.repeat(np.arange(IMAGES), TEXTS_EACH)
    noise = rng.standard_normal((len(own), WIDTH), dtype=np.float32)
    np.save(folder / "images.npy", images)
    np.save(folder / "texts.npy", unit(images[own] + 0.25 * noise))
    classes, target = unit(rng.standard_normal((CLASSES, WIDTH), dtype=np.float32)), np.arange(IMAGES) ** 2 % CLASSES
    np.save(folder / "classes.npy", classes)
    np.save(folder / "target.npy", target)
    np.save(folder / "seen.npy", unit(classes[target] + 0.2 * noise[:IMAGES]))


def ours(folder: Path) -> Side:
    """Our side, on the embeddings of the folder."""
    images, texts, seen, classes, target = (np.load(folder / f"{name}.npy") for name in FILES)
    labels, own = np.arange(IMAGES), np.repeat(np.arange(IMAGES), TEXTS_EACH)
    values: dict[str, float] = {}
    seconds, product, before = math.inf, math.inf, memory("VmRSS")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        of_images = best_ranks(images, texts, labels, own, tolerance=0.0)
        of_texts = best_ranks(texts, images, own, labels, tolerance=0.0)
        for k in RECALLS:
            # The peer's means are of 32 bits.
            values[f"image_retrieval_recall@{k}"] = float(np.float32((of_texts <= k).mean()))
            values[f"text_retrieval_recall@{k}"] = float(np.float32((of_images <= k).mean()))
        seconds = min(seconds, time.perf_counter() - start)
    peak = memory("VmHWM") - before
    turned, step = np.ascontiguousarray(texts.T), 335
    buffer = np.empty((step, len(texts)), dtype=np.float32)
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for first in range(0, IMAGES, step):
            block = images[first : first + step]
            np.matmul(block, turned, out=buffer[: len(block)])
        product = min(product, time.perf_counter() - start)
    logits = seen.astype(np.float64) @ classes.astype(np.float64).T
    rows = {"score": prediction_columns(logits, target)["score"], "class": target.astype(str).astype(object)}
    values["acc1"] = aggregate(rows, Recipe("mean", "score")).value
    values["mean_per_class_recall"] = aggregate(rows, Recipe("mean_of_groups", "score", against="class")).value
    return Side(values, seconds, product, peak)


def theirs(folder: Path) -> Side:
    """The peer's own ``evaluate`` functions, with a model that returns the embeddings of the folder."""
    import torch

    # Installed in bench/.peers, which is on the path of this process only.
    retrieval = importlib.import_module("clip_benchmark.metrics.zeroshot_retrieval")
    classification = importlib.import_module("clip_benchmark.metrics.zeroshot_classification")

    torch.set_num_threads(1)
    images, texts, seen, classes, target = (torch.from_numpy(np.load(folder / f"{name}.npy")) for name in FILES)

    class FixedEmbeddings:
        def encode_image(self, rows: torch.Tensor) -> torch.Tensor:
            return rows

        def encode_text(self, places: torch.Tensor) -> torch.Tensor:
            return texts[places]

    class Loader(list[Any]):
        dataset = SimpleNamespace(classes=list(range(CLASSES)))

    blocks = [slice(start, start + 64) for start in range(0, IMAGES, 64)]
    captions = [list(range(TEXTS_EACH * i, TEXTS_EACH * (i + 1))) for i in range(IMAGES)]
    pairs = Loader((images[block], captions[block]) for block in blocks)
    before, start = memory("VmRSS"), time.perf_counter()
    values = retrieval.evaluate(FixedEmbeddings(), pairs, torch.tensor, "cpu", amp=False, recall_k_list=list(RECALLS))
    seconds, peak = time.perf_counter() - start, memory("VmHWM") - before
    start = time.perf_counter()
    texts @ images.t()
    product = time.perf_counter() - start
    torch.save(classes.t(), folder / "classifier.pt")
    # It reads a number with float() from an array of one element, which NumPy 2.4 refuses; the number is the same.
    vars(classification)["float"] = lambda array: array.item()
    labelled = Loader((seen[block], target[block]) for block in blocks)
    values |= classification.evaluate(
        FixedEmbeddings(), labelled, None, None, None, "cpu", amp=False, load_clfs=[str(folder / "classifier.pt")]
    )
    del values["acc5"]  # an evaluation does not measure it
    return Side({name: float(value) for name, value in values.items()}, seconds, product, peak)


def memory(what: str) -> float:
    """A line of this process's status, in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    return math.nan


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measured = {"ours": ours, "theirs": theirs}[sys.argv[1]](Path(sys.argv[2]))
        print(json.dumps(asdict(measured)))
        sys.exit(0)
    sys.exit(0 if publish("evaluation-statistics", rows()) else 1)
