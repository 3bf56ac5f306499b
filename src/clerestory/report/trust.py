"""Whether benchmarks can be trusted: labels read from evidence, and looked up for any measurement."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clerestory.core.errors import ClerestoryError
from clerestory.core.evidence import Evidence, Measurement
from clerestory.core.findings import finding_codes
from clerestory.report import format
from clerestory.report.model import EVALUATION, BenchmarkTrust
from clerestory.report.view import TableView, TrustView
from clerestory.report.vocabulary import TASK_TERMS
from clerestory.store import Store

ARTIFACT = "validity"
STATES = {"yes": "yes", "careful": "unsure", "no": "no"}
LABELS = {
    "yes": "This benchmark can be trusted",
    "careful": "Be careful with this benchmark",
    "no": "Do not trust this benchmark",
}
BRIEF = {"yes": "trusted", "careful": "careful", "no": "not trusted"}
NOT_JUDGED = "not checked"
_ORDER = ("yes", "careful", "no")


def read_trust(content: bytes) -> tuple[BenchmarkTrust, ...]:
    """Read the artifact ``validity``; benchmarks not to be trusted come first.

    Raises:
        ValueError, KeyError, TypeError: it is not of this form.
    """
    found = [_trust(one) for one in json.loads(content).values()]
    return tuple(sorted(found, key=lambda t: (-_ORDER.index(t.label), t.task, t.split)))


def _trust(one: Mapping[str, Any]) -> BenchmarkTrust:
    if one["verdict"] not in LABELS:
        raise ValueError(f"{one['verdict']!r} is not a label of a benchmark")
    reasons, passed = (tuple(_sentence(r) for r in one[name]) for name in ("reasons", "passed"))
    return BenchmarkTrust(str(one["task"]), str(one["split"]), one["verdict"], reasons, passed)


def _sentence(reason: Mapping[str, Any]) -> str:
    code = str(reason["code"])
    known = finding_codes().get(code)
    title, message = (known.title if known else code), str(reason["message"])
    return f"{format.capital(title)}: {message.rstrip('.')} ({code})."


def trust_blob(evidence: Evidence, store: Store) -> str:
    """The artifact with the labels for a piece of evidence: its own, else the newest about the same model and data.

    Empty where the validity of these benchmarks was not checked.
    """
    own = evidence.artifacts.get(ARTIFACT, "")
    stage = evidence.kind.split(".", 1)[0]
    if own or stage != EVALUATION:
        return own
    about = {"model": evidence.subject.model, "data": evidence.subject.data}
    if not all(about.values()):
        return ""
    known = (found.artifacts.get(ARTIFACT, "") for found in store.find_evidence(f"{EVALUATION}.validity", **about))
    return next((blob for blob in known if blob), "")


def trust_of(evidence: Evidence, store: Store) -> tuple[BenchmarkTrust, ...]:
    """The labels of the benchmarks that a piece of evidence measures; empty where none can be read."""
    try:
        blob = trust_blob(evidence, store)
        return read_trust(store.blobs.get(blob)) if blob else ()
    except (ClerestoryError, ValueError, KeyError, TypeError):
        return ()  # `release verify` reports a damaged file


def benchmark(m: Measurement) -> tuple[str, str]:
    """The (task, split) a measurement is about; an empty split where it does not name one."""
    if "benchmark" in m.slice:
        task, _, split = m.slice["benchmark"].partition("/")
        return task, split
    return m.slice.get("of", m.slice.get("task", "")), m.slice.get("split", "")


def benchmarks(shown: Iterable[Measurement]) -> tuple[tuple[str, str], ...]:
    """The benchmarks that some measurements are about, each once."""
    return tuple(dict.fromkeys(benchmark(m) for m in shown))


def label_of(trust: Sequence[BenchmarkTrust], task: str, split: str) -> BenchmarkTrust | None:
    """The label of a benchmark; the worst over its splits where none is named; None where nothing is known."""
    found = [t for t in trust if t.task == task and (not split or t.split == split)]
    return max(found, key=lambda t: _ORDER.index(t.label), default=None)


def labels_of(trust: Sequence[BenchmarkTrust], some: Iterable[tuple[str, str]]) -> tuple[BenchmarkTrust, ...]:
    """The labels of some benchmarks, the worst first, each once."""
    found = dict.fromkeys(t for task, split in some if (t := label_of(trust, task, split)) is not None)
    return tuple(sorted(found, key=lambda t: -_ORDER.index(t.label)))


def title(trust: BenchmarkTrust) -> str:
    """``choosing the correct caption of four (multiple choice), on concepts it never saw``."""
    on = f", on {format.slice_value('split', trust.split)}" if trust.split else ""
    return f"{format.slice_value('task', trust.task)}{on}"


def short_title(trust: BenchmarkTrust) -> str:
    """``multiple choice (test)``."""
    task = TASK_TERMS.get(trust.task, trust.task.replace("_", " "))
    return f"{task} ({trust.split})" if trust.split else task


def anchor(trust: BenchmarkTrust) -> str:
    """Where the reasons are on the page."""
    safe = "".join(c if c.isalnum() else "-" for c in f"{trust.task}-{trust.split}".lower())
    return f"trust-{safe}"


def trust_view(trust: BenchmarkTrust | None) -> TrustView | None:
    """A label as the pages show it; None for a benchmark that was not checked."""
    if trust is None:
        return None
    return TrustView(
        STATES[trust.label],
        LABELS[trust.label],
        BRIEF[trust.label],
        title(trust),
        short_title(trust),
        anchor(trust),
        trust.reasons,
        trust.passed,
    )


def trust_views(trust: Sequence[BenchmarkTrust], some: Iterable[tuple[str, str]]) -> tuple[TrustView, ...]:
    """The labels of some benchmarks as the pages show them, the worst first."""
    return tuple(view for each in labels_of(trust, some) if (view := trust_view(each)) is not None)


def with_trust(table: TableView, about: Sequence[Measurement], trust: Sequence[BenchmarkTrust]) -> TableView:
    """A table with a last column: whether each row's benchmark can be trusted. Unchanged where none was checked.

    Args:
        table: one row per measurement of ``about``.
        about: the measurements of the rows, in their order.
        trust: the labels.
    """
    found = [label_of(trust, *benchmark(m)) for m in about]
    if not any(found):
        return table
    words = [BRIEF[one.label] if one else NOT_JUDGED for one in found]
    rows = tuple((*row, said) for row, said in zip(table.rows, words, strict=True))
    return TableView(table.caption, (*table.head, "Benchmark validity"), rows)
