"""What the evidence of a part, and of the whole, holds for: the digests that its numbers depend on."""

from __future__ import annotations

from collections.abc import Iterable

from clerestory.core.codec import encode
from clerestory.core.digest import digest
from clerestory.core.evidence import Subject
from clerestory.core.provenance import code_digest, environment_digest, imported_files, stage_code
from clerestory.stages.evaluate.suite import EvaluationRequest, Suite

KIND = "evaluate"
ROOM = "stages/evaluate"
# Rooms below, which every part's numbers may depend on.
BELOW = ("core", "data", "models", "stats")
# What it says is in the settings, each part's own; that it has got a setting more changes no number.
SETTINGS = "stages/evaluate/config"
EVERY_PART = ("splits", "lang", "seed", "batch")


def suite_kind(part: Suite) -> str:
    """The kind of a part's evidence: ``evaluate.retrieval``."""
    return f"{KIND}.{part.name}"


def suite_subject(part: Suite, asked: EvaluationRequest) -> Subject:
    """What a part's evidence holds for, today."""
    settings = {name: getattr(asked.config, name) for name in (*EVERY_PART, *part.settings)}
    also = part.also(asked) if part.also else {}
    if also:
        settings["also"] = dict(also)
    return Subject(
        model=asked.model,
        data=asked.data,
        code=suite_code(part),
        config=digest(encode(settings)),
        environment=environment_digest(),
    )


def suite_code(part: Suite) -> str:
    """SHA-256 of the code a part's numbers depend on: the rooms below, and all of this stage that the part imports."""
    behind = imported_files(part.run.__module__, ROOM)
    return code_digest(*BELOW, *(file for file in behind if file != SETTINGS))


def evaluation_subject(parts: Iterable[Suite], asked: EvaluationRequest) -> Subject:
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
