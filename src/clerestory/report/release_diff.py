"""The difference between two releases: data, model, evidence, policy, decision, licences."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from clerestory.core.codec import decode, encode
from clerestory.core.comparison import Comparison, ComparisonOutcome, MetricDifference
from clerestory.core.digest import short
from clerestory.core.errors import ClerestoryError
from clerestory.core.evidence import Evidence
from clerestory.core.release import VERDICT_TEXTS, Policy, Release, Rule
from clerestory.core.sample import Dataset
from clerestory.report import format
from clerestory.report.chapters.audit_trail import fact_in_words
from clerestory.report.model import EVALUATION, Component
from clerestory.report.provenance import components_of, training_of
from clerestory.stats.rows import read_rows
from clerestory.store import Store

Change = Literal["same", "changed", "added", "removed"]
WORDS: dict[ComparisonOutcome, str] = {
    "better": "better",
    "worse": "worse",
    "no_difference": "same",
    "inconclusive": "cannot tell",
}
ABSENT = "–"
# Facts of a training that say nothing about the model: how long it took, and names of its other checkpoints.
_NOT_SETTINGS = ("step_seconds", "carried_over_from", "early_model", "late_model", "model", "threads")
_SECTIONS = ("data", "model", "licences", "policy", "decision")


@dataclass(frozen=True, slots=True)
class DiffRow:
    """One thing that two releases have or do not have.

    Attributes:
        section: ``data``, ``model``, ``licences``, ``policy`` or ``decision``.
        name: what it is.
        a, b: its two values, for people; a dash where it is absent.
        change: ``same``, ``changed``, ``added`` (in B only) or ``removed`` (in A only).
        note: such as how many samples were added; empty for none.
    """

    section: str
    name: str
    a: str
    b: str
    change: Change
    note: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseDiff:
    """What changes from release A to release B.

    Attributes:
        a, b: the releases.
        rows: everything but the evidence.
        comparison: of B with A, sample by sample; None where it is not possible.
        metrics: every measurement that both evaluations share, of B compared with A: ``a`` is the value of B.
        why_not: why there is no comparison; empty where there is one.
        command: what would make it possible.
        is_same_evaluation: whether both are the same model, evaluated on the same data.
    """

    a: Release
    b: Release
    rows: tuple[DiffRow, ...]
    comparison: Comparison | None = None
    metrics: tuple[MetricDifference, ...] = ()
    why_not: str = ""
    command: str = ""
    is_same_evaluation: bool = False

    @property
    def outcome(self) -> ComparisonOutcome:
        """Of B: ``better``, ``worse``, ``no_difference`` (also of one model on the same data) or ``inconclusive``."""
        if self.comparison is not None:
            return self.comparison.verdict
        return "no_difference" if self.is_same_evaluation else "inconclusive"

    @property
    def exit_code(self) -> int:
        """0 when nothing is worse, 1 when something is, 3 when the data cannot show it."""
        return {"worse": 1, "inconclusive": 3}.get(self.outcome, 0)

    def section(self, name: str, changed_only: bool = False) -> tuple[DiffRow, ...]:
        """The rows of one section, in order."""
        return tuple(row for row in self.rows if row.section == name and not (changed_only and row.change == "same"))

    @property
    def tally(self) -> dict[ComparisonOutcome, int]:
        """How many of the shared measurements have each outcome."""
        return {name: sum(each.outcome == name for each in self.metrics) for name in WORDS}


def diff_rows(store: Store, a: Release, b: Release, images: Dataset | None = None) -> tuple[DiffRow, ...]:
    """Everything that two releases have or do not have, besides their measurements.

    Args:
        store: holds both.
        a: the earlier release.
        b: the later one.
        images: the data of the evaluation, counted where it is the training data.
    """
    return (
        *_data_rows(store, a, b),
        *_model_rows(store, a, b),
        *_licence_rows(components_of(store, a.model, images), components_of(store, b.model, images)),
        *_policy_rows(_policy(store, a), _policy(store, b), a, b),
        *_decision_rows(a, b),
    )


def evaluation_of(store: Store, release: Release) -> Evidence | None:
    """The evaluation that a release rests on; None where it cannot be read."""
    for each in release.evidence:
        try:
            evidence = store.evidence(each)
        except ClerestoryError:
            continue
        if evidence.kind == EVALUATION and evidence.subject.model == release.model:
            return evidence
    return None


def diff_json(diff: ReleaseDiff) -> dict[str, Any]:
    """The difference for programs."""
    # The comparison is of B with A, so its first value is that of B.
    metrics = [{**encode(m), "a": m.b, "b": m.a, "verdict": WORDS[m.outcome]} for m in diff.metrics]
    return {
        "a": diff.a.ref,
        "b": diff.b.ref,
        "verdict": WORDS[diff.outcome],
        "why_not": diff.why_not,
        "command": diff.command,
        **{name: encode(diff.section(name)) for name in _SECTIONS},
        "metrics": metrics,
        "tally": {WORDS[name]: count for name, count in diff.tally.items()},
        "comparison": encode(diff.comparison),
    }


def diff_csv(diff: ReleaseDiff) -> str:
    """One line for each thing and each shared measurement; the differences are B minus A."""
    out = io.StringIO()
    head = ("section", "name", "slice", "a", "b", "change", "difference", "low", "high", "unit", "p_adjusted", "n")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*head, "note"))
    for row in diff.rows:
        writer.writerow((row.section, row.name, "", row.a, row.b, row.change, "", "", "", "", "", "", row.note))
    for m in diff.metrics:
        numbers = ("" if value is None else value for value in (m.difference, m.low, m.high))
        p = "" if m.p_adjusted is None else m.p_adjusted
        cells = (m.metric, str(m.slice), m.b, m.a, WORDS[m.outcome], *numbers, m.unit, p, m.n, m.message)
        writer.writerow(("evidence", *cells))
    return out.getvalue()


def _row(section: str, name: str, a: str, b: str, note: str = "") -> DiffRow:
    change: Change = "same" if a == b else "added" if not a else "removed" if not b else "changed"
    return DiffRow(section, name, a or ABSENT, b or ABSENT, change, note)


def _pairs(a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for name in dict.fromkeys((*a, *b)):
        yield name, a.get(name, ""), b.get(name, "")


def _data_rows(store: Store, a: Release, b: Release) -> Iterator[DiffRow]:
    named = {row.digest: row for row in store.datasets()}

    def words(digest: str, name: str = "", size: int = 0) -> str:
        if not digest:
            return ""
        known = named.get(digest)
        name, size = (known.name, known.size) if known else (name, size)
        count = f", {format.images(size)}" if size else ""
        return f"{name or 'a dataset'} {short(digest)}{count}"

    one, two = evaluation_of(store, a), evaluation_of(store, b)
    data = [words(each.subject.data) if each else "" for each in (one, two)]
    yield _row("data", "evaluation data", data[0], data[1], _sample_note(store, one, two))
    trained = [training_of(store, each.model) for each in (a, b)]
    texts = []
    for each in trained:
        facts = each.facts if each else None
        size = (facts.integer("images") or facts.integer("train_samples")) if facts else 0
        texts.append(words(each.subject.data, facts.text("data"), size) if each and facts else "")
    yield _row("data", "training data", texts[0], texts[1])


def _sample_note(store: Store, a: Evidence | None, b: Evidence | None) -> str:
    """How many evaluated samples only one of two evaluations has; empty where both have the same data."""
    if a is None or b is None or a.subject.data == b.subject.data or not (a.rows and b.rows):
        return ""
    try:
        one, two = (set(read_rows(store.blobs.get(each.rows))["sample"].tolist()) for each in (a, b))
    except (ClerestoryError, KeyError):
        return ""
    added, removed = format.count(len(two - one)), format.count(len(one - two))
    return f"of the evaluated samples {added} were added and {removed} removed"


def _model_rows(store: Store, a: Release, b: Release) -> Iterator[DiffRow]:
    yield _row("model", "model", short(a.model), short(b.model))
    facts = []
    for release in (a, b):
        evidence = training_of(store, release.model)
        own = evidence.facts if evidence else {}
        facts.append({name: fact_in_words(v) for name, v in own.items() if name not in _NOT_SETTINGS})
        facts[-1] |= dict(release.notes)
    for name, one, two in _pairs(facts[0], facts[1]):
        if not name.startswith(("licence", "data")):
            yield _row("model", name.replace("_", " "), one, two)


def _licence_rows(a: Sequence[Component], b: Sequence[Component]) -> Iterator[DiffRow]:
    def names(parts: Sequence[Component]) -> dict[str, str]:
        found: dict[str, str] = {}
        for part in parts:
            title = f"{part.role} {part.name or short(part.digest) or 'without a name'}"
            found[title] = format.listing([each.licence or "not recorded" for each in part.licences]) or "not recorded"
        return found

    for name, one, two in _pairs(names(a), names(b)):
        yield _row("licences", name, one, two)


def _policy(store: Store, release: Release) -> Policy | None:
    try:
        return decode(Policy, json.loads(store.blobs.get(release.decision.policy_digest)))
    except (ClerestoryError, ValueError):
        return None  # `release verify` says why


def _policy_rows(one: Policy | None, two: Policy | None, a: Release, b: Release) -> Iterator[DiffRow]:
    digests = [short(each.decision.policy_digest) for each in (a, b)]
    yield _row("policy", "policy", f"{a.decision.policy} {digests[0]}", f"{b.decision.policy} {digests[1]}")
    rules = [{rule.name: rule_words(rule) for rule in each.rules} if each else {} for each in (one, two)]
    for name, first, second in _pairs(rules[0], rules[1]):
        yield _row("policy", f"rule: {name}", first, second)
    approvals = [each.approval if each else None for each in (one, two)]
    if any(approvals):
        fields = [{k: str(v) for k, v in encode(each).items()} if each else {} for each in approvals]
        for name, first, second in _pairs(fields[0], fields[1]):
            yield _row("policy", f"approval: {name.replace('_', ' ')}", first, second)


def rule_words(rule: Rule) -> str:
    """A rule in one line: ``recall@10 (split=test) at least 0.25, at the bound of the interval``."""
    where = f" ({rule.where})" if rule.where else ""
    if rule.no_worse_by is not None:
        group = f", for each {rule.each_group}" if rule.each_group else ""
        margin = f"no worse than {rule.compare_with} by {rule.no_worse_by:g}"
        return f"{rule.metric}{where} {margin}, α = {rule.alpha:g}{group}"
    bound = f"at least {rule.at_least:g}" if rule.at_least is not None else f"at most {rule.at_most or 0.0:g}"
    end = ", at the bound of the interval" if rule.criterion == "interval_bound" else ""
    return f"{rule.metric}{where} {bound}{end}"


def _decision_rows(a: Release, b: Release) -> Iterator[DiffRow]:
    yield _row("decision", "verdict", VERDICT_TEXTS[a.decision.verdict], VERDICT_TEXTS[b.decision.verdict])
    outcomes = [{reason.rule: format.outcome(reason.outcome) for reason in each.decision.reasons} for each in (a, b)]
    for name, first, second in _pairs(outcomes[0], outcomes[1]):
        yield _row("decision", name, first, second)
