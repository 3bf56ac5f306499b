"""The suites of an evaluation, in the order they run. This list is the only one."""

from collections.abc import Mapping, Sequence

from clerestory.core.errors import not_found
from clerestory.core.rows import TaskName
from clerestory.stages.evaluate.suite import Suite
from clerestory.stages.evaluate.suites import (
    calibration,
    captioning,
    classification,
    corruption,
    cost,
    fairness,
    latency,
    ood,
    retrieval,
    text_perturbation,
    validity,
    vqa,
)
from clerestory.stages.evaluate.tasks.suite import SUITE as OWN_TASKS

SUITES: tuple[Suite, ...] = (
    retrieval.SUITE,
    text_perturbation.SUITE,
    classification.SUITE,
    calibration.SUITE,
    corruption.SUITE,
    ood.SUITE,
    fairness.SUITE,
    captioning.SUITE,
    vqa.SUITE,
    OWN_TASKS,
    latency.SUITE,
    cost.SUITE,
    validity.SUITE,
)


def select_suites(names: tuple[str, ...]) -> tuple[Suite, ...]:
    """The suites of these names in the order they run, all of them for none.

    Raises:
        NotFound: there is no suite of this name.
    """
    known = {suite.name: suite for suite in SUITES}
    for name in names:
        if name not in known:
            raise not_found("suite", name, known)
    return tuple(suite for suite in SUITES if not names or suite.name in names)


def suites_measuring(metric: str, where: Mapping[str, str], tasks: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of the suites that have to run for a measurement; empty if all of them may be needed.

    Args:
        metric: its name.
        where: its slice; it may be a part of it.
        tasks: references of the user's tasks; a task that no suite knows is one of them.
    """
    claims = [
        ((len(each.keys), bool(each.metrics)), suite.name)
        for suite in SUITES
        for each in suite.measures
        if each.include(metric, where)
    ]
    if claims:  # the most exact one: the clean recall is of retrieval, that of a condition is not
        return (max(claims, key=lambda claim: claim[0])[1],)
    known = {task for suite in SUITES for each in suite.measures for task in each.tasks}
    is_own_task = bool(tasks) and where.get("task", "") not in known | {"", TaskName.COST, TaskName.VALIDITY}
    return (OWN_TASKS.name,) if is_own_task else ()
