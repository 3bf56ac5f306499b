"""What a report is made from: one frozen value that everything shown follows from."""

from __future__ import annotations

from dataclasses import dataclass, field

from clerestory.core.evidence import Evidence, Finding, Measurement
from clerestory.core.release import Alias, Event, Policy, Release


@dataclass(frozen=True, slots=True)
class Held:
    """A piece of evidence and whether it still holds.

    Attributes:
        evidence: the piece itself.
        id: its digest.
        changed: what is not the same any more as when it was made (``code``); empty while it holds.
    """

    evidence: Evidence
    id: str
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """One curve of the training log.

    Attributes:
        name: the log's key, such as ``loss`` or ``val_recall@10``.
        points: (step, value) in the order of steps.
        merged: how many logged values each point is the mean of, 1 for the values themselves.
        n: how many samples each value was measured on, 0 where the log does not say.
    """

    name: str
    points: tuple[tuple[int, float], ...]
    merged: int = 1
    n: int = 0


@dataclass(frozen=True, slots=True)
class Training:
    """What the training log says.

    Attributes:
        losses: the whole loss first, then its parts.
        validation: shares measured on tuning pictures while training.
        lines: readable lines of the log.
        unreadable: lines that could not be read.
        early_step: the step of the early checkpoint, 0 when none was kept.
    """

    losses: tuple[Series, ...]
    validation: tuple[Series, ...]
    lines: int
    unreadable: int = 0
    early_step: int = 0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One of the model's nearest answers.

    Attributes:
        sample: the sample's id, empty when the artifact names none.
        caption: its caption.
        right: whether it is a right answer.
        picture: a thumbnail as a data URI, empty when there is none.
    """

    sample: str
    caption: str
    right: bool
    picture: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """One question put to the model and its nearest answers, best first.

    Attributes:
        task: ``image_to_text`` or ``text_to_image``.
        split: the split it comes from.
        grade: ``best``, ``typical`` or ``worst``.
        sample, caption: the sample asked about.
        rank: the place of the right answer, 1 is first.
        candidates: how many answers there were to choose from, 0 when not recorded.
        neighbours: the nearest answers.
        picture: a thumbnail of the sample asked about.
    """

    task: str
    split: str
    grade: str
    sample: str
    caption: str
    rank: float
    candidates: int
    neighbours: tuple[Neighbour, ...]
    picture: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """A picture with its real caption and what the model wrote, best first."""

    split: str
    sample: str
    caption: str
    suggestions: tuple[str, ...]
    picture: str = ""


@dataclass(frozen=True, slots=True)
class SplitSize:
    """How many pictures and distinct concepts a split has."""

    name: str
    pictures: int
    concepts: int


@dataclass(frozen=True, slots=True)
class StyleSize:
    """How many pictures a style has, under which licences, and how many of them are in each split."""

    name: str
    pictures: int
    licences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LicenceSize:
    """How many pictures come under a licence."""

    licence: str
    pictures: int
    styles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Data:
    """The pictures a model was made from, as far as they are known.

    Attributes:
        name: what people call the data set.
        digest: its digest.
        size: its number of pictures, 0 when not known.
        examined: whether the pictures themselves were at hand, so that the rest could be counted.
    """

    name: str
    digest: str
    size: int
    examined: bool = False
    concepts: int = 0
    captions: int = 0
    languages: tuple[str, ...] = ()
    splits: tuple[SplitSize, ...] = ()
    styles: tuple[StyleSize, ...] = ()
    licences: tuple[LicenceSize, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of the journal: its number in the chain, its hash and what happened."""

    seq: int
    hash: str
    event: Event


@dataclass(frozen=True, slots=True)
class Rival:
    """A refused checkpoint of the same line, to compare with, and the evidence it was refused on."""

    release: Release
    evidence: tuple[Held, ...]


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers given with about the same confidence: how sure they were, and how many of them were right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Diagram:
    """Confidence against accuracy of one task and split; ``scaled`` after the temperature was applied."""

    task: str
    split: str
    scaled: bool
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long single requests of one operation took, counted.

    Attributes:
        operation: such as ``embed_image``.
        edges: the bins' ends in milliseconds, one more than there are bins.
        counts: how many requests fell into each bin.
        beyond: how many took longer than the last edge.
        longest: the longest of all, in milliseconds.
    """

    operation: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    beyond: int
    longest: float


@dataclass(frozen=True, slots=True)
class Trust:
    """Whether the numbers of one benchmark may be believed.

    Attributes:
        task, split: the benchmark; an empty split stands for all of them.
        label: ``yes``, ``careful`` or ``no``.
        reasons: why not, one sentence each.
        passed: what was found in order.
    """

    task: str
    split: str
    label: str
    reasons: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that was put into a copy on purpose, and which gates noticed it."""

    name: str
    words: str
    noticed: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What came of putting faults in: one entry per fault; and how many rebuilds without a fault raised an alarm."""

    held: Held
    gates: tuple[str, ...]
    faults: tuple[Fault, ...]
    rebuilds: int
    alarms: int


@dataclass(frozen=True, slots=True)
class Examined:
    """What the rows and files of an examination say besides its measurements.

    Attributes:
        diagrams: of reliability.
        waiting: of single requests.
        trust: of each benchmark.
        severities: recall, accuracy and the baseline's accuracy at each severity over all corruptions, and the
            baseline's under each corruption; computed from the rows by the recipe each names.
        guesses: what guessing would reach on each benchmark, computed likewise.
    """

    diagrams: tuple[Diagram, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    trust: tuple[Trust, ...] = ()
    severities: tuple[Measurement, ...] = ()
    guesses: tuple[Measurement, ...] = ()


@dataclass(frozen=True, slots=True)
class ExpertGroup:
    """The choices of experts by one kind of group, such as the style.

    Attributes:
        name: of the group.
        specialisation: how much its value and the expert tell about one another, 0..1.
        values: the names of the rows.
        choices: for each value how many choices fell on each expert.
    """

    name: str
    specialisation: float
    values: tuple[str, ...]
    choices: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class ExpertLayer:
    """One layer with experts.

    Attributes:
        name: in the model.
        load: choices of each expert.
        max_over_mean: of the busiest expert.
        dead: experts with next to no work, counted from 0.
        modalities: whose tokens it sees.
        groups: the same choices by group.
    """

    name: str
    load: tuple[int, ...]
    max_over_mean: float
    dead: tuple[int, ...]
    modalities: tuple[str, ...]
    groups: tuple[ExpertGroup, ...]


@dataclass(frozen=True, slots=True)
class Experts:
    """The experts' report card: its layers, and on how many pictures of which split it was made."""

    layers: tuple[ExpertLayer, ...]
    pictures: int
    split: str


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything known about one model.

    Attributes:
        ref: what was asked for.
        model: the model's digest.
        release: the release it resolved to, None for a model that was never put to the gate.
        aliases: the moving names of its line.
        policy: the policy it was judged by, None when it cannot be read.
        evidence: what its decision rests on, else what is known of the model; newest last.
        live: the journal entry that made it live, None when it is not live or the journal does not say.
        training, examples, written, data: parts of the evidence, None or empty where missing.
        rival: a refused checkpoint of the same line.
        history: every release of the line, newest first.
        journal: what happened to the line, newest first.
        findings: what was noticed, by the evidence, by bringing the data in, and by making this report.
        missing: what this report cannot show, and why.
        examined: what the rows and files of its examination say besides the measurements.
        self_test: the newest test of the gates with this model, None where there was none.
        experts: the report card of its experts, None where it has none.
    """

    ref: str
    model: str
    release: Release | None = None
    aliases: tuple[Alias, ...] = ()
    policy: Policy | None = None
    evidence: tuple[Held, ...] = ()
    live: Entry | None = None
    training: Training | None = None
    examples: tuple[Example, ...] = ()
    written: tuple[Written, ...] = ()
    data: Data | None = None
    rival: Rival | None = None
    history: tuple[Release, ...] = ()
    journal: tuple[Entry, ...] = ()
    findings: tuple[Finding, ...] = ()
    missing: tuple[str, ...] = field(default=())
    examined: Examined = field(default_factory=Examined)
    self_test: SelfTest | None = None
    experts: Experts | None = None

    @property
    def name(self) -> str:
        """What to call the model: ``icons@3``, or the start of its digest."""
        return self.release.ref if self.release else self.model[:12]

    @property
    def is_live(self) -> bool:
        """Whether ``live`` points at this release."""
        release = self.release
        return release is not None and any(a.alias == "live" and a.number == release.number for a in self.aliases)

    def of_kind(self, kind: str) -> Held | None:
        """The newest evidence of one kind."""
        return next((held for held in reversed(self.evidence) if held.evidence.kind == kind), None)
