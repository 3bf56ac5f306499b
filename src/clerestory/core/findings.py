"""The registry of finding codes: a permanent code, its severity, its title and its entry in the documentation.

Each owner keeps its codes as constants in one module (``clerestory.data.findings``), lists them in ``CODES`` there and
registers that tuple: a stage in its ``StageSpec``, anything else as an entry point ``findings.<owner>``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from clerestory.core.codec import Fact, Facts
from clerestory.core.errors import ClerestoryError
from clerestory.core.evidence import Finding, Severity, State
from clerestory.core.extensions import find, names
from clerestory.core.stage import import_object, stages
from clerestory.core.text import valid_unicode

PAGE = "docs/reference/findings.md"


@dataclass(frozen=True, slots=True)
class FindingCode:
    """One kind of finding.

    Attributes:
        code: permanent, such as ``CLR-D001``; also the anchor of its entry in ``docs/reference/findings.md``.
        severity: ``info``, ``warning`` or ``error``, unless a finding says otherwise.
        title: a few words, such as ``unreadable image``; the heading of its entry.
        state: ``pass``, ``fail``, ``warn``, ``not_applicable`` or ``not_run``, unless a finding says otherwise.
        fix: what to do about it, unless a finding says otherwise.
    """

    code: str
    severity: Severity
    title: str
    state: State = "warn"
    fix: str = ""

    @property
    def documentation(self) -> str:
        """The page and anchor that explain it: ``docs/reference/findings.md#clr-d001``."""
        return f"{PAGE}#{self.code.lower()}"

    def finding(
        self,
        where: str,
        message: str,
        *,
        fix: str | None = None,
        state: State | None = None,
        severity: Severity | None = None,
        reason: str = "",
        count: int | None = None,
        **details: Fact,
    ) -> Finding:
        """A finding of this kind.

        Args:
            where: the sample, file, slice or setting it is about.
            message: one sentence; no code may parse it.
            fix: in place of the code's.
            state: in place of the code's.
            severity: in place of the code's.
            reason: the cause, as the value of an enum, for code that distinguishes causes.
            count: how many samples, rows or steps it concerns.
            details: further typed facts, by name.
        """
        return Finding(
            code=self.code,
            severity=severity or self.severity,
            state=state or self.state,
            where=valid_unicode(where),
            message=valid_unicode(message),
            fix=valid_unicode(self.fix if fix is None else fix),
            reason=str(reason),
            count=count,
            details=Facts({name: _valid_fact(value) for name, value in details.items()}),
        )


def _valid_fact(value: Fact) -> Fact:
    """A fact may be a name of other people's files."""
    if isinstance(value, tuple):
        return tuple(valid_unicode(item) if isinstance(item, str) else item for item in value)
    return valid_unicode(value) if isinstance(value, str) else value


@cache
def finding_codes() -> dict[str, FindingCode]:
    """Every registered code.

    Raises:
        ClerestoryError: two owners registered the same code.
    """
    by_code: dict[str, FindingCode] = {}
    registered = [find("findings", owner) for owner in names("findings")]
    registered += [import_object(spec.findings) for spec in stages().values() if spec.findings]
    for codes in registered:
        for code in codes:
            if by_code.setdefault(code.code, code) != code:
                raise ClerestoryError(
                    f"the finding code {code.code} is registered twice", "give one of them a new code"
                )
    return dict(sorted(by_code.items()))
