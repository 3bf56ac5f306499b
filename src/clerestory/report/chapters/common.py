"""Look-ups that several chapters need, and a sentence where there is nothing to show."""

from __future__ import annotations

from clerestory.core.evidence import Evidence, Finding, Measurement
from clerestory.core.rows import Unscored
from clerestory.report import format
from clerestory.report.metric_figures import SPLITS
from clerestory.report.view import NotMeasured


def pick(evidence: Evidence, name: str, *keys: str, **where: str) -> list[Measurement]:
    """The measurements of a metric whose slice has these values and, besides, exactly these keys."""
    wanted = set(where) | set(keys)
    return [
        m
        for m in evidence.measurements
        if m.name == name and set(m.slice) == wanted and all(m.slice[k] == v for k, v in where.items())
    ]


def one(evidence: Evidence, name: str, **where: str) -> Measurement | None:
    """The measurement of exactly this slice."""
    return evidence.find(name, where)


def first_split(evidence: Evidence, *tasks: str) -> str:
    """The split that these tasks were measured on: ``test`` where it is among them."""
    seen = dict.fromkeys(
        m.slice["split"] for m in evidence.measurements if "split" in m.slice and m.slice.get("task") in tasks
    )
    return next((s for s in SPLITS if s in seen), next(iter(seen), ""))


def hundred(m: Measurement, images: bool = False) -> str:
    """``57 of 100 (between 53 and 61)``, of images or of other answers."""
    text = format.value_of_hundred(m) + (" pictures" if images else "")
    interval = format.between(m) or f"no interval: {m.no_interval}"
    return f"{text} ({interval})"


def why_not(
    evidence: Evidence | None, suite: str, ref: str, otherwise: str, unscored: Unscored | None = None
) -> NotMeasured:
    """One sentence on why a suite of an evaluation has no numbers, and the command that would measure them.

    Args:
        evidence: the evaluation, None where there is none.
        suite: the suite's name, such as ``corruption``.
        ref: how the command line names the model.
        otherwise: the sentence where the evaluation says nothing about the suite.
        unscored: the reason of unscored samples that explains missing numbers, too.
    """
    for finding in evidence.findings if evidence else ():
        skipped = finding.details.get("suite") == suite and finding.state in ("not_applicable", "not_run")
        if skipped or (unscored is not None and finding.reason == unscored):
            return NotMeasured(_message(finding))
    return NotMeasured(otherwise, f"clerestory evaluate {ref}")


def _message(finding: Finding) -> str:
    return f"{format.sentence(finding.message)} {format.sentence(finding.fix)}".strip()
