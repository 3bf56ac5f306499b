"""``clerestory evaluate``."""

from __future__ import annotations

from rich.table import Table

from clerestory.apps.catalogue import dataset
from clerestory.apps.loading import load_model
from clerestory.cli.output import PLAIN, Common
from clerestory.cli.since import evaluate_since
from clerestory.core.codec import encode
from clerestory.core.digest import short
from clerestory.report.format import number
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.store import open_store


def evaluate_(model: str = "icons@live", /, *, data: str = "icons", since: str = "", common: Common = PLAIN) -> int:
    """Measure a model, every number with its interval.

    Args:
        model: A release (icons@3, icons@live) or a model's digest.
        data: The name of a data set, or what "data add" takes.
        since: Measure only what is stale since a release (live, icons@3), and say what changed; exit code 1 if worse.
    """
    out = common.out
    store = open_store(common.home)
    loaded, resolved = load_model(store, model)
    pictures, config = dataset(store, data, out), EvaluateConfig()
    if since:
        line = resolved.release.name if resolved.release else ""
        return evaluate_since(store, loaded, pictures, config, since, out, line)
    evidence = evaluate(loaded, pictures, config, store, out)
    table = Table("what", "value and 95 % interval", "n", "on", box=None)
    for measurement in evidence.measurements:
        table.add_row(measurement.name, number(measurement), f"{measurement.n:,}", str(measurement.slice))
    findings = [f"{f.code} {f.where}: {f.message}" for f in evidence.findings]
    out.result({"id": evidence.id, **encode(evidence)}, table, *findings, f"evidence  {evidence.id}")
    out.next(f"clerestory release gate {short(resolved.digest)} --data {data}")
    return 0
