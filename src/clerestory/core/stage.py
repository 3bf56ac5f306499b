"""How a stage registers itself: one small ``StageSpec`` that the other layers read.

A stage is a folder of ``clerestory.stages`` (or any installed package) with a ``spec.py``, registered in
``pyproject.toml``::

    [project.entry-points."clerestory"]
    "stage.evaluate" = "clerestory.stages.evaluate.spec:SPEC"

No stage is named in ``core``, so adding one does not change code that existing evidence depends on. A spec imports
nothing heavy: its functions are given by import path and imported when they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from clerestory.core.codec import Tags
from clerestory.core.errors import ClerestoryError, not_found
from clerestory.core.extensions import find, names
from clerestory.core.once import computed_once


@dataclass(frozen=True, slots=True)
class StageSpec:
    """What the rest of Clerestory needs to know about a stage. Import paths are written ``module:attribute``.

    Attributes:
        kind: of the evidence it produces, such as ``evaluate``; a suite's evidence is ``evaluate.retrieval``.
        label: its name for people, such as ``evaluation``.
        verb: its command, ``clerestory <verb>``; empty when it has none.
        verb_past: what happened to a model that went through it, such as ``evaluated``.
        help: one line for ``clerestory --help``.
        order: its position in that list, and of its chapters in a report; lowest first.
        code_layers: the folders and files (without ``.py``) of the package that its numbers depend on.
        code_excluded: folders and files below these that they do not depend on.
        gate_kinds: the kinds of evidence of this stage that a policy may use.
        command: the command that produces its evidence, with the placeholders ``{model}`` (a reference), ``{data}``
            (options that name the data, each with a space before it) and, of a comparison, ``{reference}`` (the other
            model).
        suites_measuring: import path of ``(metric, where, tasks) -> names of suites``: those that its command has to
            run for a measurement, with ``--suites``; empty if the command always runs as a whole.
        presets: values of the option ``--preset`` of a command that makes models, smallest model first.
        run: the function of the verb, ``(model, data, config, store, progress) -> Evidence``; for stages with the
            generic command.
        config: the configuration class of ``run``.
        exports: names reachable as ``clerestory.<name>``, with their import paths.
        chapters: import paths of its report chapters.
        findings: import path of the tuple of its ``FindingCode``; empty when it has none.
    """

    kind: str
    label: str
    verb: str = ""
    verb_past: str = ""
    help: str = ""
    order: int = 100
    code_layers: tuple[str, ...] = ()
    code_excluded: tuple[str, ...] = ()
    gate_kinds: tuple[str, ...] = ()
    command: str = ""
    suites_measuring: str = ""
    presets: tuple[str, ...] = ()
    run: str = ""
    config: str = ""
    exports: Mapping[str, str] = field(default_factory=Tags)
    chapters: tuple[str, ...] = ()
    findings: str = ""


@computed_once
def stages() -> dict[str, StageSpec]:
    """Every registered stage by the kind of its evidence, in their order.

    Raises:
        ClerestoryError: a registered spec cannot be imported, is not a ``StageSpec``, or has another kind than its
            entry point.
    """
    specs = []
    for kind in names("stage"):
        spec = find("stage", kind)
        if not isinstance(spec, StageSpec) or spec.kind != kind:
            raise ClerestoryError(
                f"the entry point stage.{kind} does not name the StageSpec of that kind",
                "correct it in the pyproject.toml of the package that registers it",
            )
        specs.append(spec)
    return {spec.kind: spec for spec in sorted(specs, key=lambda spec: (spec.order, spec.kind))}


def stage(kind: str) -> StageSpec:
    """The stage whose evidence has this kind; the suites of a stage (``evaluate.retrieval``) are the stage's.

    Raises:
        NotFound: no stage of this kind is registered; names the closest.
    """
    known = stages()
    base = kind.split(".", 1)[0]
    if base not in known:
        raise not_found("stage", base, known)
    return known[base]


def import_object(path: str) -> Any:
    """The object that an import path ``module:attribute`` names; the module itself without ``:attribute``."""
    module, _, attribute = path.partition(":")
    loaded = import_module(module)
    return getattr(loaded, attribute) if attribute else loaded
