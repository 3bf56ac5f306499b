"""Validity of the benchmarks that other suites measured: the label "do not trust this benchmark".

Reads the evidence of other suites, of this model and of every other model on the same data. The artifact ``validity``
(see ``docs/reference/tasks.md``) has the verdict on each benchmark with its reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clerestory.core.codec import Fact, Tags
from clerestory.core.digest import canonical, digest
from clerestory.core.evidence import Evidence, Finding, Measurement, Recipe
from clerestory.core.rows import CLUSTER_COLUMN, TaskName
from clerestory.core.sample import Dataset, Sample
from clerestory.stages.evaluate.context import EvaluationContext, EvaluationRequest
from clerestory.stages.evaluate.fingerprint import suite_evidence, suite_kind
from clerestory.stages.evaluate.row_builder import RowBuilder, rows_matching
from clerestory.stages.evaluate.suite import NotApplicable, Suite, SuiteResult
from clerestory.stages.evaluate.suites import classification, retrieval, vqa
from clerestory.stages.evaluate.suites.validity.benchmark_validity import (
    CODES,
    Benchmark,
    ValidityReason,
    assess,
    correctness,
    num_lost,
    scored_rows,
    verdict,
)
from clerestory.stages.evaluate.suites.validity.contamination import contaminated_samples
from clerestory.stages.evaluate.tasks import suite as tasks
from clerestory.stages.evaluate.tasks.items import open_task_data
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.rows import read_rows
from clerestory.store import Store

ASSESSED = (retrieval.SUITE, classification.SUITE, vqa.SUITE, tasks.SUITE)
ARTIFACT = "validity"
CHECKPOINT_FACTS = ("model", "early_model", "late_model")  # of the evidence of a training run
ITEM, IN_TRAIN, NOT_IN_TRAIN = "item", "in_train", "not_in_train"


def run(context: EvaluationContext) -> SuiteResult:
    """One row per item of each benchmark, and the verdict on each with its reasons."""
    benchmarks = collect_benchmarks(context)
    if not benchmarks:
        names = ", ".join(suite.name for suite in ASSESSED)
        raise NotApplicable("no other suite has evidence to assess", f"run at least one of {names} as well")
    builder = context.row_builder()
    reasons: dict[str, list[ValidityReason]] = {}
    for benchmark in benchmarks:
        reasons[benchmark.name] = assess(benchmark)
        _add_items(builder, benchmark)
    rows = builder.columns()
    verdicts = {benchmark.name: _verdict(benchmark, reasons[benchmark.name]) for benchmark in benchmarks}
    facts: dict[str, Fact] = {f"validity.{name}": found["verdict"] for name, found in verdicts.items()}
    artifacts = {ARTIFACT: canonical(verdicts)}
    return SuiteResult(rows, _measurements(rows, benchmarks), _findings(reasons), facts, artifacts)


def collect_benchmarks(context: EvaluationContext) -> list[Benchmark]:
    """The benchmarks that this model was evaluated on, with the rows of other models on the same data."""
    request = context.request
    benchmarks: list[Benchmark] = []
    for name, evidence in _own_evidence(request).items():
        rows = _rows(evidence, context.store)
        others = [_rows(other, context.store) for other in _evidence_of_others(name, request)]
        for task, split in dict.fromkeys(zip(rows["task"].tolist(), rows["split"].tolist(), strict=True)):
            own = _of_benchmark(rows, task, split)
            if not len(scored_rows(own)) and not num_lost(own):
                continue
            theirs = [some for other in others if len((some := _of_benchmark(other, task, split))["task"])]
            duplicates = evidence.facts.integer(f"task.{task}.duplicate_options")
            benchmarks.append(Benchmark(task, split, own, theirs, duplicate_options=duplicates))
    _find_contamination(context, benchmarks)
    return benchmarks


def dependencies(request: EvaluationRequest) -> Mapping[str, str]:
    """The ids of all evidence that is read."""
    ids = [evidence.id for evidence in _own_evidence(request).values()]
    ids += [evidence.id for suite in ASSESSED for evidence in _evidence_of_others(suite.name, request)]
    return {"evidence": digest(sorted(ids))} if ids else {}


def _own_evidence(request: EvaluationRequest) -> dict[str, Evidence]:
    """The up-to-date evidence of this model by the name of the suite, where it has rows."""
    found = {suite.name: suite_evidence(suite, request) for suite in ASSESSED}
    return {name: stored[0] for name, stored in found.items() if stored and stored[0].rows}


def _evidence_of_others(suite: str, request: EvaluationRequest) -> list[Evidence]:
    """The newest evidence of every other model on the same data.

    Checkpoints of one training run fail alike, so those of this model's own run are excluded.
    """
    own_run = _models_of_run(request.model, request.store)
    newest: dict[str, Evidence] = {}
    for evidence in request.store.find_evidence(suite_kind(suite), data=request.data):
        if evidence.subject.model not in own_run and evidence.rows:
            newest.setdefault(evidence.subject.model, evidence)
    return list(newest.values())


def _models_of_run(model: str, store: Store) -> set[str]:
    """The model and the other checkpoints of its training run."""
    runs = [
        {evidence.facts.text(name) for name in CHECKPOINT_FACTS} - {""} for evidence in store.find_evidence("train")
    ]
    return {model}.union(*(models for models in runs if model in models))


def _rows(evidence: Evidence, store: Store) -> Rows:
    return read_rows(store.blobs.get(evidence.rows))


def _of_benchmark(rows: Rows, task: str, split: str) -> Rows:
    keep = rows_matching(rows, {"task": task, "split": split})
    return {name: column[keep] for name, column in rows.items()}


def _find_contamination(context: EvaluationContext, benchmarks: Sequence[Benchmark]) -> None:
    """Fill in the test images that are in the training split; a task is compared with its own data."""
    data: dict[str, Dataset] = {
        task.name: open_task_data(task) for task in tasks.configured_tasks(context.config.tasks, context.store)
    }
    groups: dict[str, list[Benchmark]] = {}
    for benchmark in benchmarks:
        groups.setdefault(benchmark.task if benchmark.task in data else "", []).append(benchmark)
    for name, some in groups.items():
        whole = data.get(name, context.data)
        known = {sample.id: sample for sample in whole}
        evaluated = {str(sample) for one in some for sample in one.rows["sample"][scored_rows(one.rows)].tolist()}
        samples: list[Sample] = [known[sample] for sample in sorted(evaluated & set(known))]
        contaminated = contaminated_samples(context, whole, samples)
        for benchmark in some:
            benchmark.contaminated = contaminated
            benchmark.images = {sample.id: sample.image for sample in samples}


def _add_items(builder: RowBuilder, benchmark: Benchmark) -> None:
    correct = correctness(benchmark.rows)
    for i in scored_rows(benchmark.rows).tolist():
        sample = str(benchmark.rows["sample"][i])
        if sample not in benchmark.images:
            continue
        in_train = sample in benchmark.contaminated
        builder.add(
            (),
            task=TaskName.VALIDITY,
            split=benchmark.split,
            operation=ITEM,
            sample=sample,
            concept=str(benchmark.rows["concept"][i]),
            query=benchmark.name,
            answer=IN_TRAIN if in_train else NOT_IN_TRAIN,
            image=benchmark.images[sample],
            amount=float(in_train),
            score=float(correct[i]),
        )


def _measurements(rows: Rows, benchmarks: Sequence[Benchmark]) -> list[Measurement]:
    """Contamination of each benchmark, and how much better the model is on images of the training split."""
    found = []
    for benchmark in benchmarks:
        where = Tags(task=TaskName.VALIDITY, query=benchmark.name)
        keep = rows_matching(rows, where)
        if not keep.any():
            continue
        slice_ = Tags(task=TaskName.VALIDITY, benchmark=benchmark.name)
        share = Recipe("mean", "amount", where, CLUSTER_COLUMN)
        found.append(measure(rows, share, "contamination", slice_))
        if 0 < np.nansum(rows["amount"][keep]) < keep.sum():
            gain = Recipe("contrast", "score", where, CLUSTER_COLUMN, against=f"answer:{IN_TRAIN}:{NOT_IN_TRAIN}")
            found.append(measure(rows, gain, "contamination_gain", slice_))
    return found


def _verdict(benchmark: Benchmark, reasons: Sequence[ValidityReason]) -> dict[str, Any]:
    described = [{**reason._asdict(), "about": CODES[reason.code].title} for reason in reasons]
    return {
        "task": benchmark.task,
        "split": benchmark.split,
        "verdict": verdict(reasons),
        "reasons": [each for each in described if each["level"] != "yes"],
        "passed": [each for each in described if each["level"] == "yes"],
    }


def _findings(reasons: Mapping[str, Sequence[ValidityReason]]) -> list[Finding]:
    """A warning for each reason not to trust a benchmark, and one finding per code for the benchmarks that pass."""
    found, passed = [], dict[str, list[str]]()
    for name, some in reasons.items():
        for reason in some:
            if reason.level == "yes":
                passed.setdefault(reason.code, []).append(name)
            else:
                code = CODES[reason.code]
                found.append(
                    code.finding(
                        f"benchmark {name}",
                        reason.message,
                        reason=reason.level,
                        value=reason.value,
                        limit=reason.limit,
                        n=reason.n,
                        benchmarks=(name,),
                    )
                )
    for key, names in sorted(passed.items()):
        code, where = CODES[key], f"{len(names)} benchmarks"
        message = f"no problem ({code.title}) found with {', '.join(names)}"
        found.append(
            code.finding(
                where, message, severity="info", state="pass", fix="", count=len(names), benchmarks=tuple(names)
            )
        )
    return found


SUITE = Suite(
    name="validity",
    description="whether these benchmarks can be trusted",
    capabilities=(),
    settings=("tasks",),
    run=run,
    dependencies=dependencies,
    needs_captions=False,
)
