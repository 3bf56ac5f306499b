"""The page of an audit with contact sheets, for people who are not engineers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from shlex import quote

from clerestory.apps.acceptance import describe_state, is_open
from clerestory.apps.audit_calibration import calibrated_detectors, trust_sentence
from clerestory.apps.audit_topics import (
    LEFT_OUT_SAMPLES,
    LICENCES,
    PERSONAL_DATA,
    TOPICS,
    AuditTopic,
    not_applicable,
    topic_of,
    unchecked,
)
from clerestory.core.codec import encode
from clerestory.core.digest import short
from clerestory.core.evidence import Evidence, Finding
from clerestory.core.findings import FindingCode, finding_codes
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import TRAIN, Dataset, Sample
from clerestory.core.text import visible
from clerestory.core.units import duration, plural
from clerestory.report import format
from clerestory.report.audit_page import (
    BADGES,
    AuditPage,
    CheckedTopic,
    DetectorLine,
    FindingSheet,
    ScoreLine,
    SheetGroup,
    SheetImage,
)
from clerestory.report.thumbnails import Thumbnail, thumbnail
from clerestory.stages.audit import caption_findings, content_findings, image_findings, personal_findings
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.detection import Detection
from clerestory.stages.audit.personal_data import find_personal_data
from clerestory.stages.audit.run import Audit
from clerestory.stats.metrics import metric
from clerestory.store.acceptances import Acceptance, AcceptanceState, acceptance_state

MAX_IMAGES, MAX_GROUPS, MAX_IN_GROUP, MAX_PLACES = 24, 12, 6, 8
MAX_LICENCE_IMAGES = 8  # they say little about a licence
MAX_CAPTIONS, MAX_CAPTION, MAX_NAME = 5, 160, 90
# Of all thumbnails as data URIs; the text of a page is at most 1.5 MB.
MAX_TOTAL_BYTES, MAX_BYTES, MIN_BYTES = 3_300_000, 12_000, 1_600
HIDDEN = "[personal data]"
NOT_SHOWN = "not shown, because personal data was read in it"
# Findings of the data source that the audit makes more exactly.
_SAME = (("CLR-D018", "CLR-A014"), ("CLR-D007", "CLR-A020"))
_SPLITS = {TRAIN: "training", "val": "validation", "test": "test", "test_style": "test (style)"}
_SEVERITIES = ("error", "warning", "info")
_CAPTION_CODES = {code.code for code in caption_findings.CODES}
_PERSONAL_CODES = {code.code for code in personal_findings.CODES}
_SAMPLED_CODES = {code.code for code in content_findings.CODES}
_VALUE_CODES = {code.code for code in content_findings.VALUE_CODES}


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """A finding with the samples concerned.

    Attributes:
        finding: of the evidence; for a code of the data source, of which there may be one for each row, the first.
        detection: None for a code of the data source.
        all: every finding of this code of the data source.
        acceptance: what people accepted of it.
    """

    finding: Finding
    detection: Detection | None = None
    all: tuple[Finding, ...] = ()
    acceptance: AcceptanceState = AcceptanceState()

    @property
    def count(self) -> int:
        """How many samples or rows it concerns; 0 if that does not apply."""
        if self.detection:
            return len(self.detection.samples)
        return sum(finding.count or 1 for finding in self.all)

    def share(self, total: int) -> str:
        """The share of the images concerned, such as ``0.4%`` of all, or ``0.4% of 500 searched`` of a sample.

        Args:
            total: the number of images of the data.
        """
        if self.detection is None or not self.count:
            return ""
        searched = self.detection.checked if self.finding.code in _SAMPLED_CODES else total
        return f"{self.count / searched:.1%}" + (f" of {searched:,} searched" if searched < total else "")

    @property
    def where(self) -> str:
        """The first place, and how many others there are."""
        rest = len(self.all) - 1
        return f"{self.finding.where} and {plural(rest, 'other')}" if rest > 0 else self.finding.where


def acceptance_states(
    evidence: Evidence, detections: Sequence[Detection], given: Sequence[Acceptance]
) -> list[AcceptanceState]:
    """What people accepted of each finding of an audit, in the order of the evidence.

    Args:
        evidence: of the audit; its last findings are those of the detections, in their order.
        detections: of the same audit.
        given: the acceptances of the dataset.
    """
    of_source = evidence.findings[: len(evidence.findings) - len(detections)]
    counts: Counter[str] = Counter()
    places: defaultdict[str, list[str]] = defaultdict(list)
    for finding in of_source:
        counts[finding.code] += finding.count or 1
        places[finding.code].append(finding.where)
    samples: defaultdict[str, set[str]] = defaultdict(set)
    for detection in detections:
        samples[detection.code.code].update(detection.samples)
    counts.update({code: len(own) for code, own in samples.items()})
    concerned = [(finding.code, places[finding.code]) for finding in of_source]
    concerned += [(detection.code.code, list(detection.samples)) for detection in detections]
    return [acceptance_state(given, code, own, counts[code]) for code, own in concerned]


def with_acceptances(evidence: Evidence, states: Sequence[AcceptanceState]) -> tuple[Finding, ...]:
    """The findings of an audit, with the state ``accepted`` where people accepted them."""
    return tuple(
        replace(finding, state="accepted") if _is_accepted(finding, state) else finding
        for finding, state in zip(evidence.findings, states, strict=True)
    )


def _is_accepted(finding: Finding, state: AcceptanceState) -> bool:
    return state.is_accepted and is_open(finding)


def audit_findings(
    evidence: Evidence, detections: Sequence[Detection], given: Sequence[Acceptance] = ()
) -> list[AuditFinding]:
    """The findings of an audit as people count them, the most serious first.

    Args:
        evidence: of the audit; its last findings are those of the detections, in their order.
        detections: of the same audit.
        given: the acceptances of the dataset.
    """
    states_of = acceptance_states(evidence, detections, given)
    evidence = replace(evidence, findings=with_acceptances(evidence, states_of))
    of_source = evidence.findings[: len(evidence.findings) - len(detections)]
    by_code: defaultdict[str, list[Finding]] = defaultdict(list)
    accepted: dict[str, AcceptanceState] = {}
    for finding, state in zip(of_source, states_of, strict=False):
        by_code[finding.code].append(finding)
        accepted[finding.code] = state
    for of_data, of_audit in _SAME:
        if any(detection.code.code == of_audit for detection in detections):
            by_code.pop(of_data, None)
    merged = [AuditFinding(_as_note(same[0]), None, tuple(same), accepted[code]) for code, same in by_code.items()]
    detected = zip(evidence.findings[len(of_source) :], detections, states_of[len(of_source) :], strict=True)
    merged += [AuditFinding(_as_note(finding), found, (), state) for finding, found, state in detected]
    states = list(BADGES)
    return sorted(
        merged,
        key=lambda each: (
            states.index(each.finding.state),
            _SEVERITIES.index(each.finding.severity),
            each.finding.code,
        ),
    )


def _as_note(finding: Finding) -> Finding:
    """A finding that only informs is a note, not a warning."""
    return replace(finding, state="pass") if (finding.severity, finding.state) == ("info", "warn") else finding


def audit_page(
    data: Dataset,
    result: Audit,
    config: AuditConfig,
    progress: Progress = QUIET,
    given: Sequence[Acceptance] = (),
    calibration: Evidence | None = None,
) -> AuditPage:
    """The page of an audit, with thumbnails of the images concerned.

    Personal data is in none of its texts, and no caption of a sample that has any.

    Args:
        data: the dataset that was audited.
        result: of the audit.
        config: the limits that it had.
        progress: reports the thumbnails.
        given: the acceptances of the dataset.
        calibration: of exactly this data, if there is one.
    """
    evidence, found = result.evidence, audit_findings(result.evidence, result.detections, given)
    readable = {s for d in result.detections if d.code.code in _VALUE_CODES for s in d.samples}
    thumbnails = _Thumbnails(data, _shown_samples(found), {data[s].image for s in readable}, progress)
    private = {s for d in result.detections if d.code.code in _PERSONAL_CODES for s in d.samples}
    sheets: list[FindingSheet] = []
    used: Counter[str] = Counter()
    for each in found:
        code = each.finding.code.lower()
        used[code] += 1
        anchor = code if used[code] == 1 else f"{code}-{used[code]}"
        sheets.append(_sheet(each, anchor, data, thumbnails, private, config))
    return AuditPage(
        dataset=_safe_name(data.name),
        samples=len(data),
        findings=tuple(sheets),
        checked=tuple(_checked(topic, found, data, evidence) for topic in TOPICS),
        not_checked=tuple(_not_checked(found, evidence)),
        scores=tuple(
            ScoreLine(
                _score_name(s.measured.name, s.measured.slice),
                format.of_hundred(s.measured),
                format.of_hundred(s.corrected),
                LEFT_OUT_SAMPLES[s.cause],
            )
            for s in result.scores
        ),
        facts=_facts(evidence, data, config),
        detectors=tuple(
            DetectorLine(format.capital(each.title), each.recall, each.weakest, each.precision, each.silence)
            for each in (calibrated_detectors(calibration, result.detections, len(data)) if calibration else ())
        ),
        trust=format.sentence(trust_sentence(calibration, _safe_name(data.name))),
        command=f"clerestory data audit {quote(_safe_name(data.name))} --csv findings.csv",
    )


def _score_name(name: str, where: Mapping[str, str]) -> str:
    words = format.slice_words(where)
    return f"{metric(name).title}: {words}" if words else metric(name).title


def _shown_groups(detection: Detection) -> list[tuple[str, ...]]:
    return [group[:MAX_IN_GROUP] for group in detection.groups[:MAX_GROUPS]]


def _shown_alone(detection: Detection) -> tuple[str, ...]:
    if detection.groups:
        return ()
    return detection.samples[: MAX_LICENCE_IMAGES if topic_of(detection.code.code) is LICENCES else MAX_IMAGES]


def _shown_samples(found: Iterable[AuditFinding]) -> list[str]:
    """The sample of every thumbnail of the page, in its order; one that is shown twice is in it twice."""
    detections = [each.detection for each in found if each.detection]
    return [
        sample
        for detection in detections
        for sample in (*_shown_alone(detection), *(s for group in _shown_groups(detection) for s in group))
    ]


class _Thumbnails:
    """The thumbnail of every image that the page shows, small enough for all of them to fit."""

    def __init__(self, data: Dataset, shown: list[str], hidden: set[str], progress: Progress) -> None:
        limit = max(MIN_BYTES, min(MAX_BYTES, MAX_TOTAL_BYTES // max(1, len(shown))))
        self._hidden = hidden
        self._made: dict[str, Thumbnail | None] = dict.fromkeys(hidden)
        samples = [data[sample] for sample in dict.fromkeys(shown)]
        with progress.task("Making thumbnails", len(samples)) as bar:
            for sample in samples:
                if sample.image not in self._made:
                    self._made[sample.image] = thumbnail(partial(data.read, sample), limit)
                bar.advance()

    def is_hidden(self, sample: Sample) -> bool:
        """Whether a thumbnail could show personal data that was read in the image."""
        return sample.image in self._hidden

    def of(self, sample: Sample) -> Thumbnail | None:
        return self._made[sample.image]


def _sheet(
    each: AuditFinding,
    anchor: str,
    data: Dataset,
    thumbnails: _Thumbnails,
    private: set[str],
    config: AuditConfig,
) -> FindingSheet:
    finding, detection = each.finding, each.detection
    code = finding_codes().get(finding.code) or FindingCode(finding.code, finding.severity, finding.code)
    groups: list[SheetGroup] = []
    alone: tuple[SheetImage, ...] = ()
    if detection:
        show = partial(_image, detection, data, thumbnails, private)
        alone = tuple(show(sample) for sample in _shown_alone(detection))
        groups = [
            SheetGroup(tuple(show(sample) for sample in shown), len(group))
            for shown, group in zip(_shown_groups(detection), detection.groups, strict=False)
        ]
    message = safe_text(finding.message) if detection or len(each.all) == 1 else plural(len(each.all), "case")
    limit = _limit(finding.code, config)
    return FindingSheet(
        anchor=anchor,
        state=finding.state,
        severity=finding.severity,
        code=finding.code,
        title=format.capital(code.title),
        message=" ".join(filter(None, (format.sentence(message), limit))),
        fix=format.sentence(safe_text(finding.fix)),
        why=topic_of(finding.code).why if finding.state in ("fail", "warn") else "",
        extent=_extent(each, len(data)),
        documentation=code.documentation,
        images=alone,
        groups=tuple(groups),
        places=() if detection else tuple((_safe_name(f.where), safe_text(f.message)) for f in each.all[:MAX_PLACES]),
        more=_more(each, len(alone)),
        is_closed=finding.severity == "info" or finding.state not in ("fail", "warn"),
        acceptance=tuple(format.sentence(safe_text(line)) for line in describe_state(each.acceptance)),
    )


def _extent(each: AuditFinding, total: int) -> str:
    if each.detection is None:
        return plural(each.count, "case")
    return f"{plural(each.count, 'image')} ({each.share(total)})" if each.count else ""


def _more(each: AuditFinding, shown: int) -> str:
    """What the page leaves out."""
    if each.detection is None:
        rest = len(each.all) - MAX_PLACES
        return f"And {plural(rest, 'other')}." if rest > 0 else ""
    if each.detection.groups:
        rest, what = len(each.detection.groups) - MAX_GROUPS, "other group"
    else:
        rest, what = len(each.detection.samples) - shown, "other image"
    return f"And {plural(rest, what)}, which the table of --csv lists." if rest > 0 else ""


def _limit(code: str, config: AuditConfig) -> str:
    """From which number on something is found, where the notes of the images have numbers without a unit."""
    limits = {
        image_findings.BLURRED.code: ("sharpness", config.min_sharpness, "blurred"),
        image_findings.BLANK.code: ("contrast", config.min_contrast, "blank"),
        image_findings.DARK.code: ("brightness", config.max_dark, "dark"),
    }
    if code not in limits:
        return ""
    what, limit, word = limits[code]
    return f"A {what} below {limit:g} counts as {word}."


def _image(
    detection: Detection, data: Dataset, thumbnails: _Thumbnails, private: set[str], sample_id: str
) -> SheetImage:
    sample = data[sample_id]
    code = detection.code.code
    small = thumbnails.of(sample)
    # No caption of a sample with personal data, not even where another finding is about it.
    texts = () if sample_id in private or topic_of(code) is PERSONAL_DATA else _captions(sample)
    notes = [NOT_SHOWN] if thumbnails.is_hidden(sample) else []
    if detection.groups and small:
        notes += [f"{small.original[0]:,} × {small.original[1]:,} pixels", _file_size(small.num_bytes)]
    if sample_id in detection.notes and code != image_findings.LEAKAGE.code:  # its notes name the split
        notes.append(safe_text(detection.notes[sample_id]))
    return SheetImage(
        name=_safe_name(sample_id),
        thumbnail=small.uri if small else "",
        width=small.size[0] if small else 0,
        height=small.size[1] if small else 0,
        alt=texts[0] if texts and code not in _CAPTION_CODES else f"image {_safe_name(sample_id)}",
        split=_SPLITS.get(sample.split, safe_text(sample.split)),
        is_evaluated=sample.split not in ("", TRAIN),
        notes=tuple(notes),
        captions=texts if code in _CAPTION_CODES else (),
    )


def _captions(sample: Sample) -> tuple[str, ...]:
    """The captions of a sample as the page shows them: a few, short, and none with personal data."""
    shown = []
    for caption in sample.captions[:MAX_CAPTIONS]:
        is_private = find_personal_data(caption.text, caption.lang or "en")
        text = "not shown, because it contains personal data" if is_private else visible(caption.text)
        shown.append(text if len(text) <= MAX_CAPTION else f"{text[: MAX_CAPTION - 1]}…")
    return tuple(shown)


def safe_text(text: str) -> str:
    """A text that may quote the data, such as a file name, without personal data and control characters."""
    for found in reversed(find_personal_data(text)):
        text = text[: found.start] + HIDDEN + text[found.end :]
    return visible(text)


def _safe_name(name: str) -> str:
    """The name of a file or sample as the page shows it, without its middle if it is very long.

    Its extension is apart: an address with one behind it is taken for the name of a file, such as ``icon@2x.png``.
    """
    stem, dot, extension = name.rpartition(".")
    name = safe_text(stem) + dot + safe_text(extension)
    half = MAX_NAME // 2
    return name if len(name) <= MAX_NAME else f"{name[:half]}…{name[-half:]}"


def _file_size(num_bytes: int) -> str:
    return f"{num_bytes / 1000:,.1f} kB" if num_bytes < 1_000_000 else f"{num_bytes / 1e6:,.1f} MB"


def _checked(topic: AuditTopic, found: Sequence[AuditFinding], data: Dataset, evidence: Evidence) -> CheckedTopic:
    what = format.capital(topic.what) + "."
    facts = evidence.facts
    has_content = bool(facts.get("text_engine") or facts.get("face_engine"))
    if reason := not_applicable(topic, data, bool(facts.get("packs")), has_content):
        return CheckedTopic(topic.title, what, "plain", reason)
    counts: Counter[str] = Counter(each.finding.state for each in found if topic_of(each.finding.code) is topic)
    named = [
        (state, plural(counts[state], word))
        for state, word in (("fail", "problem"), ("warn", "warning"))
        if counts[state]
    ]
    if not named and (notes := sum(counts.values())):
        return CheckedTopic(topic.title, what, "plain", plural(notes, "note"))
    if not named:
        return CheckedTopic(topic.title, what, "yes", "nothing found")
    return CheckedTopic(topic.title, what, BADGES[named[0][0]][0], ", ".join(text for _, text in named))


def _not_checked(found: Sequence[AuditFinding], evidence: Evidence) -> list[str]:
    left_out = [format.sentence(safe_text(each.finding.message)) for each in found if each.finding.state == "not_run"]
    facts = evidence.facts
    return [
        *left_out,
        *unchecked(
            bool(facts.get("captions_matched")),
            bool(facts.get("packs")),
            *_searched(evidence),
            labels_checked=bool(facts.get("labels_checked")),
        ),
    ]


def _searched(evidence: Evidence) -> tuple[int, int]:
    """The images whose text was read, and those in which faces were looked for; audits of older versions: none."""
    facts = evidence.facts
    text = facts.integer("text_images") if facts.get("text_engine") else 0
    return text, facts.integer("face_images") if facts.get("face_engine") else 0


def _engines(evidence: Evidence) -> list[tuple[str, str]]:
    text, faces = _searched(evidence)
    lines = [("Text read in", text, "text_engine"), ("Faces sought in", faces, "face_engine")]
    return [
        (label, f"{plural(count, 'image')} ({evidence.facts[name]})")
        for label, count, name in lines
        if evidence.facts.get(name)
    ]


def _facts(evidence: Evidence, data: Dataset, config: AuditConfig) -> tuple[tuple[str, str], ...]:
    splits = Counter(_SPLITS.get(sample.split, sample.split) or "no split" for sample in data)
    named = ", ".join(f"{count:,} {split}" for split, count in splits.items())
    changed = [
        f"{field.name} = {encode(getattr(config, field.name))}"
        for field in fields(config)
        if getattr(config, field.name) != getattr(AuditConfig(), field.name)
    ]
    return (
        ("When", format.when(evidence.created)),
        ("Took", duration(evidence.cost.seconds)),
        ("Images", f"{len(data):,} ({safe_text(named)})"),
        ("Captions", f"{sum(len(sample.captions) for sample in data):,}"),
        *_engines(evidence),
        ("Changed settings", ", ".join(changed) or "none"),
        ("Data", short(data.digest)),
        ("Evidence", evidence.id),
    )
