"""The suites of an evaluation, in the order they run. This list is the only one."""

from clerestory.core.errors import not_found
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
from clerestory.stages.evaluate.tasks import suite as tasks

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
    tasks.SUITE,
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
