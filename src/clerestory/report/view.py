"""The content of a page as frozen values: HTML, Markdown, JSON and the web pages are renderings of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from clerestory.core.evidence import Measurement
from clerestory.core.release import Reason
from clerestory.stats.metrics import Topic


@dataclass(frozen=True, slots=True)
class TableView:
    """Rows of text under a head; the first column names the row."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class TrustView:
    """Whether a benchmark can be trusted.

    Attributes:
        state: ``yes``, ``unsure`` or ``no``.
        label: the same in words.
        brief: the same in one or two words, beside every number; the reasons are in one place.
        name: the benchmark in plain words.
        short: its standard term and split, for narrow places.
        anchor: where its reasons are on the page.
        reasons: why not, one sentence each.
        passed: the checks without objection.
    """

    state: str
    label: str
    brief: str
    name: str
    short: str
    anchor: str
    reasons: tuple[str, ...]
    passed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SignatureView:
    """A person who requested, approved, declined or promoted: when, why, how the identity is known, why it is void."""

    who: str
    when: str
    why: str
    identity: str
    void: str


@dataclass(frozen=True, slots=True)
class ApprovalView:
    """The approval of a release.

    Attributes:
        state: ``yes``, ``no``, ``unsure`` or ``plain``.
        sentence: where it stands.
        rule: what is required.
        is_required: whether anything is.
        people: what each person did, in order.
        command: what comes next; empty if nothing is missing.
        notice: that several approvals come from one account; empty if they do not.
        declined: who declined it, when and why; empty if nobody did.
    """

    state: str
    sentence: str
    rule: str
    is_required: bool
    people: tuple[tuple[str, SignatureView], ...]
    command: str
    notice: str = ""
    declined: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing with the same numbers as a table.

    Attributes:
        name: its anchor.
        title: what it shows.
        desc: the same in words, for people who do not see the drawing.
        svg: the drawing.
        note: how to read it, one or two sentences.
        table: the numbers.
        benchmarks: the (task, split) of its measurements, so that their labels can be put beside it.
        trust: these labels.
    """

    name: str
    title: str
    desc: str
    svg: Markup
    note: str
    table: TableView
    benchmarks: tuple[tuple[str, str], ...] = ()
    trust: tuple[TrustView, ...] = ()


@dataclass(frozen=True, slots=True)
class MatrixCell:
    """One cell of a matrix: its state, and the same in words."""

    state: str
    label: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """Cells under a head, one row for each label."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, tuple[MatrixCell, ...]], ...]


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """Something that was not measured: one sentence, and the command that would measure it."""

    message: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class NeighbourView:
    """One nearest answer."""

    place: int
    caption: str
    correct: bool
    thumbnail: str


@dataclass(frozen=True, slots=True)
class ExampleView:
    """One query and its nearest answers."""

    grade: str
    query: str
    thumbnail: str
    sample: str
    result: str
    correct: bool
    neighbours: tuple[NeighbourView, ...]


@dataclass(frozen=True, slots=True)
class ExampleGroup:
    """The examples of one direction on one split; a query is an image or a text."""

    title: str
    image_queries: bool
    examples: tuple[ExampleView, ...]


@dataclass(frozen=True, slots=True)
class CaptionView:
    """An image, its reference caption and the generated ones; ``correct`` when one of them equals the reference."""

    thumbnail: str
    sample: str
    caption: str
    suggestions: tuple[str, ...]
    correct: bool


@dataclass(frozen=True, slots=True)
class CaptionGroup:
    """Captions generated for images of one split."""

    title: str
    captions: tuple[CaptionView, ...]


@dataclass(frozen=True, slots=True)
class Chapter:
    """One question about a model, answered in a sentence first.

    Attributes:
        anchor: on the page.
        title: the standard term and the question.
        short: the same for the list of contents.
        order: its place on the page; low comes first.
        topic: the topic of measurements that its answer sums up; empty for none.
        answer: one plain sentence, with its numbers.
        lead: how to read what follows.
        figures: shown at once.
        more: shown on request, under ``more_title``.
        tables: numbers without a drawing.
        matrix: states by row and column.
        trust: labels of benchmarks with their reasons.
        examples, captions: examples with thumbnails.
        absent: what could not be shown.
        warnings: what to know before relying on it.
    """

    anchor: str
    title: str
    short: str
    order: int = 100
    topic: Topic | None = None
    answer: str = ""
    lead: str = ""
    figures: tuple[Figure, ...] = ()
    more: tuple[Figure, ...] = ()
    more_title: str = ""
    tables: tuple[TableView, ...] = ()
    matrix: Matrix | None = None
    trust: tuple[TrustView, ...] = ()
    examples: tuple[ExampleGroup, ...] = ()
    captions: tuple[CaptionGroup, ...] = ()
    absent: tuple[NotMeasured, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_measured(self) -> bool:
        """Whether it shows anything besides the reason why nothing was measured."""
        shown = (self.figures, self.more, self.tables, self.matrix, self.trust, self.examples, self.captions)
        return bool(self.answer or self.lead or self.warnings) or any(shown) or not self.absent


@dataclass(frozen=True, slots=True)
class NumberView:
    """One measurement in words.

    Attributes:
        title: of its metric.
        name: of its metric, such as ``recall@10``.
        slice: what it was measured on, besides the benchmark it is listed under.
        value: with its interval, or the reason why it has none.
        basis: n and clusters.
        is_slice: whether it is about a part of a task instead of the whole.
        measurement: the measurement itself.
    """

    title: str
    name: str
    slice: str
    value: str
    basis: str
    is_slice: bool
    measurement: Measurement


@dataclass(frozen=True, slots=True)
class BenchmarkView:
    """The measurements of one benchmark; ``trust`` is None where its validity was not checked."""

    title: str
    numbers: tuple[NumberView, ...]
    trust: TrustView | None


@dataclass(frozen=True, slots=True)
class TopicView:
    """All measurements of one topic, with the sentence that sums them up."""

    anchor: str
    title: str
    answer: str
    count: int
    benchmarks: tuple[BenchmarkView, ...]


@dataclass(frozen=True, slots=True)
class DecisionView:
    """May it ship, in plain words.

    Attributes:
        state: ``yes``, ``no`` or ``unsure``.
        word: ``Yes``, ``No`` or ``Cannot decide``.
        title: one sentence.
        lines: since when, by whom, why.
        command: what to run next, empty for nothing.
        command_for: what that command is for.
    """

    state: str
    word: str
    title: str
    lines: tuple[str, ...]
    command: str = ""
    command_for: str = ""


@dataclass(frozen=True, slots=True)
class Highlight:
    """One headline number with its interval, meaning, and basis (metric, slice and n)."""

    value: str
    interval: str
    meaning: str
    basis: str
    anchor: str
    trust: TrustView | None = None


@dataclass(frozen=True, slots=True)
class ReasonView:
    """The outcome of one rule.

    Attributes:
        rule, why: its name and what it is for.
        state, outcome: whether it is met, as ``yes``/``unsure``/``no`` and in words.
        plain: the value and the bound in plain words, empty where they cannot be read.
        message: what the gate wrote, exactly.
        anchor, evidence: where its evidence is on the page, and the start of its id.
        command: what would change the outcome.
        svg: the interval against the bound.
        trust: the label of the benchmark that the value comes from, None where it has none.
        reason: the gate's reason itself.
        measurement: the value, None where it cannot be read.
    """

    rule: str
    state: str
    outcome: str
    plain: str
    message: str
    why: str
    anchor: str
    evidence: str
    command: str
    svg: Markup
    trust: TrustView | None
    reason: Reason
    measurement: Measurement | None


@dataclass(frozen=True, slots=True)
class FindingView:
    """One finding: its state, the same in words, and what to do."""

    state: str
    label: str
    code: str
    title: str
    where: str
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class EvidenceView:
    """One piece of evidence: what it is valid for, what it cost, and its measurements unless listed elsewhere."""

    anchor: str
    title: str
    id: str
    state: str
    label: str
    facts: tuple[tuple[str, str], ...]
    digests: tuple[tuple[str, str], ...]
    measurements: TableView
    listed_by_topic: bool = False


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """One release of the name."""

    ref: str
    state: str
    label: str
    aliases: tuple[str, ...]
    model: str
    who: str
    why: str
    when: str
    current: bool


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One record of the journal."""

    seq: str
    hash: str
    when: str
    who: str
    did: str
    subject: str
    why: str
    details: str


@dataclass(frozen=True, slots=True)
class ComponentView:
    """One thing the model was made from, with its licences and what they require."""

    title: str
    facts: str
    licences: TableView


@dataclass(frozen=True, slots=True)
class LicenceAnswer:
    """Whether a policy on licences allows a use.

    Attributes:
        question: such as whether it may be used commercially.
        word: the answer.
        text: the answer as a sentence.
        sources: what blocks it, one line each.
        num_blocking: how many sources block it, also those without a line.
    """

    question: str
    word: Literal["yes", "no", "unknown"]
    text: str
    sources: tuple[str, ...] = ()
    num_blocking: int = 0


@dataclass(frozen=True, slots=True)
class ProvenanceView:
    """What the model was made from.

    Attributes:
        lines: one sentence for each part.
        components: the parts with their licences.
        answer: whether it may be used commercially, and what blocks it.
    """

    lines: tuple[str, ...]
    components: tuple[ComponentView, ...]
    answer: LicenceAnswer


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One row of the summary: sentences under a label, and where on the page there is more; empty for nowhere."""

    label: str
    lines: tuple[str, ...]
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class DatasetView:
    """The dataset of the evaluation in numbers."""

    title: str
    lines: tuple[str, ...]
    warnings: tuple[str, ...]
    tables: tuple[TableView, ...]


@dataclass(frozen=True, slots=True)
class ReportPage:
    """A whole report in the order it is read."""

    title: str
    ref: str
    model: str
    decision: DecisionView
    summary: tuple[SummaryRow, ...]
    provenance: ProvenanceView
    approval: ApprovalView | None
    highlights: tuple[Highlight, ...]
    notices: tuple[str, ...]
    policy: str
    reasons: tuple[ReasonView, ...]
    chapters: tuple[Chapter, ...]
    topics: tuple[TopicView, ...]
    findings: tuple[FindingView, ...]
    findings_note: str
    data: DatasetView | None
    evidence: tuple[EvidenceView, ...]
    history: tuple[ReleaseRow, ...]
    journal: tuple[JournalRow, ...]
    journal_note: str
    verify_command: str
