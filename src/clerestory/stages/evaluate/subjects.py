"""What the evidence of a part, and of the whole, holds for: the digests that its numbers depend on."""

from __future__ import annotations

from collections.abc import Iterable

from clerestory.core.codec import encode
from clerestory.core.digest import digest
from clerestory.core.measure import Subject
from clerestory.core.provenance import code_digest, environment_digest, stage_code
from clerestory.stages.evaluate.part import COMMON, ENGINE, Asked, Part

KIND = "evaluate"
EVERY_PART = ("splits", "lang", "seed", "batch")


def part_kind(part: Part) -> str:
    """The kind of a part's evidence: ``evaluate.retrieval``."""
    return f"{KIND}.{part.name}"


def part_subject(part: Part, asked: Asked) -> Subject:
    """What a part's evidence holds for, today."""
    settings = {name: getattr(asked.config, name) for name in (*EVERY_PART, *part.settings)}
    also = part.also(asked) if part.also else {}
    if also:
        settings["also"] = dict(also)
    return Subject(
        model=asked.model,
        data=asked.data,
        code=code_digest(*COMMON, *ENGINE, *part.code),
        config=digest(encode(settings)),
        environment=environment_digest(),
    )


def whole_subject(parts: Iterable[Part], asked: Asked) -> Subject:
    """What the evidence of all these parts together holds for, today.

    A part that reads the evidence of others changes it by having run, so this is asked again once all parts are made.
    """
    also = {part.name: dict(more) for part in parts if part.also and (more := part.also(asked))}
    return Subject(
        model=asked.model,
        data=asked.data,
        code=stage_code(KIND),
        config=digest(encode({"config": encode(asked.config), "also": also})) if also else digest(asked.config),
        environment=environment_digest(),
    )
