"""The page of a governance run: requirements by framework, and the checks and statements that answer them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clerestory.core.units import plural
from clerestory.report import format
from clerestory.report.render import fill

# The states in the order of the page: the badge, the word, and what it means for people who are not engineers.
STATES: dict[str, tuple[str, str, str]] = {
    "failed": ("no", "failed", "A check ran now and found a problem."),
    "stale": ("unsure", "stale", "It was answered for something that has changed since, or the statement has expired."),
    "passed": ("yes", "passed", "Every check ran now and passed, or a person has stated it."),
    "untested": ("plain", "untested", "Nobody has measured it, or it cannot be measured here yet."),
    "needs_person": ("plain", "needs a person", "A person has to state it, or sign for the measurements."),
    "not_applicable": ("plain", "not applicable", "A person has said that it does not apply, and why."),
}
KINDS = {"M": "measurements", "P": "measurements, and a person signs", "S": "the statement of a person"}
BASES = {
    "": "",
    "measured": "measured",
    "measured_and_signed": "measured, and signed by a person",
    "stated": "stated by a person, not measured",
}


@dataclass(frozen=True, slots=True)
class StatementView:
    """What a person stated.

    Attributes:
        who, when, until: the author, the day and the last day on which it counts.
        text: the statement, or the reason why the requirement does not apply.
        about: the release that it is about; empty for none.
        record: its number in the journal.
    """

    who: str
    when: str
    until: str
    text: str
    about: str
    record: int


@dataclass(frozen=True, slots=True)
class RequirementView:
    """One requirement with its answer.

    Attributes:
        anchor: unique on the page.
        id, label, text: of the requirement; the text is empty where it is copyrighted or the same as the label.
        kind: ``M``, ``P`` or ``S``.
        state: the answer.
        basis: of a passed one, what it rests on.
        message: why.
        checks: the names of its checks, which are on the page.
        statement: None if nobody has stated anything.
        notes: such as the day from which it applies.
        commands: what could change the answer.
    """

    anchor: str
    id: str
    label: str
    text: str
    kind: str
    state: str
    basis: str
    message: str
    checks: tuple[str, ...] = ()
    statement: StatementView | None = None
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FrameworkView:
    """One framework.

    Attributes:
        anchor: unique on the page.
        name, edition, source, licence: of the catalogue.
        groups: the requirements by part of the framework, in its order.
    """

    anchor: str
    name: str
    edition: str
    source: str
    licence: str
    groups: tuple[tuple[str, tuple[RequirementView, ...]], ...]

    @property
    def requirements(self) -> tuple[RequirementView, ...]:
        """All of them."""
        return tuple(each for _, group in self.groups for each in group)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many requirements are in each state."""
        return {state: sum(each.state == state for each in self.requirements) for state in STATES}


@dataclass(frozen=True, slots=True)
class CheckView:
    """One check.

    Attributes:
        name: its name, which is its anchor with ``check-`` before it.
        title: the question that it answers.
        outcome: ``passed``, ``failed``, ``stale`` or ``untested``.
        message: the answer.
        evidence: short ids of the evidence that it looked at.
        command: what could change the answer.
        used: the requirements that it answers, as anchor and number.
    """

    name: str
    title: str
    outcome: str
    message: str
    evidence: tuple[str, ...] = ()
    command: str = ""
    used: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class GovernPage:
    """Everything that the page shows.

    Attributes:
        release: such as ``icons@3``.
        note: that it is an evidence index.
        frameworks: in the order of the page.
        checks: every check that ran.
        steps: commands with their time and how many requirements wait for them.
        since: what the changes are compared with; empty without an earlier run.
        changes: the requirements whose answer has changed: anchor, number, before, after.
        facts: the release, the evidence, the time.
        command: makes this page.
    """

    release: str
    note: str
    frameworks: tuple[FrameworkView, ...]
    checks: tuple[CheckView, ...]
    steps: tuple[tuple[str, str, str], ...]
    since: str
    changes: tuple[tuple[str, str, str, str], ...]
    facts: tuple[tuple[str, str], ...]
    command: str

    @property
    def urgent(self) -> tuple[RequirementView, ...]:
        """The requirements that failed or are stale, the failed ones first."""
        every = [each for framework in self.frameworks for each in framework.requirements]
        return tuple(each for state in ("failed", "stale") for each in every if each.state == state)

    @property
    def problems(self) -> tuple[tuple[str, str, tuple[RequirementView, ...]], ...]:
        """State, message and requirements: those with the same reason together, the failed ones first."""
        alike: dict[tuple[str, str], list[RequirementView]] = {}
        for each in self.urgent:
            alike.setdefault((each.state, each.message), []).append(each)
        return tuple((state, message, tuple(some)) for (state, message), some in alike.items())

    @property
    def state(self) -> str:
        """The badge of the verdict."""
        states = {each.state for each in self.urgent}
        return "no" if "failed" in states else "unsure" if states else "yes"

    @property
    def verdict(self) -> str:
        """``1 requirement failed, 3 are stale``."""
        failed, stale = (sum(each.state == state for each in self.urgent) for state in ("failed", "stale"))
        parts = [plural(failed, "requirement failed", "requirements failed")] if failed else []
        parts += [f"{plural(stale, 'requirement is', 'requirements are')} stale"] if stale else []
        return ", ".join(parts) or "Nothing failed and nothing is stale"


def render_governance(page: GovernPage) -> str:
    """One HTML document that needs nothing else."""
    return fill(
        "govern.html",
        page=page,
        states=STATES,
        kinds=KINDS,
        bases=BASES,
        check_of={check.name: check for check in page.checks},
        sentence=format.sentence,
    )
