"""The numbers of the model lifecycle, each measured on a command of the product: ``make bench-life``.

Uses the store of ``make demo`` (``$CLERESTORY_HOME`` or ./.clerestory) and runs the demo first where it has not run, so
the first run on a machine takes about six minutes, later ones about two.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from clerestory import flows
from clerestory.apps.datasets import load_dataset
from clerestory.apps.search import build_index, search
from clerestory.apps.starter import add_starter
from clerestory.cli.output import Output
from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.files import cache_folder
from clerestory.core.sample import Dataset
from clerestory.data.icons import open_icons
from clerestory.models import ClerestoryEncoder, open_model
from clerestory.store import Store, open_store
from table import Row, publish

HERE = Path(__file__).parent
CLERESTORY = Path(sys.executable).with_name("clerestory")
SHORT_RUN = "preset = 'nano'\nsteps = 12\ncheckpoint_every = 4\nvalidate_every = 100\n"


def main() -> int:
    """Measure and publish everything."""
    out = Output()
    store = open_store()
    demo = flows.demo(store, out)
    nano, starter = store.resolve(demo.trained).digest, add_starter(store)
    data = load_dataset(store, flows.DEMO_NAME)
    model = open_model(store.model_folder(nano))
    trained = store.find_evidence("train", model=nano)[0]
    evidence = store.find_evidence("evaluate", model=nano, data=data.digest)[0]
    starter_evidence = store.find_evidence("evaluate", model=starter, data=data.digest)[0]
    benches: list[tuple[str, Callable[[], Iterator[Row]]]] = [
        ("training", lambda: training(trained)),
        ("recall", lambda: recall("nano", evidence, {"test": 0.52, "test_style": 0.18})),
        ("recall of the starter", lambda: recall("starter", starter_evidence, {"test": 0.78, "test_style": 0.68})),
        ("unseen words", lambda: unseen_words(model, data, store)),
        ("search", lambda: search_latency(model, data, store)),
        ("help", help_time),
        ("verify", lambda: corruption_detection(store, demo.live)),
        ("resume", resume),
        ("rendering", rendering_time),
    ]
    rows: list[Row] = []
    for name, bench in benches:
        out.write_line(f"measuring: {name}")
        rows += bench()
    return 0 if publish("life", rows) else 1


def training(trained: Evidence) -> Iterator[Row]:
    """The training time of the demo's model."""
    cost = trained.cost
    note = f"{cost.cpu_seconds:.0f} s of processor time; {trained.facts.get('steps', '?')} steps"
    yield Row("nano trained from scratch", cost.seconds, "s", "≤ 150 s on 2 cores", cost.seconds <= 150, 1, note=note)


def recall(name: str, evidence: Evidence, bars: dict[str, float]) -> Iterator[Row]:
    """Both directions on unseen concepts and on the unseen art style; the bars are for image → caption."""
    for split, bar in bars.items():
        for task in ("image_to_text", "text_to_image"):
            measurement = evidence.find("recall@10", {"task": task, "split": split})
            assert measurement is not None
            bound = bar if task == "image_to_text" else 0.0
            candidates = evidence.facts.get(f"candidates.{task}.{split}", "?")
            yield Row(
                f"{name}: recall@10 {task.replace('_', ' ')}, {split}",
                measurement.value,
                measurement.unit,
                f"≥ {bound}" if bound else "reported",
                measurement.value >= bound,
                measurement.n,
                note=f"{_interval(measurement)}; {candidates} candidates",
            )


def _interval(measurement: Measurement) -> str:
    if measurement.interval is None:
        return measurement.no_interval
    return f"95 % interval {measurement.interval.low:.3f} to {measurement.interval.high:.3f}"


def unseen_words(model: ClerestoryEncoder, data: Dataset, store: Store) -> Iterator[Row]:
    """Queries of words that no training caption contains."""
    queries = json.loads((HERE / "words.json").read_text(encoding="utf-8"))
    index = build_index(model, data, store)
    missed = []
    for query in queries:
        hits = search(model, index, query["query"], 10)
        if not any(hit.sample.concept in query["concepts"] for hit in hits):
            missed.append(query["query"])
    num_correct = len(queries) - len(missed)
    yield Row(
        "words unseen in training: correct concept in the top 10",
        num_correct,
        f"of {len(queries)}",
        "≥ 12 of 20",
        num_correct >= 12,
        len(queries),
        note="missed: " + (", ".join(missed) or "none"),
    )


def search_latency(model: ClerestoryEncoder, data: Dataset, store: Store) -> Iterator[Row]:
    """Latency of one query, text embedding included, with a new text each time."""
    index = build_index(model, data, store)
    search(model, index, "warm up", 20)
    times_ms = []
    for i in range(200):
        start = time.perf_counter()
        search(model, index, f"a small image of number {i} with a happy animal", 20)
        times_ms.append(1000 * (time.perf_counter() - start))
    p50, p95 = statistics.median(times_ms), statistics.quantiles(times_ms, n=20)[-1]
    note = f"p95 {p95:.1f} ms"
    yield Row(f"search over {len(data):,} images, p50", p50, "ms", "≤ 30 ms", p50 <= 30, len(times_ms), note=note)


def help_time() -> Iterator[Row]:
    """Processor time of ``clerestory --help``."""
    times_s = []
    for _ in range(11):
        before = os.times()
        subprocess.run([CLERESTORY, "--help"], capture_output=True, check=True)
        after = os.times()
        times_s.append(after.children_user - before.children_user + after.children_system - before.children_system)
    median = statistics.median(times_s)
    note = f"{min(times_s):.2f} to {max(times_s):.2f} s; torch is not imported (a test checks it)"
    yield Row("clerestory --help, processor time", median, "s", "≤ 0.3 s", median <= 0.3, len(times_s), note=note)


def corruption_detection(store: Store, ref: str) -> Iterator[Row]:
    """One flipped byte in each file of a release and its evidence, one file at a time, in a copy of the store."""
    resolved = store.resolve(ref)
    assert resolved.release is not None
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        shutil.copytree(store.home, home, ignore=shutil.ignore_patterns("runs"))
        copy = open_store(home)
        digests = {resolved.release.decision.policy_digest, *resolved.release.evidence}
        for evidence_id in resolved.release.evidence:
            evidence = copy.evidence(evidence_id)
            digests |= {evidence.rows, *evidence.artifacts.values()} - {""}
        files = [copy.blobs.path(d) for d in sorted(digests)]
        files += [p for p in sorted(copy.model_folder(resolved.digest).rglob("*")) if p.is_file()]
        detected = 0
        for file in files:
            content = file.read_bytes()
            damaged = bytearray(content)
            damaged[len(damaged) // 2] ^= 1
            file.chmod(0o644)
            file.write_bytes(damaged)
            done = subprocess.run(
                [CLERESTORY, "release", "verify", ref, "--home", home, "--json"],
                capture_output=True,
                text=True,
                check=False,
            )
            detected += done.returncode == 1 and file.name[:12] in done.stdout + done.stderr
            file.write_bytes(content)
    yield Row(
        "release verify after one flipped byte: fails, naming the file",
        detected,
        f"of {len(files)} files",
        "all",
        detected == len(files),
        len(files),
    )


def resume() -> Iterator[Row]:
    """A short run of nano, killed with SIGKILL after a checkpoint and resumed, compared with an uninterrupted one."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "short.toml"
        config.write_text(SHORT_RUN, encoding="utf-8")
        uninterrupted = _train(Path(folder) / "uninterrupted", config)
        home = Path(folder) / "killed"
        with subprocess.Popen(_command(home, config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and _steps(home) < 6:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
        killed_at = _steps(home)
        resumed = _train(home, config)
    same = uninterrupted == resumed
    yield Row(
        "weights after kill -9 and resume, compared with an uninterrupted run",
        float(same),
        "bit-identical" if same else "different",
        "bit-identical",
        same and killed_at < 12,
        1,
        note=f"killed after step {killed_at} of 12",
    )


def _command(home: Path, config: Path) -> list[str | Path]:
    return [CLERESTORY, "train", "--data", "icons", "--config", config, "--home", home, "--json"]


def _train(home: Path, config: Path) -> str:
    done = subprocess.run(_command(home, config), capture_output=True, text=True, check=True)
    return str(json.loads(done.stdout)["model"])


def _steps(home: Path) -> int:
    logs = list(home.glob("runs/*/log.jsonl"))
    return len(logs[0].read_text(encoding="utf-8").splitlines()) if logs else 0


def rendering_time() -> Iterator[Row]:
    """Rendering all icons of the packages into an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(cache_folder(), folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.parquet*"))
        previous = os.environ.get("CLERESTORY_CACHE")
        os.environ["CLERESTORY_CACHE"] = folder
        try:
            start = time.perf_counter()
            data = open_icons(Output())
            seconds = time.perf_counter() - start
        finally:
            os.environ.pop("CLERESTORY_CACHE")
            if previous is not None:
                os.environ["CLERESTORY_CACHE"] = previous
    yield Row(
        "rendering the icons, once", seconds, "s", "≤ 90 s on 2 cores", seconds <= 90, 1, note=f"{len(data):,} images"
    )


if __name__ == "__main__":
    sys.exit(main())
