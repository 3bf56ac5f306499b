"""The finding codes of licences (``docs/reference/findings.md``)."""

from __future__ import annotations

from clerestory.core.findings import FindingCode

UNKNOWN_LICENCE = FindingCode(
    "CLR-A040",
    "error",
    "unknown licence",
    "fail",
    "record the licence as an SPDX expression, in the column licence of a table, or leave these images out; "
    "--set licences.allow_unknown=true makes it a warning",
)
UNREADABLE_LICENCE = FindingCode(
    "CLR-A041",
    "error",
    "licence expression that cannot be read",
    "fail",
    "write an SPDX expression such as CC-BY-4.0, or MIT AND CC-BY-4.0",
)
REFUSED_LICENCE = FindingCode(
    "CLR-A042",
    "error",
    "licence that the policy refuses",
    "fail",
    "leave these images out, ask the owners for another licence, or have the policy changed by who is responsible",
)
SHARE_ALIKE_SOURCE = FindingCode(
    "CLR-A043",
    "warning",
    "share-alike source",
    fix="share the result under the same licence, or leave these images out",
)
LICENCE_SPELLING = FindingCode(
    "CLR-A044",
    "info",
    "licence in another spelling",
    fix="write the SPDX id in the data, for other programs",
)
DIFFERENT_LICENCES = FindingCode(
    "CLR-A045",
    "warning",
    "copies with different licences",
    fix="ask the sources which licence holds, and correct the others",
)
LICENCE_DUTIES = FindingCode(
    "CLR-A046",
    "info",
    "duties of the licences",
    fix="publish the list of sources and licences with the model, and whatever else the duties ask for",
)

LICENCE_CODES = (
    UNKNOWN_LICENCE,
    UNREADABLE_LICENCE,
    REFUSED_LICENCE,
    SHARE_ALIKE_SOURCE,
    LICENCE_SPELLING,
    DIFFERENT_LICENCES,
    LICENCE_DUTIES,
)
