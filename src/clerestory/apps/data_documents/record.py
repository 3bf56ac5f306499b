"""Everything that the documents about a dataset say: counted from its samples, its audit and the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from clerestory.apps.acceptance import concerned_samples, dataset_acceptances, describe_state
from clerestory.apps.audit_report import safe_text
from clerestory.apps.audit_topics import CAPTIONS, COPIES, IMAGES, LEAKAGE, LICENCES, PEOPLE, PERSONAL_DATA, AuditTopic
from clerestory.core.evidence import Evidence, Finding
from clerestory.core.findings import finding_codes
from clerestory.core.provenance import stage_code
from clerestory.core.sample import Dataset
from clerestory.core.units import plural
from clerestory.report import format
from clerestory.report.dataset_summary import summarise
from clerestory.report.model import DatasetSummary
from clerestory.report.provenance import published_source
from clerestory.store import Store
from clerestory.store.acceptances import acceptance_state

AUDIT, CALIBRATION = "audit", "audit_calibration"
MAX_VALUES = 30  # of a group; one with more, such as an id, is not a group to balance
MAX_SOURCES = 50


@dataclass(frozen=True, slots=True)
class GroupSize:
    """How many images a value of a group has."""

    group: str
    value: str
    images: int


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """A dataset, as its documents describe it.

    Attributes:
        summary: name, digest, sizes, splits, licences, languages.
        groups: the values of its groups, the largest first; without groups that have nearly as many values as images.
        ungrouped: by group, how many images have no value of it.
        sources: where its images come from, the most frequent first.
        num_sources: how many different sources there are.
        source, added_by, added: from where, by whom and when it was brought into the store; empty if unknown.
        audit: its newest audit; None if there was none.
        is_current: whether the audit was made by the present code.
        excluded: findings on what was left out when the data was opened.
        acceptances: by the code of a finding that people accepted: who, until when and why, in a sentence.
    """

    summary: DatasetSummary
    groups: tuple[GroupSize, ...]
    ungrouped: tuple[tuple[str, int], ...]
    sources: tuple[tuple[str, int], ...]
    num_sources: int
    source: str = ""
    added_by: str = ""
    added: str = ""
    audit: Evidence | None = None
    is_current: bool = False
    excluded: tuple[Finding, ...] = ()
    acceptances: tuple[tuple[str, str], ...] = ()

    @property
    def licences(self) -> tuple[str, ...]:
        """The licences, as written in the data; unknown ones are left out."""
        return tuple(each.licence for each in self.summary.licences if each.licence)

    @property
    def unlicensed(self) -> int:
        """How many images have no recorded licence."""
        return sum(each.images for each in self.summary.licences if not each.licence)


def dataset_record(data: Dataset, store: Store) -> DatasetRecord:
    """The record of a dataset.

    Args:
        data: the dataset.
        store: its journal says who brought it in; its newest audit is described.
    """
    groups: dict[str, Counter[str]] = {}
    for sample in data:
        for name, value in sample.groups.items():
            groups.setdefault(name, Counter())[value] += 1
    balanced = {name: counted for name, counted in groups.items() if len(counted) <= MAX_VALUES}
    sources = Counter(sample.source for sample in data if sample.source)
    events = [record.event for record in store.journal.records(kinds=("data_added",))]
    arrival = next((event for event in events if event.details.get("digest") == data.digest), None)
    audits = store.find_evidence(AUDIT, data=data.digest)
    audit = audits[0] if audits else None
    given = dataset_acceptances(store, data.name) if audit else []
    states = {
        code: acceptance_state(given, code, own.samples, own.count)
        for code, own in (concerned_samples(audit, store) if audit and given else {}).items()
    }
    return DatasetRecord(
        summary=summarise(data),
        groups=tuple(
            GroupSize(name, value, images)
            for name in sorted(balanced)
            for value, images in sorted(balanced[name].items(), key=lambda item: (-item[1], item[0]))
        ),
        ungrouped=tuple((name, len(data) - counted.total()) for name, counted in sorted(balanced.items())),
        # Files have each a source of their own, which says nothing about where they come from.
        sources=tuple(sources.most_common(MAX_SOURCES)) if 2 * len(sources) <= len(data) else (),
        num_sources=len(sources),
        source=published_source(arrival.details.get("source", "")) if arrival else "",
        added_by=arrival.who if arrival else "",
        added=arrival.when if arrival else "",
        audit=audit,
        is_current=audit is not None and audit.subject.code == stage_code(AUDIT),
        excluded=tuple(finding for finding in data.findings if finding.severity != "info"),
        acceptances=tuple((code, "; ".join(describe_state(state))) for code, state in states.items() if state.holding),
    )


def not_audited(record: DatasetRecord) -> str:
    """Why nothing is said about the content; empty if there is an audit."""
    if record.audit is None:
        return f"Not checked: run clerestory data audit {record.summary.name}."
    when = format.when(record.audit.created)
    return "" if record.is_current else f"Checked by an earlier version of the code, on {when}; run the audit again."


def findings_of(record: DatasetRecord, topics: Sequence[AuditTopic]) -> Iterator[str]:
    """One sentence for each finding of some topics, with its code and its share of the samples."""
    if record.audit is None:
        return
    titles = finding_codes()
    codes = {code.code for topic in topics for code in topic.codes}
    for finding in record.audit.findings:
        if finding.code not in codes or finding.state == "not_run":
            continue
        accepted = dict(record.acceptances).get(finding.code, "")
        note = f" ({accepted})" if accepted else ""
        yield f"{finding.code} {titles[finding.code].title}: {safe_text(finding.message)}{note}"


def limitations(record: DatasetRecord) -> list[str]:
    """What is wrong with the images and captions, and what was left out."""
    lines = list(findings_of(record, (IMAGES, COPIES, LEAKAGE, CAPTIONS, LICENCES)))
    left_out = Counter(finding.code for finding in record.excluded)
    titles = finding_codes()
    lines += [
        f"{code} {titles[code].title}: {plural(count, 'row or file', 'rows or files')}"
        for code, count in left_out.items()
    ]
    if record.unlicensed:
        lines.append(f"{plural(record.unlicensed, 'image')} without a recorded licence")
    return lines or [not_audited(record) or "The audit found no fault of images or captions."]


def personal_information(record: DatasetRecord) -> list[str]:
    """The findings on personal data, without any value."""
    if record.audit is None:
        return [not_audited(record)]
    found = list(findings_of(record, (PERSONAL_DATA, PEOPLE)))
    none = (
        "No e-mail address, phone number, payment card or IBAN was found in the captions, and no GPS position in the "
        "images."
    )
    return [*(found or [none]), *_searched_images(record.audit)]


def _searched_images(audit: Evidence) -> list[str]:
    """In how many images text and faces were looked for, and with what."""
    total, lines = int(audit.facts.number("samples")), []
    for what, engine, count in (("Text", "text_engine", "text_images"), ("Faces", "face_engine", "face_images")):
        if name := audit.facts.get(engine):
            lines.append(f"{what} in the images: checked in {audit.facts.integer(count):,} of {total:,} with {name}.")
        else:
            lines.append(f"{what} in the images: not checked.")
    return lines


def biases(record: DatasetRecord) -> list[str]:
    """How evenly the groups are represented: counts, from which anyone can judge."""
    lines = []
    for name, missing in record.ungrouped:
        sizes = [each for each in record.groups if each.group == name]
        largest, smallest = sizes[0], sizes[-1]
        ratio = largest.images / smallest.images
        line = (
            f"{name}: {plural(len(sizes), 'value')}; {largest.value} has {largest.images:,} images, {smallest.value} "
            f"{smallest.images:,} (ratio {ratio:.1f})"
        )
        lines.append(line + (f"; {plural(missing, 'image')} without a value" if missing else ""))
    return lines or ["No groups are recorded, so the balance between them cannot be measured."]
