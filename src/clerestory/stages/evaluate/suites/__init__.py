"""The parts of an evaluation, in the order they run."""

from clerestory.core.errors import not_found
from clerestory.stages.evaluate.suite import Part
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

PARTS: tuple[Part, ...] = (
    retrieval.PART,
    text_perturbation.PART,
    classification.PART,
    corruption.PART,
    ood.PART,
    fairness.PART,
    captioning.PART,
    vqa.PART,
    tasks.PART,
    latency.PART,
    cost.PART,
    validity.PART,
)


def chosen(names: tuple[str, ...]) -> tuple[Part, ...]:
    """The parts of these names, all of them for none.

    Raises:
        NotFound: there is no such part.
    """
    known = {part.name: part for part in PARTS}
    for name in names:
        if name not in known:
            raise not_found("part of an evaluation", name, known)
    return tuple(part for part in PARTS if not names or part.name in names)
