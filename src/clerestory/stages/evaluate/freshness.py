"""Which parts of an evaluation still hold, which are stale and why, and which were never made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.fingerprint import suite_kind, suite_subject
from clerestory.stages.evaluate.suite import EvaluationRequest
from clerestory.stages.evaluate.suites import chosen
from clerestory.store import Store


@dataclass(frozen=True, slots=True)
class SuiteState:
    """One part of the evaluation of a model.

    Attributes:
        name: such as ``corrupt``.
        about: what it examines, in a few plain words.
        state: ``fresh``, ``stale`` or ``missing``.
        changed: what is not the same any more as when it was made: ``data``, ``code``, ``config``, ``environment``.
        made: when it was made, ISO 8601; empty when it never was.
        seconds: what it took then; 0 when it never was made.
        id: of its evidence; empty when there is none.
    """

    name: str
    about: str
    state: Literal["fresh", "stale", "missing"]
    changed: tuple[str, ...] = ()
    made: str = ""
    seconds: float = 0.0
    id: str = ""


def freshness(model: str, data: str, store: Store, config: EvaluateConfig | None = None) -> list[SuiteState]:
    """The state of every part for a model (digest) on data (digest); runs nothing."""
    config = config or EvaluateConfig()
    states = []
    for part in chosen(config.suites):
        today = suite_subject(part, EvaluationRequest(model, data, config, store))
        held = store.find_evidence(suite_kind(part), model=model)
        if not held:
            states.append(SuiteState(part.name, part.about, "missing"))
            continue
        best = min(held, key=lambda each: len(each.subject.differs(today)))
        changed = best.subject.differs(today)
        state: Literal["fresh", "stale"] = "stale" if changed else "fresh"
        states.append(SuiteState(part.name, part.about, state, changed, best.made, best.cost.seconds, best.id))
    return states
