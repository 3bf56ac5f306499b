"""A suite of an evaluation: the capabilities it needs, what its numbers depend on, and its result.

Every suite is evidence of its own, so that a change makes stale only the suites it concerns; ``evaluate`` combines
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from clerestory.core.codec import Fact
from clerestory.core.evidence import Finding, Measurement
from clerestory.models.protocols import Capability
from clerestory.stages.evaluate.context import EvaluationContext, EvaluationRequest
from clerestory.stats.aggregate import Rows


@dataclass(frozen=True)
class SuiteResult:
    """The result of a suite.

    Attributes:
        rows: its per-sample rows, as ``RowBuilder.columns()`` gives them.
        measurements: each follows from the rows by its recipe, where it can.
        findings: warnings and notes about the model or the data.
        facts: what a reader needs to know and no measurement says (``docs/reference/evaluation-facts.md``).
        artifacts: further files by name.
    """

    rows: Rows
    measurements: list[Measurement]
    findings: list[Finding] = field(default_factory=list)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    artifacts: Mapping[str, bytes] = field(default_factory=dict)


class NotApplicable(Exception):
    """A suite cannot measure anything with this model, data or configuration.

    Attributes:
        message: one sentence that says why.
        fix: what would change that.
    """

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix


@dataclass(frozen=True, slots=True)
class MeasuredSlices:
    """Which measurements a suite makes, so that the gate can name the suites that would decide a rule.

    Attributes:
        tasks: of their slices.
        metrics: their names; every metric where no other suite claims it if empty.
        keys: what the slices name besides the task, such as the ``condition``; they may name more.
    """

    tasks: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    def include(self, metric: str, where: Mapping[str, str]) -> bool:
        """Whether a measurement of this metric and slice may be one of them."""
        return (
            where.get("task") in self.tasks
            and (not self.metrics or metric in self.metrics)
            and all(key in where for key in self.keys)
        )


@dataclass(frozen=True)
class Suite:
    """One suite.

    Attributes:
        name: such as ``corruption``; its evidence has the kind ``evaluate.corruption``.
        description: what it evaluates, in a few plain words for progress lines and pages.
        capabilities: those it needs of the model, all of them.
        settings: the fields of ``EvaluateConfig`` that its numbers depend on besides those that every suite depends on.
        run: evaluates the model. Raises ``NotApplicable`` if there is nothing to measure.
        dependencies: what else its numbers depend on, by name: digests of files that the settings only name, ids of
            evidence that it reads. None for nothing else.
        measures: which measurements it makes by itself; none if it reads the results of other suites.
        needs_captions: whether it works on the captioned splits of the data; False lets it run on data without
            captions.
    """

    name: str
    description: str
    capabilities: tuple[Capability, ...]
    settings: tuple[str, ...]
    run: Callable[[EvaluationContext], SuiteResult]
    dependencies: Callable[[EvaluationRequest], Mapping[str, str]] | None = None
    measures: tuple[MeasuredSlices, ...] = ()
    needs_captions: bool = True
