"""Effective robustness: accuracy on a shifted benchmark beyond what the accuracy on ImageNet lets one expect."""

from __future__ import annotations

from collections.abc import Sequence

from clerestory.core.codec import Tags
from clerestory.core.errors import InputError
from clerestory.core.evidence import Finding, Measurement
from clerestory.stages.evaluate.suite import SuiteResult
from clerestory.stages.evaluate.tasks.task import IMAGENET, Task
from clerestory.stats.robustness import effective_robustness, source


def beyond_expectation(tasks: Sequence[Task], found: Sequence[SuiteResult]) -> SuiteResult:
    """One ``effective_robustness`` for each task that is a shifted benchmark, where ImageNet itself is a task as well.

    Which public benchmark a task is, its setting ``benchmark`` says. Refused with a finding where public models follow
    no line, or where the model lies outside of what they show.
    """
    accuracies = {
        task.benchmark: (task, own)
        for task, each in zip(tasks, found, strict=True)
        if task.benchmark and (own := _accuracy(task, each)) is not None
    }
    shifted = {name: pair for name, pair in accuracies.items() if name != IMAGENET}
    if IMAGENET not in accuracies or not shifted:
        return SuiteResult({}, [], [_alone(name) for name in shifted] if shifted else [])
    base = accuracies[IMAGENET][1]
    measured, findings = [], []
    for name, (task, shift) in shifted.items():
        try:
            told = effective_robustness(base.value, shift.value, name, base.n, shift.n)
        except InputError as error:
            findings.append(Finding("CLR-E052", "info", "not_run", f"task {task.name}", error.message, error.fix))
            continue
        where = Tags(task=task.name, shift=name)
        measured.append(Measurement("effective_robustness", told.value, "share", shift.n, told.interval, slice=where))
    facts = {"effective_robustness": f"beyond the line of the public models in {source().get('name', 'openclip')}"}
    return SuiteResult({}, measured, findings, facts if measured else {})


def _accuracy(task: Task, found: SuiteResult) -> Measurement | None:
    return next((m for m in found.measurements if m.name == "accuracy" and _plain(m, task)), None)


def _plain(measured: Measurement, task: Task) -> bool:
    return measured.slice.get("task") == task.name and set(measured.slice) <= {"task", "split"}


def _alone(name: str) -> Finding:
    message = (
        f"{name} is a shift of ImageNet, and its effective robustness needs a task with benchmark = 'imagenet' too"
    )
    fix = "name that task as well: --task imagenet.toml"
    return Finding("CLR-E052", "info", "not_run", f"benchmark {name}", message, fix)
