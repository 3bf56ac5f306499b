"""Accepting the findings of an audit, and showing them as accepted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from shlex import quote

from clerestory.apps.datasets import view_dataset
from clerestory.core.errors import InputError, NotFound, closest
from clerestory.core.evidence import Evidence, Finding
from clerestory.core.findings import finding_codes
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import current_user, now
from clerestory.core.units import plural
from clerestory.data import locate
from clerestory.stages.audit.run import KIND, read_detections
from clerestory.store import Store
from clerestory.store.acceptances import (
    Acceptance,
    AcceptanceState,
    Lapse,
    accept,
    acceptances,
    check_code,
    expiry_date,
    withdraw,
)

OPEN_STATES = ("fail", "warn")


def is_open(finding: Finding) -> bool:
    """Whether a finding is a problem or a warning; one that only informs is a note, which nobody has to accept."""
    return finding.state in OPEN_STATES and (finding.severity, finding.state) != ("info", "warn")


def subjects_of(store: Store, source: str) -> tuple[str, ...]:
    """The names under which a dataset is accepted, the one for new acceptances first.

    It is the name of a registered dataset; of any other source its place, so that two folders of the same name are
    two subjects. After the source is added, the acceptances of the place hold for the name.
    """
    rows = store.datasets()
    place = locate(source).spec
    registered = [row for row in rows if row.name == source] or [row for row in rows if row.spec == place]
    return (registered[0].name, registered[0].spec) if registered else (place,)


def dataset_acceptances(store: Store, source: str) -> list[Acceptance]:
    """Every acceptance of findings of a dataset that was not withdrawn."""
    return acceptances(store.journal, *subjects_of(store, source))


@dataclass(frozen=True, slots=True)
class ConcernedSamples:
    """What a finding code of an audit concerns.

    Attributes:
        findings: of this code, as measured.
        samples: ids, each once; of a code of the data source, the places.
        count: how many samples or rows.
    """

    findings: tuple[Finding, ...]
    samples: tuple[str, ...]
    count: int


def concerned_samples(evidence: Evidence, store: Store) -> dict[str, ConcernedSamples]:
    """What each finding code of an audit concerns."""
    detections = read_detections(evidence, store)
    of_source = evidence.findings[: len(evidence.findings) - len(detections)]
    findings: defaultdict[str, list[Finding]] = defaultdict(list)
    samples: defaultdict[str, dict[str, None]] = defaultdict(dict)
    counts: defaultdict[str, int] = defaultdict(int)
    for finding in of_source:
        samples[finding.code][finding.where] = None
        counts[finding.code] += finding.count or 1
    for detection in detections:
        samples[detection["code"]].update(dict.fromkeys(detection["samples"]))
    for finding in evidence.findings:
        findings[finding.code].append(finding)
    measured = {detection["code"] for detection in detections}
    return {
        code: ConcernedSamples(
            tuple(own), tuple(samples[code]), len(samples[code]) if code in measured else counts[code]
        )
        for code, own in findings.items()
    }


def accept_finding(
    store: Store,
    source: str,
    code: str,
    *,
    why: str,
    expires: str,
    samples: Sequence[str] = (),
    who: str = "",
    progress: Progress = QUIET,
) -> Acceptance:
    """Accept a finding of the newest audit of a dataset as it is now.

    Args:
        store: has the audit, and records the acceptance.
        source: the name of a dataset, or any source that ``open_data`` opens.
        code: of the finding.
        why: the reason.
        expires: the last day on which it holds, such as ``2027-06-30``.
        samples: ids; the whole finding if none is named.
        who: the person; by default the login name.
        progress: reports opening the data.

    Raises:
        NotFound: no such code exists.
        InputError: the data was not audited as it is now, the audit has no such finding, or not for these samples.
    """
    code, expires = check_code(code), expiry_date(expires)
    if not why.strip():
        raise InputError("an acceptance needs a reason", "name it with --why")
    data = view_dataset(store, source, progress)
    audits = store.find_evidence(KIND, data=data.digest)
    if not audits:
        raise InputError(
            f"{source} has not been audited as it is now", f"run first: clerestory data audit {quote(source)}"
        )
    concerned = concerned_samples(audits[0], store)
    open_codes = [each for each, own in concerned.items() if any(map(is_open, own.findings))]
    if code not in open_codes:
        title = finding_codes()[code].title
        known = f"its open findings are {', '.join(sorted(open_codes))}" if open_codes else "it has no open finding"
        raise InputError(f"the audit of {source} has no open finding {code} ({title})", known)
    own = concerned[code]
    for sample in samples:
        if sample not in own.samples:
            is_known = any(sample == each.id for each in data)
            problem = f"{code} does not concern {sample!r}" if is_known else f"{source} has no sample {sample!r}"
            raise NotFound(problem, f"it concerns {plural(len(own.samples), 'sample')}", closest(sample, own.samples))
    acceptance = Acceptance(
        code=code,
        subject=subjects_of(store, source)[0],
        who=who or current_user(),
        why=why,
        when=now(),
        expires=expires,
        count=own.count,
        samples=tuple(dict.fromkeys(samples)),
        digest=data.digest,
    )
    return replace(acceptance, record=accept(store.journal, acceptance).seq)


def withdraw_acceptances(
    store: Store, source: str, code: str, *, why: str, samples: Sequence[str] = (), who: str = ""
) -> list[Acceptance]:
    """Withdraw the acceptances of a finding: all of them, or those for exactly these samples.

    Raises:
        InputError: there is none, or no reason is named.
    """
    code = check_code(code)
    if not why.strip():
        raise InputError("a withdrawal needs a reason", "name it with --why")
    own = [each for each in dataset_acceptances(store, source) if each.code == code]
    if samples:
        own = [each for each in own if set(each.samples) == set(samples)]
    if not own:
        raise InputError(
            f"{code} of {source} has no such acceptance",
            f"list them with: clerestory data accept {quote(source)} --list",
        )
    for each in own:
        withdraw(store.journal, each, who or current_user(), why, now())
    return own


def describe_state(state: AcceptanceState) -> list[str]:
    """Sentences about the acceptances of a finding: those that hold, and those that lapsed."""
    lines = []
    for each in state.holding:
        what = f"accepted for {plural(len(each.samples), 'sample')}" if each.samples else "accepted"
        lines.append(f"{what} by {each.who} until {each.expires}: {each.why}")
    for each, reason in state.lapsed:
        if reason is Lapse.EXPIRED:
            lines.append(f"open again: the acceptance by {each.who} expired on {each.expires} ({each.why})")
        else:
            lines.append(
                f"open again: {each.who} accepted it when it concerned {each.count:,}, and it concerns more now "
                f"({each.why})"
            )
    return lines
