"""The tasks that a person brings, each on data of its own."""

from __future__ import annotations

from collections.abc import Mapping

from clerestory.core.errors import ConfigError
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import join_rows
from clerestory.stages.evaluate.suite import EvaluationRequest, NotApplicable, Suite, SuiteResult
from clerestory.stages.evaluate.tasks.effective_robustness import measure_effective_robustness
from clerestory.stages.evaluate.tasks.items import open_task_data
from clerestory.stages.evaluate.tasks.resolve import find_task
from clerestory.stages.evaluate.tasks.run import release_capabilities, run_task
from clerestory.stages.evaluate.tasks.task import Task, check_model
from clerestory.store import Store


def named(names: tuple[str, ...], store: Store) -> list[Task]:
    """The tasks of these files, folders or packs, no two of one name.

    Raises:
        ConfigError: a task cannot be read, or two have the same name.
    """
    tasks = [find_task(name, store) for name in names]
    for task in tasks:
        if sum(other.name == task.name for other in tasks) > 1:
            raise ConfigError(f"two tasks are called {task.name!r}", "give one of them another name")
    return tasks


def run(bench: EvaluationContext) -> SuiteResult:
    """The rows of every task, below one another."""
    tasks = named(bench.config.tasks, bench.store)
    if not tasks:
        raise NotApplicable("no task of your own was named", "add one with --task mine.toml")
    for task in tasks:
        check_model(task, bench.model, release_capabilities(bench))
    found = [run_task(bench, task) for task in tasks]
    found.append(measure_effective_robustness(tasks, found))
    return SuiteResult(
        join_rows(each.rows for each in found if each.rows),
        [measurement for each in found for measurement in each.measurements],
        [finding for each in found for finding in each.findings],
        {name: value for each in found for name, value in each.facts.items()},
    )


def dependencies(request: EvaluationRequest) -> Mapping[str, str]:
    """The digests of the tasks and of their data."""
    known = {}
    for task in named(request.config.tasks, request.store):
        if task.data not in request.data_digests:
            request.data_digests[task.data] = open_task_data(task).digest
        known[task.name] = f"{task.digest}/{request.data_digests[task.data]}"
    return known


SUITE = Suite(
    name="tasks",
    description="tasks from task files",
    capabilities=(),
    settings=("tasks", "min_group_concepts"),
    run=run,
    dependencies=dependencies,
    needs_captions=False,
)
