"""The commands that would answer more requirements, the cheapest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clerestory.stages.govern.check import Check, Outcome
from clerestory.stages.govern.states import Answer, ItemState

SUITES = " --suites "


@dataclass(frozen=True, slots=True)
class NextStep:
    """One command.

    Attributes:
        command: to run.
        seconds: how long it takes, as far as known.
        items: how many requirements have to wait for it; some may need more than this.
        verifiers: the checks that it repeats.
    """

    command: str
    seconds: float
    items: int
    verifiers: tuple[str, ...]


def next_steps(answers: Sequence[Answer], checks: Mapping[str, Check]) -> tuple[NextStep, ...]:
    """The commands of everything that did not pass: one for all suites, the cheapest first, then the most useful."""
    joined: dict[str, list[Check]] = {}
    for check in checks.values():
        if check.outcome is not Outcome.PASSED and check.command.startswith("clerestory "):
            key = check.command.partition(SUITES)[0] + SUITES if check.suites else check.command
            joined.setdefault(key, []).append(check)
    waiting = [answer for answer in answers if answer.state not in (ItemState.PASSED, ItemState.NOT_APPLICABLE)]
    steps = []
    for key, group in joined.items():
        names = tuple(check.verifier for check in group)
        suites = sorted({suite for check in group for suite in check.suites})
        command = key + ",".join(suites) if suites else key
        seconds = max(check.seconds for check in group) if not suites else _suite_seconds(group)
        items = sum(bool(set(names) & set(answer.checks)) for answer in waiting)
        steps.append(NextStep(command, seconds, items, names))
    return tuple(sorted(steps, key=lambda step: (step.seconds, -step.items, step.command)))


def _suite_seconds(group: Sequence[Check]) -> float:
    """Together the suites take the sum of their times, each suite counted once."""
    return sum({check.suites: check.seconds for check in group}.values())
