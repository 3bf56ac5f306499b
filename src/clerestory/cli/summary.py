"""The summary of an evaluation: the headline metrics by topic, and the first warnings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from clerestory.core.codec import Facts
from clerestory.core.evidence import Evidence, Finding, Measurement
from clerestory.core.rows import chance_fact
from clerestory.report.format import amount, number, plural, slice_words
from clerestory.report.topics import TOPICS
from clerestory.report.trust import ARTIFACT
from clerestory.stats.metrics import Topic, metric
from clerestory.store import Store

# Keys of a slice that still describe a whole task.
WHOLE_TASK = {"task", "split", "operation", "of"}
ALL_SPLITS: tuple[Topic, ...] = ("robustness",)
OOD_SCORE = "mcm"
TRUST = {"yes": ("✓ yes", "green"), "careful": ("? with care", "yellow"), "no": ("✗ no", "red")}
NOT_MEASURED = "not measured"  # of a cell in a column about chance or trust
MAX_WARNINGS = 6


def benchmark_verdicts(evidence: Evidence, store: Store) -> dict[str, Any]:
    """The verdict on the validity of each benchmark, by ``task/split``; empty if the validity suite was not run."""
    blob = evidence.artifacts.get(ARTIFACT, "")
    verdicts: dict[str, Any] = json.loads(store.blobs.get(blob)) if blob else {}
    return verdicts


def summary(evidence: Evidence, verdicts: Mapping[str, Any]) -> list[str | Text | Table]:
    """The headline metrics with their intervals, the validity of each benchmark, and the first warnings."""
    lines: list[str | Text | Table] = []
    for topic, title in TOPICS.items():
        headlines = headline_metrics(topic, evidence.measurements)
        if headlines:
            lines += [Text(f"\n{title}", "bold"), _table(headlines, verdicts, evidence.facts)]
    doubts = [(name, verdict) for name, verdict in verdicts.items() if verdict["verdict"] != "yes"]
    if verdicts:
        lines.append(Text("\nCan these benchmarks be trusted?", "bold"))
        lines.append(_doubt_table(doubts) if doubts else "yes, no check raised an objection")
    elif evidence.measurements:
        lines.append(
            Text("\nWhether these benchmarks can be trusted was not checked (add validity to --suites)", "dim")
        )
    shown_codes = {reason["code"] for _, verdict in doubts for reason in verdict["reasons"]}
    return [*lines, *warnings([finding for finding in evidence.findings if finding.code not in shown_codes])]


def headline_metrics(topic: Topic, measurements: Sequence[Measurement]) -> list[Measurement]:
    """The headline metrics of a topic, without finer slices; on the first split only, except for robustness."""
    names = dict.fromkeys(m.name for m in measurements if metric(m.name).headline and metric(m.name).topic == topic)
    some = [m for name in names for m in measurements if m.name == name and _is_headline(m, topic)]
    first = next((m.slice["split"] for m in measurements if "split" in m.slice), "")
    on_first = {m.slice.get("task", "") for m in some if m.slice.get("split", first) == first}
    if topic not in ALL_SPLITS:
        # A task from a task file may have another split than the rest.
        some = [m for m in some if m.slice.get("split", first) == first or m.slice.get("task", "") not in on_first]
    return some


def everything(evidence: Evidence) -> Table:
    """Every measurement, one per line."""
    table = Table("metric", "value and 95 % interval", "n", "slice", box=None)
    for measurement in evidence.measurements:
        table.add_row(measurement.name, number(measurement), f"{measurement.n:,}", str(measurement.slice))
    return table


def warnings(findings: Sequence[Finding], limit: int = MAX_WARNINGS) -> list[Text]:
    """The first warnings, equal ones on one line, and the number of further findings."""
    places: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        if finding.severity != "info":
            places.setdefault((finding.code, finding.message), []).append(finding.where)
    lines = []
    for (code, message), where in list(places.items())[:limit]:
        more = f" and {len(where) - 1} more" if len(where) > 1 else ""
        lines.append(Text(f"{code} {where[0]}{more}: {message}", "yellow"))
    rest = len(findings) - len(lines)
    return (
        [Text(""), *lines, Text(f"{plural(rest, 'more finding')} (--all prints everything)", "dim")] if findings else []
    )


def _is_headline(m: Measurement, topic: Topic) -> bool:
    extra = set(m.slice) - WHOLE_TASK
    if topic == "fairness":
        return extra <= {"group", "k"}
    if m.name == "cost_per_1000":
        # The cost of one request does not depend on the task; larger batches are in --all.
        return m.slice.get("batch") == "1"
    if topic == "efficiency":
        return extra <= {"rate"}
    if m.name == "ood_auroc":
        return m.slice.get("score") == OOD_SCORE
    return not extra or (m.name == "effective_robustness" and extra <= {"shift"})


def _table(measurements: Sequence[Measurement], verdicts: Mapping[str, Any], facts: Facts) -> Table:
    """One row for each metric; the columns about chance and trust are there if any row has something to say."""
    columns: dict[str, list[str | Text]] = {
        "": [metric(m.name).title for m in measurements],
        "value and 95 % interval": [brief_number(m) for m in measurements],
        "by chance": [_chance(m, facts) for m in measurements],
        "n": [f"{m.n:,}" for m in measurements],
        "on": [slice_words(m.slice) for m in measurements],
        "trusted?": [_trusted(m, verdicts) for m in measurements],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    table = Table(*shown, box=None, show_header=True)
    for cells in zip(*shown.values(), strict=True):
        table.add_row(*(cell or NOT_MEASURED for cell in cells))
    return table


def _chance(m: Measurement, facts: Facts) -> str:
    """The value that guessing gives; empty where it was not measured."""
    name = chance_fact(m.name, m.slice.get("task", ""), m.slice.get("split", ""))
    return amount(facts.number(name), m.unit) if name in facts else ""


def _trusted(m: Measurement, verdicts: Mapping[str, Any]) -> str | Text:
    verdict = verdicts.get(f"{m.slice.get('task', '')}/{m.slice.get('split', '')}")
    return Text(*TRUST[verdict["verdict"]]) if verdict else ""


def brief_number(m: Measurement) -> str:
    """The value with its interval; the reason for a missing interval is in ``--all``."""
    return number(m) if m.interval else f"{amount(m.value, m.unit)} (no interval)"


def _doubt_table(doubts: Sequence[tuple[str, Any]]) -> Table:
    table = Table(box=None, show_header=False)
    for name, verdict in doubts:
        trusted, style = TRUST[verdict["verdict"]]
        for position, reason in enumerate(verdict["reasons"]):
            first = position == 0
            table.add_row(Text(trusted if first else "", style), name if first else "", reason["message"])
    return table
