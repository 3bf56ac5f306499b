"""The label "do not trust this benchmark": read from evidence, and found for any number shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clerestory.core.errors import ClerestoryError
from clerestory.core.evidence import Evidence, Measurement
from clerestory.report import format
from clerestory.report.model import Trust
from clerestory.report.view import TrustView
from clerestory.store import Store

ARTIFACT, EXAMINATION = "trust", "evaluate"
STATES = {"yes": "yes", "careful": "unsure", "no": "no"}
LABELS = {
    "yes": "This benchmark can be trusted",
    "careful": "Be careful with this benchmark",
    "no": "Do not trust this benchmark",
}
_ORDER = ("yes", "careful", "no")


def read_trust(content: bytes) -> tuple[Trust, ...]:
    """Read the artifact ``trust``, the benchmarks to distrust first.

    Raises:
        ValueError, KeyError, TypeError: it is not of this form.
    """
    found = [_trust(one) for one in json.loads(content).values()]
    return tuple(sorted(found, key=lambda t: (-_ORDER.index(t.label), t.task, t.split)))


def _trust(one: Mapping[str, Any]) -> Trust:
    if one["trust"] not in LABELS:
        raise ValueError(f"there is no label {one['trust']!r}")
    reasons, passed = (tuple(_sentence(r) for r in one[name]) for name in ("reasons", "passed"))
    return Trust(str(one["task"]), str(one["split"]), one["trust"], reasons, passed)


def _sentence(reason: Mapping[str, Any]) -> str:
    about, words = (format.sentence(str(reason[name])).rstrip(".") for name in ("about", "words"))
    return f"{about}: {words} ({reason['code']})."


def trust_blob(evidence: Evidence, store: Store) -> str:
    """Where the labels for a piece of evidence are kept: its own, else the newest about the same model and data.

    Empty where nobody has judged these benchmarks.
    """
    own = evidence.artifacts.get(ARTIFACT, "")
    if own or not evidence.kind.startswith(EXAMINATION):
        return own
    about = {"model": evidence.subject.model, "data": evidence.subject.data}
    if not all(about.values()):
        return ""
    known = (found.artifacts.get(ARTIFACT, "") for found in store.find_evidence(f"{EXAMINATION}.{ARTIFACT}", **about))
    return next((blob for blob in known if blob), "")


def trust_of(evidence: Evidence, store: Store) -> tuple[Trust, ...]:
    """The labels of the benchmarks that a piece of evidence measures; none where there are none to be read."""
    try:
        blob = trust_blob(evidence, store)
        return read_trust(store.blobs.get(blob)) if blob else ()
    except (ClerestoryError, ValueError, KeyError, TypeError):
        return ()  # `release verify` names a damaged file


def benchmark(m: Measurement) -> tuple[str, str]:
    """The (task, split) a measurement is about; an empty split where it does not name one."""
    task = m.slice.get("of", m.slice.get("task", ""))
    if task == ARTIFACT:
        task, _, split = m.slice.get("benchmark", "").partition("/")
        return task, split
    return task, m.slice.get("split", "")


def benchmarks(shown: Iterable[Measurement]) -> tuple[tuple[str, str], ...]:
    """The benchmarks that some measurements are about, each once."""
    return tuple(dict.fromkeys(benchmark(m) for m in shown))


def label_of(trust: Sequence[Trust], task: str, split: str) -> Trust | None:
    """The label of a benchmark; the worst over its splits where none is named; None where nothing is known."""
    found = [t for t in trust if t.task == task and (not split or t.split == split)]
    return max(found, key=lambda t: _ORDER.index(t.label), default=None)


def labels(trust: Sequence[Trust], some: Iterable[tuple[str, str]]) -> tuple[Trust, ...]:
    """The labels of some benchmarks, the worst first, each once."""
    found = dict.fromkeys(t for task, split in some if (t := label_of(trust, task, split)) is not None)
    return tuple(sorted(found, key=lambda t: -_ORDER.index(t.label)))


def title(trust: Trust) -> str:
    """``choosing the right caption of four, on things it never saw``."""
    on = f", on {format.slice_value('split', trust.split)}" if trust.split else ""
    return f"{format.slice_value('task', trust.task)}{on}"


def anchor(trust: Trust) -> str:
    """Where the reasons stand on the page."""
    safe = "".join(c if c.isalnum() else "-" for c in f"{trust.task}-{trust.split}".lower())
    return f"trust-{safe}"


def view(trust: Trust) -> TrustView:
    """A label as the page shows it."""
    return TrustView(STATES[trust.label], LABELS[trust.label], title(trust), anchor(trust), trust.reasons, trust.passed)
