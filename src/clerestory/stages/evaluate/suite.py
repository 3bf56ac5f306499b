"""A part of an evaluation: what it needs, what its numbers depend on, and what it finds.

Every part is evidence in its own right, so that a change makes stale only the parts it touches; ``evaluate`` puts the
parts together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clerestory.core.evidence import Finding, Measurement
from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stats.aggregate import Rows
from clerestory.store import Store

if TYPE_CHECKING:
    from clerestory.stages.evaluate.context import EvaluationContext


@dataclass(frozen=True)
class SuiteResult:
    """What a part finds.

    Attributes:
        rows: its per-sample rows, as ``RowBuilder.columns()`` gives them.
        measurements: each follows from the rows by its recipe, where it can.
        findings: what was noticed.
        facts: what a reader needs to know and no measurement says.
        artifacts: further files by name.
    """

    rows: Rows
    measurements: list[Measurement]
    findings: list[Finding] = field(default_factory=list)
    facts: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, bytes] = field(default_factory=dict)


class NotApplicable(Exception):
    """This part says nothing about this model or this data. One sentence why, and what would change that."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What an evaluation is asked about, by digest; enough to tell what a part's evidence would depend on.

    Attributes:
        model, data: digests.
        config: what to measure.
        store: where evidence and answers are kept.
        opened: what has been opened to tell, so that it is opened once.
    """

    model: str
    data: str
    config: EvaluateConfig
    store: Store
    opened: dict[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Suite:
    """One part.

    Attributes:
        name: such as ``corrupt``.
        about: what it examines, in a few plain words for the progress line and the page.
        needs: capabilities of the model, all of them: ``Embedder``, ``Scorer``, ``Describer``, ``Generator``.
        settings: the fields of ``EvaluateConfig`` its numbers depend on besides those that
            every part depends on.
        run: does it. Raises ``NotApplicable`` where there is nothing to measure.
        also: what else its numbers depend on, by name: digests of files that the settings only name, ids of the
            evidence that it reads. None for nothing else.
        uses_splits: whether it works on the captioned splits of the data; False lets it run on data without captions.
    """

    name: str
    about: str
    needs: tuple[str, ...]
    settings: tuple[str, ...]
    run: Callable[[EvaluationContext], SuiteResult]
    also: Callable[[EvaluationRequest], Mapping[str, str]] | None = None
    uses_splits: bool = True
