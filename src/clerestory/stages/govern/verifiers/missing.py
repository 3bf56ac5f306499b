"""What Clerestory cannot measure yet, so that nobody takes silence for an answer."""

from __future__ import annotations

from functools import partial

from clerestory.stages.govern.check import Check, Verifier, untested
from clerestory.stages.govern.context import GovernContext


def cannot_measure(context: GovernContext, name: str, what: str) -> Check:
    """Always untested, with the sentence that says so."""
    return untested(name, f"Clerestory cannot measure {what} yet")


def _missing(name: str, title: str, what: str) -> Verifier:
    return Verifier(name, title, partial(cannot_measure, name=name, what=what), is_measurable=False)


VERIFIERS = (
    _missing("monitoring", "Is it watched in use?", "how the model behaves in use"),
    _missing("drift", "Is it noticed when the input changes (drift)?", "drift of the input"),
    _missing("incidents", "Are incidents recorded and followed up?", "incidents"),
    _missing("feedback", "Is feedback of people recorded?", "feedback of users"),
    _missing("security", "Was it attacked on purpose (security tests)?", "security: attacks, poisoning, membership"),
    _missing("explanation", "Is it explained why it answers as it does?", "explanations of single answers"),
    _missing("not_measurable", "Is there a measurement for it?", "this"),
)
