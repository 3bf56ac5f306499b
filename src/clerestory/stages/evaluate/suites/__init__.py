"""The parts of an evaluation, in the order they run."""

from clerestory.core.errors import not_found
from clerestory.stages.evaluate.suite import Suite
from clerestory.stages.evaluate.suites import (
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


def chosen(names: tuple[str, ...]) -> tuple[Suite, ...]:
    """The parts of these names, all of them for none.

    Raises:
        NotFound: there is no such part.
    """
    known = {part.name: part for part in SUITES}
    for name in names:
        if name not in known:
            raise not_found("part of an evaluation", name, known)
    return tuple(part for part in SUITES if not names or part.name in names)
