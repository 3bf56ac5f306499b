"""The answer to one requirement: what its verifiers and the statements of people give together.

A requirement is never passed without its verifiers having run: ``combine`` sees only what they returned in this run,
and no answer at all is "untested".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from clerestory.stages.govern.catalogue import Item
from clerestory.stages.govern.check import Check, Outcome
from clerestory.stages.govern.statements import Standing, Statement


class ItemState(StrEnum):
    """The answer to a requirement."""

    PASSED = "passed"
    FAILED = "failed"
    STALE = "stale"
    UNTESTED = "untested"
    NEEDS_PERSON = "needs_person"
    NOT_APPLICABLE = "not_applicable"


STATE_TEXTS = {
    ItemState.FAILED: "failed",
    ItemState.STALE: "stale",
    ItemState.PASSED: "passed",
    ItemState.UNTESTED: "untested",
    ItemState.NEEDS_PERSON: "needs a person",
    ItemState.NOT_APPLICABLE: "not applicable",
}
Basis = Literal["", "measured", "measured_and_signed", "stated"]
# Of several outcomes the first one here decides.
_WORST = (Outcome.FAILED, Outcome.STALE, Outcome.UNTESTED, Outcome.PASSED)
_STATE_OF = {
    Outcome.FAILED: ItemState.FAILED,
    Outcome.STALE: ItemState.STALE,
    Outcome.UNTESTED: ItemState.UNTESTED,
    Outcome.PASSED: ItemState.PASSED,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The state of one requirement.

    Attributes:
        catalogue, item: their ids.
        state: the answer.
        basis: of a passed one, what it rests on.
        message: why, in one or more sentences.
        checks: the names of its verifiers, those that decided first.
        statement: of the person, if there is one that counts or has expired.
        commands: what could change the answer.
    """

    catalogue: str
    item: str
    state: ItemState
    basis: Basis
    message: str
    checks: tuple[str, ...] = ()
    statement: Statement | None = None
    commands: tuple[str, ...] = ()


def combine(catalogue: str, item: Item, checks: Sequence[Check], standing: Standing | None) -> Answer:
    """The answer to an item.

    Args:
        catalogue: the id of its catalogue.
        item: the requirement.
        checks: what its verifiers returned in this run.
        standing: the newest statement about it and whether it counts; None for none.
    """
    statement = standing.statement if standing else None
    if standing and statement and statement.not_applicable:
        state = ItemState.NOT_APPLICABLE if standing.counts else standing.state_otherwise
        return Answer(catalogue, item.id, ItemState(state), "", standing.message, statement=statement)
    if item.kind == "S":
        return _stated(catalogue, item, standing)
    measured = _measured(catalogue, item, checks)
    if item.kind == "M" or measured.state in (ItemState.FAILED, ItemState.STALE):
        return measured
    return _signed(measured, item, standing)


def _measured(catalogue: str, item: Item, checks: Sequence[Check]) -> Answer:
    """The answer of the verifiers alone: the worst outcome decides, and no outcome is "untested"."""
    ran = {check.verifier: check for check in checks if check.verifier in item.verifiers}
    missing = [name for name in item.verifiers if name not in ran]
    if missing or not ran:
        names = ", ".join(missing) or "none is assigned"
        return Answer(
            catalogue, item.id, ItemState.UNTESTED, "", f"Verifiers that did not run: {names}.", item.verifiers
        )
    ordered = sorted(ran.values(), key=lambda check: _WORST.index(check.outcome))
    outcome = ordered[0].outcome
    deciding = [check for check in ordered if check.outcome is outcome]
    state = _STATE_OF[outcome]
    return Answer(
        catalogue,
        item.id,
        state,
        "measured" if state is ItemState.PASSED else "",
        " ".join(dict.fromkeys(check.message for check in deciding)),
        tuple(check.verifier for check in ordered),
        commands=tuple(dict.fromkeys(check.command for check in deciding if check.command)),
    )


def _stated(catalogue: str, item: Item, standing: Standing | None) -> Answer:
    if standing is None:
        message = "A person has to state how this is met; nobody has."
        return Answer(catalogue, item.id, ItemState.NEEDS_PERSON, "", message)
    if standing.counts:
        return Answer(catalogue, item.id, ItemState.PASSED, "stated", standing.message, statement=standing.statement)
    return Answer(
        catalogue, item.id, ItemState(standing.state_otherwise), "", standing.message, statement=standing.statement
    )


def _signed(measured: Answer, item: Item, standing: Standing | None) -> Answer:
    """Of kind P: the measurements, and the person who signs for them."""
    if standing is None:
        if measured.state is ItemState.UNTESTED:
            return measured
        message = f"{measured.message} A person has to sign for it; nobody has."
        return Answer(
            measured.catalogue, item.id, ItemState.NEEDS_PERSON, "", message, measured.checks, None, measured.commands
        )
    statement, message = standing.statement, f"{measured.message} {standing.message}"
    state = measured.state if standing.counts else ItemState(standing.state_otherwise)
    basis: Basis = "measured_and_signed" if state is ItemState.PASSED else ""
    return Answer(measured.catalogue, item.id, state, basis, message, measured.checks, statement, measured.commands)
