"""The finding codes of governance (``docs/reference/findings.md``)."""

from __future__ import annotations

from clerestory.core.findings import FindingCode

NOT_MET = FindingCode("CLR-G001", "error", "requirement not met", "fail")
STALE_ANSWER = FindingCode("CLR-G002", "warning", "answer to a requirement is stale", "warn")
UNTESTED = FindingCode("CLR-G003", "info", "requirements that are untested", "not_run")
NEEDS_PERSON = FindingCode(
    "CLR-G004",
    "info",
    "requirements that need a person",
    "not_run",
    "state how each is met: clerestory govern state ITEM --text '...'",
)
CLOCK_IN_THE_PAST = FindingCode(
    "CLR-G005", "warning", "clock before the newest record of the journal", fix="correct the clock of this computer"
)
VERIFIER_ERROR = FindingCode(
    "CLR-G006", "warning", "verifier that could not run", "not_run", "solve the problem that the message names"
)
CODES = (NOT_MET, STALE_ANSWER, UNTESTED, NEEDS_PERSON, CLOCK_IN_THE_PAST, VERIFIER_ERROR)
