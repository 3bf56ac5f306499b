"""The parts of an evaluation, in the order they run."""

from clerestory.core.errors import not_found
from clerestory.stages.evaluate.part import Part
from clerestory.stages.evaluate.parts import (
    bias,
    captions,
    classify,
    corrupt,
    cost,
    ood,
    retrieval,
    speed,
    tasks,
    trust,
    vqa,
    words,
)

PARTS: tuple[Part, ...] = (
    retrieval.PART,
    words.PART,
    classify.PART,
    corrupt.PART,
    ood.PART,
    bias.PART,
    captions.PART,
    vqa.PART,
    tasks.PART,
    speed.PART,
    cost.PART,
    trust.PART,
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
