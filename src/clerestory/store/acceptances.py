"""Findings that a person accepts: who, why and until when; kept as events in the journal.

An acceptance is for one finding code and one subject, such as the name of a dataset. It is never applied to stored
evidence, which stays as it was measured: whoever shows findings asks here which of them are accepted today, so an
acceptance that expires needs no new measurement.

| the acceptance is for | it holds | it lapses |
|---|---|---|
| named samples | for these samples, whatever else changes | when it expires |
| the whole finding | as long as it concerns no more samples than when it was accepted | when it expires or has grown |
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum

from clerestory.core.codec import Tags
from clerestory.core.errors import InputError, NotFound, closest
from clerestory.core.findings import finding_codes
from clerestory.core.release import Event
from clerestory.store.journal import Journal, JournalRecord

ACCEPTED, WITHDRAWN = "finding_accepted", "acceptance_withdrawn"  # kinds of events


class Lapse(StrEnum):
    """Why an acceptance does not hold any more."""

    EXPIRED = "expired"
    GROWN = "grown"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """One finding that a person accepts.

    Attributes:
        code: of the finding, such as ``CLR-A015``.
        subject: what the finding is about, such as the name of a dataset.
        who, why, when: the person, the reason and the time (ISO 8601, UTC).
        expires: the last day on which it holds, ISO 8601.
        count: how many samples the finding concerned then.
        samples: ids of the samples it is for; empty if it is for the whole finding.
        digest: of the subject then, such as that of the dataset.
        record: the number of its journal record; 0 before it is recorded.
    """

    code: str
    subject: str
    who: str
    why: str
    when: str
    expires: str
    count: int = 0
    samples: tuple[str, ...] = ()
    digest: str = ""
    record: int = 0

    def lapse(self, count: int, today: date) -> Lapse | None:
        """Why it does not hold for a finding that concerns ``count`` samples today; None if it does."""
        if date.fromisoformat(self.expires) < today:
            return Lapse.EXPIRED
        return Lapse.GROWN if not self.samples and count > self.count else None


@dataclass(frozen=True, slots=True)
class AcceptanceState:
    """What the acceptances of one finding say today.

    Attributes:
        holding: those that hold.
        lapsed: those that do not, with the reason.
        open: the samples that none of them covers.
        is_accepted: whether nothing is left open.
    """

    holding: tuple[Acceptance, ...] = ()
    lapsed: tuple[tuple[Acceptance, Lapse], ...] = ()
    open: tuple[str, ...] = ()
    is_accepted: bool = field(default=False)


def today() -> date:
    """The day in UTC, by which acceptances expire."""
    return datetime.now(UTC).date()


def expiry_date(text: str) -> str:
    """A day that a person gave, as ISO 8601.

    Raises:
        InputError: it is not a date, or has passed.
    """
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise InputError(f"{text!r} is not a date", "write it as YYYY-MM-DD, such as 2027-06-30") from None
    if day < today():
        raise InputError(f"the date {day} has passed", f"choose a day from {today()} on")
    return day.isoformat()


def check_code(code: str) -> str:
    """A finding code as it is registered, also if it was written in small letters or without ``CLR-``.

    Raises:
        NotFound: no such code exists; carries the closest.
    """
    known = finding_codes()
    written = code.strip().upper()
    for candidate in (written, f"CLR-{written}"):
        if candidate in known:
            return candidate
    raise NotFound(
        f"unknown finding code {code!r}",
        "every code is in docs/reference/findings.md",
        closest(written if written.startswith("CLR-") else f"CLR-{written}", known),
    )


def accept(journal: Journal, acceptance: Acceptance) -> JournalRecord:
    """Record an acceptance.

    Raises:
        InputError: the date cannot be read or has passed, or nobody or no reason is named.
        NotFound: no such finding code exists.
    """
    for name, text in (("person", acceptance.who), ("reason", acceptance.why)):
        if not text.strip():
            option = "--who" if name == "person" else "--why"
            raise InputError(f"an acceptance needs a {name}", f"name it with {option}")
    details = {
        "code": check_code(acceptance.code),
        "expires": expiry_date(acceptance.expires),
        "count": str(acceptance.count),
        "digest": acceptance.digest,
        "samples": json.dumps(acceptance.samples, ensure_ascii=False),
    }
    event = Event(ACCEPTED, acceptance.subject, acceptance.who, acceptance.why, acceptance.when, Tags(details))
    return journal.append(event)


def withdraw(journal: Journal, acceptance: Acceptance, who: str, why: str, when: str) -> JournalRecord:
    """Record that an acceptance does not hold any more."""
    details = Tags(code=acceptance.code, record=str(acceptance.record))
    return journal.append(Event(WITHDRAWN, acceptance.subject, who, why, when, details))


def acceptances(journal: Journal, *subjects: str) -> list[Acceptance]:
    """Every acceptance that was not withdrawn, in the order of the journal, also those that have expired.

    Args:
        journal: of the store.
        subjects: only those about one of these; all if none is named.
    """
    records: dict[int, JournalRecord] = {}
    for subject in dict.fromkeys(subjects) or [None]:
        for record in journal.records(subject):
            if subject is None or record.event.subject == subject:
                records[record.seq] = record
    found: dict[int, Acceptance] = {}
    for seq, record in sorted(records.items()):
        if record.event.kind == ACCEPTED:
            found[seq] = _of_record(record)
        elif record.event.kind == WITHDRAWN:
            found.pop(int(record.event.details["record"]), None)
    return list(found.values())


def _of_record(record: JournalRecord) -> Acceptance:
    event, details = record.event, record.event.details
    return Acceptance(
        code=details["code"],
        subject=event.subject,
        who=event.who,
        why=event.why,
        when=event.when,
        expires=details["expires"],
        count=int(details["count"]),
        samples=tuple(json.loads(details["samples"])),
        digest=details["digest"],
        record=record.seq,
    )


def acceptance_state(
    given: Iterable[Acceptance], code: str, samples: Sequence[str], count: int, day: date | None = None
) -> AcceptanceState:
    """What the acceptances of a subject say about one of its findings.

    Args:
        given: the acceptances of the subject (``acceptances``).
        code: of the finding.
        samples: ids of the samples that the finding concerns; empty if they are not known.
        count: how many samples, rows or steps it concerns, of all findings with this code.
        day: today, in UTC.
    """
    day = day or today()
    concerned = frozenset(samples)
    own = [each for each in given if each.code == code]
    own = [each for each in own if not each.samples or not samples or concerned & set(each.samples)]
    holding = tuple(each for each in own if each.lapse(count, day) is None)
    # One that has expired says nothing where a later one holds for as much.
    newest = max((each.record for each in holding if not each.samples), default=-1)
    lapsed = tuple(
        (each, reason) for each in own if each.record > newest and (reason := each.lapse(count, day)) is not None
    )
    covered = {sample for each in holding for sample in each.samples}
    whole = any(not each.samples for each in holding)
    left = () if whole else tuple(sample for sample in samples if sample not in covered)
    return AcceptanceState(holding, lapsed, left, bool(holding) and (whole or bool(samples and not left)))
