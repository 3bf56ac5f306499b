"""The numbers of the evaluation, each beside its bar and its peer: ``make bench-evaluation``.

Uses the model of ``make demo`` (``$CLERESTORY_HOME`` or ./.clerestory; made now where it is missing) and evaluates it
again in a store of its own. Peers that are only needed for a comparison are installed into ``bench/.peers``.
Takes about fifteen minutes on two cores; ``python bench/evaluation.py self-test load`` measures only these.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import evaluation_corruptions
import evaluation_load
import evaluation_measures
import evaluation_statistics
from clerestory import flows
from clerestory.apps.datasets import load_dataset
from clerestory.cli.output import Output
from clerestory.core.evidence import Measurement
from clerestory.models import open_model
from clerestory.stages.evaluate import EvaluateConfig, evaluate, freshness
from clerestory.stages.evaluate.findings import FAULT_MISSED
from clerestory.stages.evaluate.selftest import FAULTS, SelfTestConfig, self_test
from clerestory.store import open_store
from table import Row, measure


def main(names: list[str]) -> int:
    """Measure everything, or the parts of these names, and publish the rows."""
    out = Output()
    parts: dict[str, Callable[[], Iterable[Row]]] = {
        "statistics": evaluation_statistics.rows,
        "measures": evaluation_measures.rows,
        "corruptions": evaluation_corruptions.rows,
        "load": evaluation_load.rows,
        "whole": lambda: whole(out),
        "self-test": lambda: silent_faults(out),
    }
    return measure("evaluation", parts, names)


def whole(out: Output) -> Iterator[Row]:
    """A full evaluation of the demo's model, then the same again without any change."""
    home = open_store()
    live = home.resolve(flows.demo(home, out).live)
    data = load_dataset(home, flows.DEMO_NAME)
    model = open_model(home.model_folder(live.digest))
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "home") as store:
        started = time.perf_counter()
        evidence = evaluate(model, data, EvaluateConfig(), store, out)
        first = time.perf_counter() - started
        started = time.perf_counter()
        again = evaluate(model, data, EvaluateConfig(), store, out)
        second = time.perf_counter() - started
        assert again.id == evidence.id
        count = len(evidence.measurements)
        seconds = {state.name: state.seconds for state in freshness(model.digest, data.digest, store) if state.id}
    slowest = ", ".join(f"{name} {taken:.0f} s" for name, taken in sorted(seconds.items(), key=lambda p: -p[1])[:4])
    note = f"{count} measurements; {slowest}"
    yield Row("full evaluation of the demo's model", first, "s", "≤ 360 s on 2 cores", first <= 360, 1, note=note)
    yield Row("the same when nothing has changed", second, "s", "≤ 20 s", second <= 20, 1)


def silent_faults(out: Output) -> Iterator[Row]:
    """Eleven faults that raise no error, and a hundred rebuilds without a fault."""
    home = open_store()
    live = home.resolve(flows.demo(home, out).live)
    folder = home.model_folder(live.digest)
    data = load_dataset(home, flows.DEMO_NAME)
    with tempfile.TemporaryDirectory() as scratch, open_store(Path(scratch) / "home") as store:
        evidence = self_test(
            open_model(folder), data, SelfTestConfig(), store, reload=lambda: open_model(folder), progress=out
        )
        missed = [f.where for f in evidence.findings if f.code == FAULT_MISSED.code]
    caught, alarms = (_measured(evidence.find(name, {})) for name in ("faults_caught", "false_alarms"))
    number = round(caught.value * caught.n)
    by_quality = _measured(evidence.find("faults_caught", {"gate": "quality"}))
    alone = round(by_quality.value * by_quality.n)
    note = f"by the paired quality gate alone {alone}; missed: {', '.join(missed) or 'none'}"
    holds = caught.n == len(FAULTS) and number >= 10
    yield Row("silent faults caught", number, "faults", "≥ 10 of 11", holds, caught.n, note=note)
    false = round(alarms.value * alarms.n)
    yield Row("false alarms on rebuilds without a fault", false, "alarms", "0 of 100", false == 0, alarms.n)


def _measured(found: Measurement | None) -> Measurement:
    assert found is not None
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
