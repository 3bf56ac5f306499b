"""The suite of the user's own tasks, each on its own data.

Tasks on ImageNet and its shifts also give the effective robustness: accuracy on a shifted benchmark beyond the
accuracy that ImageNet predicts, by the accuracies of public models on both (Taori et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clerestory.core.codec import Fact, Tags
from clerestory.core.errors import ConfigError, InputError
from clerestory.core.evidence import Finding, Measurement
from clerestory.stages.evaluate.context import EvaluationContext, EvaluationRequest
from clerestory.stages.evaluate.findings import NO_EFFECTIVE_ROBUSTNESS
from clerestory.stages.evaluate.row_builder import join_rows
from clerestory.stages.evaluate.suite import NotApplicable, Suite, SuiteResult
from clerestory.stages.evaluate.tasks.items import open_task_data
from clerestory.stages.evaluate.tasks.packs import find_task
from clerestory.stages.evaluate.tasks.run import release_capabilities, run_task
from clerestory.stages.evaluate.tasks.task import IMAGENET, Task, check_model
from clerestory.stats.robustness import effective_robustness, source
from clerestory.store import Store


def configured_tasks(names: tuple[str, ...], store: Store) -> list[Task]:
    """The tasks of these files, folders or packs.

    Raises:
        ConfigError: a task cannot be read, or two have the same name.
    """
    tasks = [find_task(name, store) for name in names]
    for task in tasks:
        if sum(other.name == task.name for other in tasks) > 1:
            raise ConfigError(f"two tasks are named {task.name!r}", "rename one of them")
    return tasks


def run(context: EvaluationContext) -> SuiteResult:
    """The rows of every task."""
    tasks = configured_tasks(context.config.tasks, context.store)
    if not tasks:
        raise NotApplicable("no task is configured", "add one with --task mine.toml")
    for task in tasks:
        check_model(task, context.model, release_capabilities(context))
    results = [run_task(context, task) for task in tasks]
    results.append(measure_effective_robustness(tasks, results))
    return SuiteResult(
        join_rows(result.rows for result in results if result.rows),
        [measurement for result in results for measurement in result.measurements],
        [finding for result in results for finding in result.findings],
        {name: value for result in results for name, value in result.facts.items()},
    )


def dependencies(request: EvaluationRequest) -> Mapping[str, str]:
    """The digests of the tasks and of their data."""
    digests = {}
    for task in configured_tasks(request.config.tasks, request.store):
        if task.data not in request.data_digests:
            request.data_digests[task.data] = open_task_data(task).digest
        digests[task.name] = f"{task.digest}/{request.data_digests[task.data]}"
    return digests


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


SUITE = Suite(
    name="tasks",
    description="tasks from task files",
    capabilities=(),
    settings=("tasks", "min_group_concepts", "max_reply_tokens", "retrieval_protocol"),
    run=run,
    dependencies=dependencies,
    needs_captions=False,
)
