"""The numbers of the life of a model, each from a command anyone can run: ``make bench-life``.

Uses the store of ``make demo`` (``$CLERESTORY_HOME`` or ./.clerestory); whatever is missing there is made now, so the
first run on a machine takes about ten minutes and later ones about two.
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
from clerestory.apps.catalogue import dataset
from clerestory.apps.search import build_index, search
from clerestory.apps.starter import bring_in_starter
from clerestory.cli.output import Output
from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.sample import Dataset
from clerestory.data.cache import cache_folder
from clerestory.data.icons import open_icons
from clerestory.models import Model, open_model
from clerestory.store import Store, open_store
from table import Row, publish

HERE = Path(__file__).parent
CLERESTORY = Path(sys.executable).with_name("clerestory")
SHORT_RUN = "preset = 'nano'\nsteps = 12\ncheckpoint_every = 4\nvalidate_every = 100\n"


def main() -> int:
    """Measure everything and publish it."""
    out = Output()
    store = open_store()
    done = flows.demo(store, out)
    nano, starter = store.resolve(done.trained).digest, bring_in_starter(store)
    data = dataset(store, flows.DEMO_NAME)
    model = open_model(store.model_folder(nano))
    trained = store.find_evidence("train", model=nano)[0]
    evidence = store.find_evidence("evaluate", model=nano, data=data.digest)[0]
    longer = store.find_evidence("evaluate", model=starter, data=data.digest)[0]
    parts: list[tuple[str, Callable[[], Iterator[Row]]]] = [
        ("training", lambda: training(trained)),
        ("recall", lambda: recall("nano", evidence, {"test": 0.52, "test_style": 0.18})),
        ("recall of the starter", lambda: recall("starter", longer, {"test": 0.78, "test_style": 0.68})),
        ("words", lambda: words(model, data, store)),
        ("search", lambda: searching(model, data, store)),
        ("help", help_text),
        ("verify", lambda: verifying(store, done.live)),
        ("resume", resuming),
        ("rendering", rendering),
    ]
    rows: list[Row] = []
    for name, part in parts:
        out.say(f"measuring: {name}")
        rows += part()
    return 0 if publish("life", rows) else 1


def training(trained: Evidence) -> Iterator[Row]:
    """How long the demo's model took to train."""
    cost = trained.cost
    note = f"{cost.cpu_seconds:.0f} s of processor time; {trained.facts.get('steps', '?')} steps"
    yield Row("nano trained from scratch", cost.seconds, "s", "≤ 300 s on 2 cores", cost.seconds <= 300, 1, note=note)


def recall(name: str, evidence: Evidence, bars: dict[str, float]) -> Iterator[Row]:
    """Both directions on unseen concepts and on the unseen art style; the bars are on image → caption."""
    for split, bar in bars.items():
        for task in ("image_to_text", "text_to_image"):
            found = evidence.find("recall@10", {"task": task, "split": split})
            assert found is not None
            bound = bar if task == "image_to_text" else 0.0
            candidates = evidence.facts.get(f"candidates.{task}.{split}", "?")
            yield Row(
                f"{name}: recall@10 {task.replace('_', ' ')}, {split}",
                found.value,
                found.unit,
                f"≥ {bound}" if bound else "reported",
                found.value >= bound,
                found.n,
                note=f"{_interval(found)}; {candidates} candidates",
            )


def _interval(measurement: Measurement) -> str:
    if measurement.interval is None:
        return measurement.no_interval
    return f"95 % interval {measurement.interval.low:.3f} to {measurement.interval.high:.3f}"


def words(model: Model, data: Dataset, store: Store) -> Iterator[Row]:
    """Queries with words that no training caption contains."""
    queries = json.loads((HERE / "words.json").read_text(encoding="utf-8"))
    index = build_index(model, data, store)
    missed = []
    for query in queries:
        hits = search(model, index, query["query"], 10)
        if not any(hit.sample.concept in query["concepts"] for hit in hits):
            missed.append(query["query"])
    right = len(queries) - len(missed)
    yield Row(
        "words never seen in training: right concept in the top 10",
        right,
        f"of {len(queries)}",
        "≥ 12 of 20",
        right >= 12,
        len(queries),
        note="missed: " + (", ".join(missed) or "none"),
    )


def searching(model: Model, data: Dataset, store: Store) -> Iterator[Row]:
    """Time of one query, text embedding included, with a text it has not seen before."""
    index = build_index(model, data, store)
    search(model, index, "warm up", 20)
    taken = []
    for i in range(200):
        begin = time.perf_counter()
        search(model, index, f"a small picture of number {i} with a happy animal", 20)
        taken.append(1000 * (time.perf_counter() - begin))
    middle, high = statistics.median(taken), statistics.quantiles(taken, n=20)[-1]
    note = f"p95 {high:.1f} ms"
    yield Row(f"search over {len(data):,} pictures, p50", middle, "ms", "≤ 30 ms", middle <= 30, len(taken), note=note)


def help_text() -> Iterator[Row]:
    """Processor time of ``clerestory --help``."""
    taken = []
    for _ in range(11):
        before = os.times()
        subprocess.run([CLERESTORY, "--help"], capture_output=True, check=True)
        after = os.times()
        taken.append(after.children_user - before.children_user + after.children_system - before.children_system)
    middle = statistics.median(taken)
    note = f"{min(taken):.2f} to {max(taken):.2f} s; torch is not imported (a test checks it)"
    yield Row("clerestory --help, processor time", middle, "s", "≤ 0.3 s", middle <= 0.3, len(taken), note=note)


def verifying(store: Store, ref: str) -> Iterator[Row]:
    """One byte flipped in every file that a release rests on, one file at a time, in a copy of the store."""
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
        caught = 0
        for file in files:
            whole = file.read_bytes()
            broken = bytearray(whole)
            broken[len(broken) // 2] ^= 1
            file.chmod(0o644)
            file.write_bytes(broken)
            done = subprocess.run(
                [CLERESTORY, "release", "verify", ref, "--home", home, "--json"],
                capture_output=True,
                text=True,
                check=False,
            )
            caught += done.returncode == 1 and file.name[:12] in done.stdout + done.stderr
            file.write_bytes(whole)
    yield Row(
        "release verify after one flipped byte: refused, naming the file",
        caught,
        f"of {len(files)} files",
        "all",
        caught == len(files),
        len(files),
    )


def resuming() -> Iterator[Row]:
    """A short run of nano, killed with SIGKILL after a checkpoint and resumed, against an uninterrupted one."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "short.toml"
        config.write_text(SHORT_RUN, encoding="utf-8")
        straight = _train(Path(folder) / "straight", config)
        broken = Path(folder) / "broken"
        with subprocess.Popen(
            _command(broken, config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while process.poll() is None and _steps(broken) < 6:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
        killed_at = _steps(broken)
        resumed = _train(broken, config)
    same = straight == resumed
    yield Row(
        "weights after kill -9 and resume, against an uninterrupted run",
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


def rendering() -> Iterator[Row]:
    """All icons rendered from the packages, into an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(cache_folder(), folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.parquet*"))
        kept = os.environ.get("CLERESTORY_CACHE")
        os.environ["CLERESTORY_CACHE"] = folder
        try:
            begin = time.perf_counter()
            data = open_icons(Output())
            taken = time.perf_counter() - begin
        finally:
            os.environ.pop("CLERESTORY_CACHE")
            if kept is not None:
                os.environ["CLERESTORY_CACHE"] = kept
    yield Row(
        "rendering the icons, once", taken, "s", "≤ 90 s on 2 cores", taken <= 90, 1, note=f"{len(data):,} pictures"
    )


if __name__ == "__main__":
    sys.exit(main())
