"""Licences of samples and sources under a policy.

Every different text is judged once, so a million samples with ten licences take as long as their grouping.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from clerestory.core.codec import Tags
from clerestory.core.findings import FindingCode
from clerestory.core.licences.policy import LicencePolicy, LicenceState, LicenceVerdict, check_licence
from clerestory.core.licences.table import LicenceTable, licence_table
from clerestory.core.licences.terms import DUTY_LABELS, REASON_LABELS, UNKNOWN_REASONS, Duty, LicenceReason
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset, Sample
from clerestory.core.text import visible
from clerestory.core.units import plural
from clerestory.stages.audit import licence_findings
from clerestory.stages.audit.detection import Detection

MAX_NAMED = 3  # licences and sources in a message
MAX_TEXT = 60  # characters of a licence in a message


@dataclass(frozen=True, slots=True)
class LicensedSource:
    """The images of one source under one licence.

    Attributes:
        source: as in ``Sample``; empty if it is not recorded.
        licence: as written in the data.
        images: how many there are.
        verdict: of the policy.
    """

    source: str
    licence: str
    images: int
    verdict: LicenceVerdict


def licensed_sources(
    data: Dataset, policy: LicencePolicy, table: LicenceTable | None = None
) -> tuple[LicensedSource, ...]:
    """Every source with its licences, those that do not pass first, then the largest."""
    counted = Counter((sample.source, sample.licence) for sample in data)
    verdicts = _verdicts(data, policy, table)
    rows = [LicensedSource(source, text, images, verdicts[text]) for (source, text), images in counted.items()]
    return tuple(sorted(rows, key=lambda row: (row.verdict.state.rank, -row.images, row.source, row.licence)))


def check_licences(
    data: Dataset, policy: LicencePolicy, progress: Progress = QUIET, table: LicenceTable | None = None
) -> list[Detection]:
    """The samples whose licence is unknown, refused or comes with duties, by kind of finding.

    Args:
        data: the dataset; ``Sample.licence`` and ``Sample.source`` are read.
        policy: the needed rights and the acceptable conditions.
        progress: shows the samples.
        table: in place of the table of the package.
    """
    verdicts = _verdicts(data, policy, table)
    kinds = {text: _kinds(verdict) for text, verdict in verdicts.items()}
    samples: defaultdict[tuple[FindingCode, str], list[Sample]] = defaultdict(list)
    with progress.task("licences", len(data)) as bar:
        for sample in data:
            for kind in kinds[sample.licence]:
                samples[kind].append(sample)
            bar.advance()
    order = [code.code for code in licence_findings.LICENCE_CODES]
    detections = [
        _detection(code, reason, found, verdicts, policy, len(data)) for (code, reason), found in samples.items()
    ]
    detections += _different_licences(data, verdicts)
    return sorted(detections, key=lambda each: (order.index(each.code.code), -len(each.samples), each.reason))


def _verdicts(data: Dataset, policy: LicencePolicy, table: LicenceTable | None) -> dict[str, LicenceVerdict]:
    """The verdict on every different licence of a dataset."""
    table = table or licence_table()
    return {text: check_licence(text, policy, table) for text in dict.fromkeys(sample.licence for sample in data)}


def _kinds(verdict: LicenceVerdict) -> list[tuple[FindingCode, str]]:
    """The kinds of finding that a sample with this verdict belongs to, each with its reason."""
    kinds: list[tuple[FindingCode, str]] = []
    if verdict.state == LicenceState.PASSES:
        if Duty.SHARE_ALIKE in verdict.duties:
            kinds.append((licence_findings.SHARE_ALIKE_SOURCE, ""))
        if verdict.duties:
            kinds.append((licence_findings.LICENCE_DUTIES, ""))
    elif verdict.state == LicenceState.FAILS:
        refused = (reason for reason in verdict.reasons if reason not in UNKNOWN_REASONS)
        kinds += [(licence_findings.REFUSED_LICENCE, reason) for reason in refused]
    elif LicenceReason.UNREADABLE in verdict.reasons:
        kinds.append((licence_findings.UNREADABLE_LICENCE, ""))
    else:
        kinds += [(licence_findings.UNKNOWN_LICENCE, reason) for reason in verdict.reasons]
    if verdict.readings:
        kinds.append((licence_findings.LICENCE_SPELLING, ""))
    return kinds


def _detection(
    code: FindingCode,
    reason: str,
    samples: list[Sample],
    verdicts: Mapping[str, LicenceVerdict],
    policy: LicencePolicy,
    checked: int,
) -> Detection:
    found = {sample.licence: verdicts[sample.licence] for sample in samples}
    images = f"{len(samples):,} of {plural(checked, 'image')}"
    licences = _most_frequent(_shown(found[sample.licence].expression) for sample in samples)
    named = Counter(sample.source for sample in samples if sample.source)
    # A folder gives every image its own source, which says nothing more than the list of images.
    sources = _most_frequent(map(_shown, named.elements())) if len(named) < len(samples) else ""
    message = {
        licence_findings.UNKNOWN_LICENCE: f"the licence of {images} is unknown",
        licence_findings.UNREADABLE_LICENCE: f"the licence of {images} cannot be read",
        licence_findings.REFUSED_LICENCE: f"the policy refuses the licence of {images}",
        licence_findings.SHARE_ALIKE_SOURCE: f"the licence of {images} asks for the same licence for the result",
        licence_findings.LICENCE_SPELLING: f"the licence of {images} is not written as SPDX does",
        licence_findings.LICENCE_DUTIES: f"the licence of {images} comes with duties ({_duties(found.values())})",
    }[code]
    message += f", because {REASON_LABELS[LicenceReason(reason)]}" if reason else ""
    message += f": {licences}" if licences else ""
    message += f"; from {sources}" if sources else ""
    is_allowed = policy.allow_unknown and code in (
        licence_findings.UNKNOWN_LICENCE,
        licence_findings.UNREADABLE_LICENCE,
    )
    return Detection(
        code,
        message,
        tuple(sample.id for sample in samples),
        checked,
        notes=Tags({sample.id: _note(found[sample.licence], code, reason) for sample in samples}),
        reason=reason,
        state="warn" if is_allowed else None,
        severity="warning" if is_allowed else None,
    )


def _different_licences(data: Dataset, verdicts: Mapping[str, LicenceVerdict]) -> list[Detection]:
    """Samples with the same bytes and different licences; one without a licence does not contradict the others."""
    copies: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in data:
        if sample.licence.strip():
            copies[sample.image].append(sample)
    different = [
        group for group in copies.values() if len({verdicts[sample.licence].expression for sample in group}) > 1
    ]
    if not different:
        return []
    samples = sorted((sample for group in different for sample in group), key=lambda sample: sample.id)
    licences = _most_frequent(_shown(verdicts[sample.licence].expression) for sample in samples)
    return [
        Detection(
            licence_findings.DIFFERENT_LICENCES,
            f"{plural(len(different), 'image occurs', 'images occur')} under different licences: {licences}",
            tuple(sample.id for sample in samples),
            len(data),
            groups=tuple(tuple(sample.id for sample in group) for group in different),
            notes=Tags({sample.id: _shown(verdicts[sample.licence].expression) for sample in samples}),
        )
    ]


def _note(verdict: LicenceVerdict, code: FindingCode, reason: str) -> str:
    """What concerns one sample: its licence, and for a reason the licences of the expression that have it."""
    if code == licence_findings.LICENCE_SPELLING:
        return "; ".join(f"{_shown(each.written)} was read as {each.id}" for each in verdict.readings)
    if code == licence_findings.LICENCE_DUTIES:
        return f"{_shown(verdict.expression)}: {_duties([verdict])}"
    culprits = [each for each in verdict.obstacles if each.reason == reason]
    named = ", ".join(dict.fromkeys(_shown(each.licence) for each in culprits if each.licence))
    hints = "; ".join(dict.fromkeys(each.hint for each in culprits if each.hint))
    return ": ".join(filter(None, (named or _shown(verdict.expression), hints)))


def _duties(verdicts: Iterable[LicenceVerdict]) -> str:
    owed = {duty for verdict in verdicts for duty in verdict.duties}
    return ", ".join(label for duty, label in DUTY_LABELS.items() if duty in owed)


def _most_frequent(names: Iterable[str]) -> str:
    """``MIT (12), CC-BY-4.0 (3) and 2 others``; empty names are left out."""
    counted = Counter(filter(None, names)).most_common()
    named = ", ".join(f"{name} ({images:,})" for name, images in counted[:MAX_NAMED])
    more = len(counted) - MAX_NAMED
    return f"{named} and {plural(more, 'other')}" if more > 0 else named


def _shown(text: str) -> str:
    """A text of the data, as short and as printable as a message needs it."""
    text = visible(text)
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
