"""What a verifier is, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from clerestory.core.errors import ClerestoryError, IntegrityError
from clerestory.core.evidence import Finding
from clerestory.stages.govern.context import GovernContext


class Outcome(StrEnum):
    """What a verifier gives."""

    PASSED = "passed"
    FAILED = "failed"
    STALE = "stale"
    UNTESTED = "untested"


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one verifier in one run.

    Attributes:
        verifier: its name.
        outcome: what it gives.
        message: one or more sentences for people.
        evidence: ids of the evidence it looked at.
        command: what could change the outcome; empty if nothing can or has to.
        suites: of a command that evaluates, the suites, so that several commands become one.
        seconds: how long the command took the last time, or usually takes.
        error: whether the verifier could not run.
    """

    verifier: str
    outcome: Outcome
    message: str
    evidence: tuple[str, ...] = ()
    command: str = ""
    suites: tuple[str, ...] = ()
    seconds: float = 0.0
    error: bool = False


Result = Check | None
Run = Callable[[GovernContext], Check]


@dataclass(frozen=True, slots=True)
class Verifier:
    """One check that answers requirements, run anew each time.

    Attributes:
        name: in the mapping files, such as ``journal``.
        title: the question it answers, in plain words.
        run: looks at the store and returns the result.
        is_measurable: whether Clerestory can measure it at all yet.
    """

    name: str
    title: str
    run: Run
    is_measurable: bool = True


def run_verifier(verifier: Verifier, context: GovernContext) -> Check:
    """Run a verifier; one that raises or returns nothing has not passed.

    Damaged content is a failure of the store, so it is "failed"; any other error leaves the question "untested".
    """
    try:
        result: object = verifier.run(context)
    except IntegrityError as error:
        return Check(verifier.name, Outcome.FAILED, sentence(error.message), command="", error=True)
    except ClerestoryError as error:
        message = f"The check could not run: {error.message}."
        return Check(verifier.name, Outcome.UNTESTED, message, error=True)
    except Exception as error:  # one verifier that fails must not hide the answers of the others
        reason = " ".join(str(error).split()) or type(error).__name__
        message = f"The check could not run: {type(error).__name__}: {reason}."
        return Check(verifier.name, Outcome.UNTESTED, message, error=True)
    if not isinstance(result, Check) or result.verifier != verifier.name:
        return Check(verifier.name, Outcome.UNTESTED, "The check returned no result.", error=True)
    return result


def sentence(text: str) -> str:
    """A text as a sentence: a capital letter first and a full stop last."""
    text = text.strip()
    if text.partition(" ")[0].rstrip(",:").isalpha():  # not icons@1, which is a name
        text = text[:1].upper() + text[1:]
    return f"{text}{'' if text.endswith(('.', '!', '?')) else '.'}" if text else ""


def passed(name: str, message: str, evidence: Sequence[str] = ()) -> Check:
    """A check that passed."""
    return Check(name, Outcome.PASSED, sentence(message), tuple(evidence))


def failed(name: str, message: str, evidence: Sequence[str] = (), command: str = "", seconds: float = 0.0) -> Check:
    """A check that failed."""
    return Check(name, Outcome.FAILED, sentence(message), tuple(evidence), command, seconds=seconds)


def untested(name: str, message: str, command: str = "", seconds: float = 0.0) -> Check:
    """A check of which nothing is known."""
    return Check(name, Outcome.UNTESTED, sentence(message), (), command, seconds=seconds)


def of_findings(name: str, findings: Sequence[Finding], message: str, evidence: Sequence[str] = ()) -> Check:
    """Failed with the first problem of a verification, else passed with ``message``."""
    problems = [finding for finding in findings if finding.state == "fail"]
    if not problems:
        return passed(name, message, evidence)
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return failed(name, f"{first.where}: {first.message}{more}", evidence)
