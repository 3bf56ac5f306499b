"""Whether the benchmarks that the other parts measured can be believed: the label "do not trust this benchmark".

Reads the evidence of the other parts, of this model and of every other model on the same data, and the artifact
``trust`` (described in ``docs/reference/tasks.md``) tells the label of each benchmark with its reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clerestory.core.codec import Tags
from clerestory.core.digest import canonical, digest
from clerestory.core.evidence import Evidence, Finding, Measurement, Recipe
from clerestory.core.sample import Dataset, Sample
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.fingerprint import suite_kind, suite_subject
from clerestory.stages.evaluate.shared.measures import matching
from clerestory.stages.evaluate.shared.row_builder import RowBuilder
from clerestory.stages.evaluate.suite import EvaluationRequest, NotApplicable, Suite, SuiteResult
from clerestory.stages.evaluate.suites import classification, retrieval, vqa
from clerestory.stages.evaluate.suites.validity.benchmark_validity import (
    Benchmark,
    ValidityReason,
    clean,
    correctness,
    judge,
    verdict,
)
from clerestory.stages.evaluate.suites.validity.contamination import overlapping
from clerestory.stages.evaluate.tasks import suite
from clerestory.stages.evaluate.tasks.items import open_task_data
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.rows import read_rows
from clerestory.store import Store

READS = (retrieval.SUITE, classification.SUITE, vqa.SUITE, suite.SUITE)
TRUST = "trust"
ABOUT = {
    "CLR-E060": "can be solved without seeing",
    "CLR-E061": "pictures seen in training",
    "CLR-E062": "size",
    "CLR-E063": "repeated questions",
    "CLR-E064": "items that tell no models apart",
    "CLR-E065": "doubtful labels",
    "CLR-E066": "unanswered questions",
}
FIXES = {
    "CLR-E060": "leave out items that are solved blindly, or make their wrong options as likely as the right one",
    "CLR-E061": "move these pictures to one side of the split",
    "CLR-E062": "bring in more items of other things",
    "CLR-E063": "make the options differ, and leave out items that come twice",
    "CLR-E064": "replace items that everybody solves with harder ones",
    "CLR-E065": "look at these items and correct their labels",
    "CLR-E066": "run it again: only the unanswered are asked",
}
ITEM, OVERLAP, APART = "item", "overlapping", "apart"


def run(bench: EvaluationContext) -> SuiteResult:
    """One row per item of each benchmark, and the label of each with its reasons."""
    benchmarks = collect(bench)
    if not benchmarks:
        raise NotApplicable("there is no evidence of other parts to judge", "run retrieval, classify, vqa or tasks too")
    table = bench.table()
    judged: dict[str, list[ValidityReason]] = {}
    for one in benchmarks:
        judged[one.name] = judge(one)
        _add_items(table, one)
    rows = table.columns()
    labels = {one.name: _label(one, judged[one.name]) for one in benchmarks}
    facts = {f"trust.{name}": label["trust"] for name, label in labels.items()}
    return SuiteResult(rows, _measures(rows, benchmarks), _findings(judged), facts, {TRUST: canonical(labels)})


def collect(bench: EvaluationContext) -> list[Benchmark]:
    """The benchmarks that this model has been asked, with the answers of other models on the same data."""
    asked = EvaluationRequest(bench.model.digest, bench.data.digest, bench.config, bench.store)
    found: list[Benchmark] = []
    for part, evidence in _mine(asked).items():
        rows = _rows(evidence, bench.store)
        theirs = [_rows(other, bench.store) for other in _others(part, asked)]
        for task, split in dict.fromkeys(zip(rows["task"].tolist(), rows["split"].tolist(), strict=True)):
            own = _some(rows, task, split)
            if not len(clean(own)):
                continue
            others = [some for other in theirs if len((some := _some(other, task, split))["task"])]
            repeated = int(evidence.facts.get(f"task.{task}.repeated", "0"))
            found.append(Benchmark(task, split, own, others, repeated=repeated))
    _look_for_overlap(bench, found)
    return found


def also(asked: EvaluationRequest) -> Mapping[str, str]:
    """The ids of all evidence that is read."""
    ids = [evidence.id for evidence in _mine(asked).values()]
    ids += [evidence.id for part in READS for evidence in _others(part.name, asked)]
    return {"evidence": digest(sorted(ids))} if ids else {}


def _mine(asked: EvaluationRequest) -> dict[str, Evidence]:
    """Today's evidence of this model by the part's name, where it has been made and has rows."""
    found = {}
    for part in READS:
        subject = suite_subject(part, asked)
        names = ("model", "data", "code", "config", "environment")
        known = asked.store.find_evidence(suite_kind(part), *(getattr(subject, name) for name in names))
        if known and known[0].rows:
            found[part.name] = known[0]
    return found


def _others(part: str, asked: EvaluationRequest) -> list[Evidence]:
    """The newest evidence of every other model on the same data.

    Checkpoints of one training fail alike, so those of this model's own training are no other models.
    """
    kin = _kin(asked.model, asked.store)
    newest: dict[str, Evidence] = {}
    for evidence in asked.store.find_evidence(f"evaluate.{part}", data=asked.data):
        if evidence.subject.model not in kin and evidence.rows:
            newest.setdefault(evidence.subject.model, evidence)
    return list(newest.values())


def _kin(model: str, store: Store) -> set[str]:
    """The model and whatever else its training kept."""
    kept = [
        {value for name, value in evidence.facts.items() if name == "model" or name.endswith("_model")}
        for evidence in store.find_evidence("train")
    ]
    return {model}.union(*(models for models in kept if model in models))


def _rows(evidence: Evidence, store: Store) -> Rows:
    return read_rows(store.blobs.get(evidence.rows))


def _some(rows: Rows, task: str, split: str) -> Rows:
    keep = matching(rows, {"task": task, "split": split})
    return {name: column[keep] for name, column in rows.items()}


def _look_for_overlap(bench: EvaluationContext, benchmarks: Sequence[Benchmark]) -> None:
    """Fill in whose pictures were there to learn from; a task is held against its own data."""
    own = {task.name: task for task in suite.named(bench.config.tasks, bench.store)}
    data: dict[str, Dataset] = {name: open_task_data(task) for name, task in own.items()}
    groups: dict[str, list[Benchmark]] = {}
    for one in benchmarks:
        groups.setdefault(one.task if one.task in data else "", []).append(one)
    for name, some in groups.items():
        whole = data.get(name, bench.data)
        known = {sample.id: sample for sample in whole}
        asked = {str(sample) for one in some for sample in one.rows["sample"][clean(one.rows)].tolist()}
        samples: list[Sample] = [known[sample] for sample in sorted(asked & set(known))]
        overlap = overlapping(bench, whole, samples)
        for one in some:
            one.overlap = overlap
            one.images = {sample.id: sample.image for sample in samples}


def _add_items(table: RowBuilder, one: Benchmark) -> None:
    right = correctness(one.rows)
    for place in clean(one.rows).tolist():
        sample = str(one.rows["sample"][place])
        if sample not in one.images:
            continue
        seen = sample in one.overlap
        table.add(
            (),
            task=TRUST,
            split=one.split,
            operation=ITEM,
            sample=sample,
            concept=str(one.rows["concept"][place]),
            query=one.name,
            answer=OVERLAP if seen else APART,
            image=one.images[sample],
            amount=float(seen),
            score=float(right[place]),
        )


def _measures(rows: Rows, benchmarks: Sequence[Benchmark]) -> list[Measurement]:
    """Contamination of each benchmark, and how much better the model is on pictures that were there to learn from."""
    found = []
    for one in benchmarks:
        where = Tags(task=TRUST, query=one.name)
        keep = matching(rows, where)
        if not keep.any():
            continue
        slice_ = Tags(task=TRUST, benchmark=one.name)
        share = Recipe("mean", "amount", where, "concept")
        found.append(measure(rows, share, "contamination", slice_))
        if 0 < np.nansum(rows["amount"][keep]) < keep.sum():
            gap = Recipe("contrast", "score", where, "concept", against=f"answer:{OVERLAP}:{APART}")
            found.append(measure(rows, gap, "contamination_gain", slice_))
    return found


def _label(one: Benchmark, reasons: Sequence[ValidityReason]) -> dict[str, Any]:
    told = [reason._asdict() | {"about": ABOUT[reason.code]} for reason in reasons]
    return {
        "task": one.task,
        "split": one.split,
        "trust": verdict(reasons),
        "reasons": [each for each in told if each["level"] != "yes"],
        "passed": [each for each in told if each["level"] == "yes"],
    }


def _findings(judged: Mapping[str, Sequence[ValidityReason]]) -> list[Finding]:
    """A warning for each reason not to trust a benchmark, and one finding for all that pass on one account."""
    found, passed = [], dict[str, list[str]]()
    for name, reasons in judged.items():
        for reason in reasons:
            if reason.level == "yes":
                passed.setdefault(reason.code, []).append(name)
            else:
                found.append(
                    Finding(reason.code, "warning", "warn", f"benchmark {name}", reason.words, FIXES[reason.code])
                )
    for code, names in sorted(passed.items()):
        message = f"nothing wrong ({ABOUT[code]}) with {', '.join(names)}"
        found.append(Finding(code, "info", "pass", f"{len(names)} benchmarks", message))
    return found


SUITE = Suite(
    name="trust",
    about="whether these benchmarks can be believed",
    needs=(),
    settings=("tasks",),
    run=run,
    also=also,
    uses_splits=False,
)
