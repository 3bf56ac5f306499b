"""What a page shows, as frozen values: the HTML, the Markdown and the JSON are three renderings of it."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a head; the first column names the row."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class TrustView:
    """Whether a benchmark can be believed: state and words, its name, and why.

    Attributes:
        state: ``yes``, ``unsure`` or ``no``.
        words: the label.
        name: the benchmark in plain words.
        anchor: where its reasons stand on the page.
        reasons: why not, one sentence each.
        passed: what was found in order.
    """

    state: str
    words: str
    name: str
    anchor: str
    reasons: tuple[str, ...]
    passed: tuple[str, ...] = ()


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
        benchmarks: the (task, split) of what is shown, so that their labels can be put beside it.
        trust: these labels.
    """

    name: str
    title: str
    desc: str
    svg: Markup
    note: str
    table: Table
    benchmarks: tuple[tuple[str, str], ...] = ()
    trust: tuple[TrustView, ...] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a matrix: state and words."""

    state: str
    words: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """Cells under a head, one row for each label."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True, slots=True)
class Absence:
    """Something that was not measured: one sentence, and the command that would change that."""

    words: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Chapter:
    """One question about a model, answered in a sentence first.

    Attributes:
        anchor: on the page.
        title: the question.
        short: the same for the list of contents.
        answer: one plain sentence, with its numbers.
        lead: how to read what follows.
        figures: shown at once.
        more: shown when asked for, under ``more_title``.
        tables: numbers without a drawing.
        matrix: for the test of the gates.
        trust: labels of benchmarks with their reasons.
        absent: what could not be shown.
        warnings: what to know before relying on it.
    """

    anchor: str
    title: str
    short: str
    answer: str = ""
    lead: str = ""
    figures: tuple[Figure, ...] = ()
    more: tuple[Figure, ...] = ()
    more_title: str = ""
    tables: tuple[Table, ...] = ()
    matrix: Matrix | None = None
    trust: tuple[TrustView, ...] = ()
    absent: tuple[Absence, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NumberView:
    """One measurement of the model card; ``part`` tells a finer slice from a whole task."""

    what: str
    name: str
    where: str
    value: str
    counted: str
    part: bool


@dataclass(frozen=True, slots=True)
class NumberGroup:
    """The numbers of one benchmark, with its label."""

    title: str
    numbers: tuple[NumberView, ...]
    trust: TrustView | None


@dataclass(frozen=True, slots=True)
class CardPart:
    """All numbers that answer one question, with the sentence that sums them up."""

    anchor: str
    question: str
    answer: str
    count: int
    groups: tuple[NumberGroup, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """May it ship, in plain words.

    Attributes:
        state: ``yes``, ``no`` or ``unsure``.
        word: ``Yes``, ``No`` or ``Cannot tell``.
        title: one sentence.
        lines: since when, by whom, why.
        command: what to run next, empty when nothing is.
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
    """One number that anybody can understand, with its interval, n and slice."""

    text: str
    between: str
    meaning: str
    basis: str
    anchor: str
    trust: TrustView | None = None


@dataclass(frozen=True, slots=True)
class ReasonView:
    """Why one rule holds or not.

    Attributes:
        rule, why: its name and what it is for.
        state, words: whether it holds.
        plain: the number and the bound in plain words, empty where they cannot be read.
        message: what the gate wrote, exactly.
        anchor, evidence: where its evidence is on the page, and the start of its id.
        command: what would change the outcome.
        svg: the interval against the bound.
        trust: the label of the benchmark that the number comes from, None where it has none.
    """

    rule: str
    state: str
    words: str
    plain: str
    message: str
    why: str
    anchor: str
    evidence: str
    command: str
    svg: Markup
    trust: TrustView | None = None


@dataclass(frozen=True, slots=True)
class ExampleView:
    """One question and the nearest answers."""

    grade: str
    question: str
    picture: str
    sample: str
    result: str
    right: bool
    neighbours: tuple[NeighbourView, ...]


@dataclass(frozen=True, slots=True)
class NeighbourView:
    """One nearest answer."""

    place: int
    caption: str
    right: bool
    picture: str


@dataclass(frozen=True, slots=True)
class ExampleGroup:
    """The examples of one direction on one split; a question is a picture or some words."""

    title: str
    asks_picture: bool
    examples: tuple[ExampleView, ...]


@dataclass(frozen=True, slots=True)
class WrittenView:
    """A picture, its real caption and what the model wrote."""

    picture: str
    sample: str
    caption: str
    suggestions: tuple[str, ...]
    right: bool


@dataclass(frozen=True, slots=True)
class WrittenGroup:
    """What the model wrote about pictures of one split."""

    title: str
    written: tuple[WrittenView, ...]


@dataclass(frozen=True, slots=True)
class FindingView:
    """One finding: state in words and colour, and what to do."""

    state: str
    words: str
    code: str
    where: str
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class EvidenceView:
    """One piece of evidence: what it holds for, what it took, and everything it measured (or that the card has it)."""

    anchor: str
    title: str
    id: str
    state: str
    words: str
    facts: tuple[tuple[str, str], ...]
    digests: tuple[tuple[str, str], ...]
    measurements: Table
    in_card: bool = False


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One release of the line."""

    ref: str
    state: str
    words: str
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
class DataView:
    """The pictures in numbers."""

    title: str
    lines: tuple[str, ...]
    warnings: tuple[str, ...]
    tables: tuple[Table, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report, section by section, in the order it is read."""

    title: str
    ref: str
    model: str
    answer: Answer
    highlights: tuple[Highlight, ...]
    notices: tuple[str, ...]
    policy: str
    reasons: tuple[ReasonView, ...]
    learning: tuple[Figure, ...]
    learning_note: str
    quality: tuple[Figure, ...]
    weak: tuple[Figure, ...]
    captions: tuple[Figure, ...]
    speed: tuple[Figure, ...]
    examples: tuple[ExampleGroup, ...]
    written: tuple[WrittenGroup, ...]
    comparison: Table | None
    comparison_note: str
    findings: tuple[FindingView, ...]
    findings_note: str
    data: DataView | None
    evidence: tuple[EvidenceView, ...]
    history: tuple[HistoryRow, ...]
    journal: tuple[JournalRow, ...]
    journal_note: str
    check: str
    chapters: tuple[Chapter, ...] = ()
    inside: Chapter | None = None
    card: tuple[CardPart, ...] = ()
