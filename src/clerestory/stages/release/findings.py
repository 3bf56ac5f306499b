"""The finding codes of the verification of releases (``docs/reference/findings.md``)."""

from __future__ import annotations

from clerestory.core.findings import FindingCode

_FIX = "do not trust this release; evaluate the model again and run the gate on it again"

NUMBER_MISMATCH = FindingCode("CLR-R001", "error", "measurement not reproducible from its rows", "fail", _FIX)
DECISION_MISMATCH = FindingCode("CLR-R002", "error", "decision not reproducible from its evidence", "fail", _FIX)
STALE = FindingCode("CLR-R003", "info", "stale evidence", "warn")
TEXT_TOWER_MISMATCH = FindingCode("CLR-R004", "error", "different text tower", "fail")
CODES = (NUMBER_MISMATCH, DECISION_MISMATCH, STALE, TEXT_TOWER_MISMATCH)
