"""The finding codes of the verification of releases (``docs/reference/findings.md``)."""

from __future__ import annotations

from clerestory.core.findings import FindingCode

_REPEAT = "do not trust this release; evaluate the model again and run the gate on it again"

NUMBERS = FindingCode("CLR-R001", "error", "number does not follow from its rows", "fail", _REPEAT)
DECISION = FindingCode("CLR-R002", "error", "decision does not follow from its evidence", "fail", _REPEAT)
STALE = FindingCode("CLR-R003", "info", "stale evidence", "warn")
TEXT_TOWER = FindingCode("CLR-R004", "error", "different text tower", "fail")
CODES = (NUMBERS, DECISION, STALE, TEXT_TOWER)
