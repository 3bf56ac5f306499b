"""The subject of a suite's evidence, and of the whole evaluation's: the digests that the numbers depend on."""

from __future__ import annotations

from collections.abc import Iterable

from clerestory.core.codec import encode
from clerestory.core.digest import digest
from clerestory.core.evidence import Evidence, Subject
from clerestory.core.provenance import code_digest, environment_digest, imported_files, stage_code
from clerestory.stages.evaluate.context import EvaluationRequest
from clerestory.stages.evaluate.suite import Suite

KIND = "evaluate"
STAGE_FOLDER = "stages/evaluate"
# Layers that every suite's numbers may depend on.
LOWER_LAYERS = ("core", "data", "models", "stats")
# The settings are digested by value, for each suite its own; a new setting changes no number.
SETTINGS_FILE = f"{STAGE_FOLDER}/config"
COMMON_SETTINGS = ("splits", "language", "seed", "batch_size")


def suite_kind(suite: Suite | str) -> str:
    """The kind of a suite's evidence: ``evaluate.retrieval``."""
    return f"{KIND}.{suite if isinstance(suite, str) else suite.name}"


def suite_subject(suite: Suite, request: EvaluationRequest) -> Subject:
    """The subject of a suite's evidence with today's code."""
    settings = {name: getattr(request.config, name) for name in (*COMMON_SETTINGS, *suite.settings)}
    dependencies = suite.dependencies(request) if suite.dependencies else {}
    if dependencies:
        settings["dependencies"] = dict(dependencies)
    return Subject(
        model=request.model,
        data=request.data,
        code=suite_code(suite),
        config=digest(encode(settings)),
        environment=environment_digest(),
    )


def suite_code(suite: Suite) -> str:
    """SHA-256 of the code that a suite's numbers depend on: the lower layers, and what it imports of this stage."""
    imported = imported_files(suite.run.__module__, STAGE_FOLDER)
    return code_digest(*LOWER_LAYERS, *(file for file in imported if file != SETTINGS_FILE))


def suite_evidence(suite: Suite, request: EvaluationRequest) -> list[Evidence]:
    """The stored evidence of a suite for exactly this request, the newest first."""
    subject = suite_subject(suite, request)
    return request.store.find_evidence(
        suite_kind(suite), subject.model, subject.data, subject.code, subject.config, subject.environment
    )


def evaluation_subject(suites: Iterable[Suite], request: EvaluationRequest) -> Subject:
    """The subject of the combined evidence of some suites with today's code.

    A suite that reads the evidence of others depends on what they measured, so call this again once all have run.
    """
    dependencies = {
        suite.name: dict(names) for suite in suites if suite.dependencies and (names := suite.dependencies(request))
    }
    config: object = request.config
    if dependencies:
        config = {"config": encode(request.config), "dependencies": dependencies}
    return Subject(
        model=request.model,
        data=request.data,
        code=stage_code(KIND),
        config=digest(encode(config)),
        environment=environment_digest(),
    )
