"""Effective robustness: accuracy on a shifted benchmark beyond the accuracy that ImageNet predicts.

Predicted from the accuracies of public models on both (Taori et al. 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

from clerestory.core.codec import Fact, Tags
from clerestory.core.errors import InputError
from clerestory.core.evidence import Finding, Measurement
from clerestory.stages.evaluate.findings import NO_EFFECTIVE_ROBUSTNESS
from clerestory.stages.evaluate.suite import SuiteResult
from clerestory.stages.evaluate.tasks.task import IMAGENET, Task
from clerestory.stats.robustness import effective_robustness, source


def measure_effective_robustness(tasks: Sequence[Task], results: Sequence[SuiteResult]) -> SuiteResult:
    """The effective robustness of every task that is a shifted benchmark, if ImageNet itself is a task as well.

    The setting ``benchmark`` names the public benchmark of a task. A finding explains a missing measurement: the
    accuracies of public models do not lie on a line, or the model's accuracy is outside their range.
    """
    accuracies = {
        task.benchmark: (task, accuracy)
        for task, result in zip(tasks, results, strict=True)
        if task.benchmark and (accuracy := _accuracy(task, result)) is not None
    }
    shifted = {name: pair for name, pair in accuracies.items() if name != IMAGENET}
    if IMAGENET not in accuracies or not shifted:
        return SuiteResult({}, [], [_without_imagenet(name) for name in shifted])
    base = accuracies[IMAGENET][1]
    measurements, findings = [], []
    for name, (task, accuracy) in shifted.items():
        try:
            excess = effective_robustness(base.value, accuracy.value, name, base.n, accuracy.n)
        except InputError as error:
            findings.append(
                NO_EFFECTIVE_ROBUSTNESS.finding(
                    f"task {task.name}", error.message, fix=error.fix, state="not_run", benchmark=name
                )
            )
            continue
        slice_ = Tags(task=task.name, shift=name)
        measurements.append(
            Measurement("effective_robustness", excess.value, "share", accuracy.n, excess.interval, slice=slice_)
        )
    facts: dict[str, Fact] = {"effective_robustness.public_models": source().get("name", "openclip")}
    return SuiteResult({}, measurements, findings, facts if measurements else {})


def _accuracy(task: Task, result: SuiteResult) -> Measurement | None:
    return next((m for m in result.measurements if m.name == "accuracy" and _is_overall(m, task)), None)


def _is_overall(measured: Measurement, task: Task) -> bool:
    return measured.slice.get("task") == task.name and set(measured.slice) <= {"task", "split"}


def _without_imagenet(name: str) -> Finding:
    message = f"{name} is a shift of ImageNet, and its effective robustness needs a task with benchmark = 'imagenet'"
    fix = "add that task as well: --task imagenet.toml"
    return NO_EFFECTIVE_ROBUSTNESS.finding(f"benchmark {name}", message, fix=fix, state="not_run", benchmark=name)
