"""The input of a report: one frozen value that everything on the page follows from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from clerestory.core.evidence import Evidence, Finding, Measurement
from clerestory.core.release import Alias, Event, Policy, Release
from clerestory.stats.calibration import ReliabilityBin
from clerestory.store.approvals import ApprovalState

EVALUATION, TRAINING = "evaluate", "train"
TRAINING_KINDS = (TRAINING, "tune")  # the stages that make models


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """A piece of evidence and whether it is still up to date.

    Attributes:
        evidence: the piece itself.
        id: its digest.
        changed: names of the digests that differ today, such as ``code``; empty while it is up to date.
    """

    evidence: Evidence
    id: str
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogSeries:
    """One curve of the training log.

    Attributes:
        name: the log's key, such as ``loss`` or ``val_recall@10``.
        points: (step, value) in the order of steps.
        values_per_point: how many logged values each point is the mean of.
        n: how many samples each value was measured on, 0 where the log does not say.
    """

    name: str
    points: tuple[tuple[int, float], ...]
    values_per_point: int = 1
    n: int = 0


@dataclass(frozen=True, slots=True)
class TrainingLog:
    """The curves of a training log.

    Attributes:
        losses: the whole loss first, then its terms.
        validation: metrics on the validation split during training.
        num_lines, num_unreadable: lines that could and could not be read.
        early_step: the step of the early checkpoint, 0 when none was saved.
    """

    losses: tuple[LogSeries, ...]
    validation: tuple[LogSeries, ...]
    num_lines: int
    num_unreadable: int = 0
    early_step: int = 0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One of the nearest answers to a query.

    Attributes:
        sample: the sample's id, empty when the artifact names none.
        caption: its caption.
        correct: whether it is a correct answer.
        thumbnail: a data URI, empty when there is none.
    """

    sample: str
    caption: str
    correct: bool
    thumbnail: str = ""


@dataclass(frozen=True, slots=True)
class RetrievalExample:
    """One retrieval query and its nearest answers, best first.

    Attributes:
        task: ``image_to_text`` or ``text_to_image``.
        split: the split it comes from.
        grade: ``best``, ``typical`` or ``worst``.
        sample, caption: the sample of the query.
        rank: the rank of the correct answer, 1 is first.
        candidates: how many candidates there were, 0 when not recorded.
        neighbours: the nearest answers.
        thumbnail: of the query's image.
    """

    task: str
    split: str
    grade: str
    sample: str
    caption: str
    rank: float
    candidates: int
    neighbours: tuple[Neighbour, ...]
    thumbnail: str = ""


@dataclass(frozen=True, slots=True)
class CaptionExample:
    """An image with its reference caption and the generated ones, best first."""

    split: str
    sample: str
    caption: str
    suggestions: tuple[str, ...]
    thumbnail: str = ""


@dataclass(frozen=True, slots=True)
class SplitSize:
    """How many images and distinct concepts a split has."""

    name: str
    images: int
    concepts: int


@dataclass(frozen=True, slots=True)
class StyleSize:
    """How many images a style has, and under which licences."""

    name: str
    images: int
    licences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LicenceSize:
    """How many images are under a licence, and in which styles."""

    licence: str
    images: int
    styles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """The dataset a model was evaluated on, as far as it is known.

    Attributes:
        name: of the dataset.
        digest: its digest.
        size: its number of images, 0 when not known.
        counted: whether the images themselves were available, so that the rest could be counted.
        concepts, captions, languages: distinct concepts; all captions; their languages, the most frequent first.
        splits, styles, licences: how many images each has.
    """

    name: str
    digest: str
    size: int
    counted: bool = False
    concepts: int = 0
    captions: int = 0
    languages: tuple[str, ...] = ()
    splits: tuple[SplitSize, ...] = ()
    styles: tuple[StyleSize, ...] = ()
    licences: tuple[LicenceSize, ...] = ()


@dataclass(frozen=True, slots=True)
class LicenceShare:
    """A licence (an SPDX expression, empty where none is recorded) and how many images are under it, 0 if unknown."""

    licence: str
    images: int


class Basis(StrEnum):
    """Where the knowledge about a component comes from."""

    RECORDED = "recorded"  # this store saw it: it was trained on, or started from, exactly this digest
    DECLARED = "declared"  # somebody says so: a model card, or the package that includes the model


@dataclass(frozen=True, slots=True)
class Component:
    """One thing a model was made from, or the model itself where it comes from elsewhere.

    Attributes:
        role: ``model``, ``training data``, ``base model``, ``text tower`` or ``class names``.
        name: of the dataset or model; empty where it is not recorded.
        digest: its digest, empty where it is not recorded.
        images: how many images (of a text tower: texts) of it were trained on, 0 for a model or where it is not
            recorded.
        licences: its licences; empty where they are not recorded.
        note: such as ``of the base model``.
        basis: recorded in this store, or declared by somebody.
        declared_by: who declares it, such as ``its model card``; empty if it is recorded.
        source: where it was brought in from, such as a path or ``hf:org/name``; empty if that is not recorded.
        added_by, added: who brought it into this store, and when (ISO 8601); empty if that is not recorded.
        part_of: the ``key`` of the component that was made from it; empty if that is the model.
        unit: of ``images``.
    """

    role: str
    name: str
    digest: str
    images: int
    licences: tuple[LicenceShare, ...]
    note: str = ""
    basis: Basis = Basis.RECORDED
    declared_by: str = ""
    source: str = ""
    added_by: str = ""
    added: str = ""
    part_of: str = ""
    unit: str = "images"

    @property
    def key(self) -> str:
        """Identifies it among the components of a model."""
        return f"{self.role}:{self.digest or self.name}"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One record of the journal: its number in the chain, its hash and the event."""

    seq: int
    hash: str
    event: Event


@dataclass(frozen=True, slots=True)
class ComparedRelease:
    """Another release of the same name to compare with: a refused one, or for a refused one the live one."""

    release: Release
    evidence: tuple[EvidenceRecord, ...]


@dataclass(frozen=True, slots=True)
class ReliabilityDiagram:
    """Confidence against accuracy of one task and split; ``scaled`` after temperature scaling."""

    task: str
    split: str
    scaled: bool
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True)
class LatencyHistogram:
    """Latencies of single requests of one operation, counted.

    Attributes:
        operation: such as ``embed_image``.
        edges_ms: ends of the bins, one more than there are bins.
        counts: requests in each bin.
        num_beyond: requests that took longer than the last edge.
        max_ms: the longest of all.
    """

    operation: str
    edges_ms: tuple[float, ...]
    counts: tuple[int, ...]
    num_beyond: int
    max_ms: float


@dataclass(frozen=True, slots=True)
class BenchmarkTrust:
    """Whether the numbers of one benchmark can be trusted.

    Attributes:
        task, split: the benchmark; an empty split stands for all of them.
        label: ``yes``, ``careful`` or ``no``.
        reasons: why not, one sentence each.
        passed: the checks without objection, one sentence each.
    """

    task: str
    split: str
    label: str
    reasons: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FaultResult:
    """A fault that was injected into a copy of the model, and which gates detected it."""

    name: str
    description: str
    detections: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class SelfTestResult:
    """A self-test: one result per injected fault, and how many unchanged rebuilds raised a false alarm."""

    record: EvidenceRecord
    gates: tuple[str, ...]
    faults: tuple[FaultResult, ...]
    num_rebuilds: int
    num_false_alarms: int


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """What the rows and artifacts of an evaluation say besides its measurements.

    Attributes:
        reliability: reliability diagrams.
        latencies: of single requests.
        trust: of each benchmark.
        by_severity: recall, accuracy and the baseline's accuracy at each severity over all corruptions, and the
            baseline's under each corruption; computed from the rows by the recipe each names.
        chance_levels: expected accuracy of guessing on each benchmark, computed likewise.
    """

    reliability: tuple[ReliabilityDiagram, ...] = ()
    latencies: tuple[LatencyHistogram, ...] = ()
    trust: tuple[BenchmarkTrust, ...] = ()
    by_severity: tuple[Measurement, ...] = ()
    chance_levels: tuple[Measurement, ...] = ()


@dataclass(frozen=True, slots=True)
class ExpertGroup:
    """Which experts the router chose for each value of a group, such as the style.

    Attributes:
        name: of the group.
        specialisation: normalised mutual information of value and expert, 0 to 1.
        values: the names of the rows.
        choices: for each value how many choices fell on each expert.
    """

    name: str
    specialisation: float
    values: tuple[str, ...]
    choices: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class ExpertLayer:
    """One mixture-of-experts layer.

    Attributes:
        name: in the model.
        load: choices of each expert.
        max_over_mean: load of the busiest expert divided by the mean load.
        dead: experts with almost no load, counted from 0.
        modalities: whose tokens it processes.
        groups: the same choices by group.
    """

    name: str
    load: tuple[int, ...]
    max_over_mean: float
    dead: tuple[int, ...]
    modalities: tuple[str, ...]
    groups: tuple[ExpertGroup, ...]


@dataclass(frozen=True, slots=True)
class ExpertUsage:
    """The expert report of a training: its layers, and on how many images of which split it was measured."""

    layers: tuple[ExpertLayer, ...]
    images: int
    split: str


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything known about one model.

    Attributes:
        ref: the reference the report was requested for.
        model: the model's digest.
        release: the release it resolved to, None for a model without a release.
        aliases: the aliases of the release's name.
        policy: the policy it was decided by, None when it cannot be read.
        evidence: what its decision rests on, else the newest of each kind for the model; newest last.
        promotion: the journal entry that made it live, None when it is not live or the journal does not say.
        training, examples, captions, data: parts of the evidence, None or empty where missing; ``data`` is what the
            model was evaluated on.
        components: what the model was made from, such as its training data; empty where nothing is recorded.
        approval: where the approval of the release stands; None for a model, or where it cannot be read.
        compared: another release to compare with.
        history: every release of the name, newest first.
        journal: events about the name, newest first.
        num_records: how many records the whole journal has.
        findings: of the evidence and of the dataset.
        missing: what this report cannot show, and why.
        diagnostics: from the rows and artifacts of its evaluation.
        self_test: the newest self-test with this model, None where there was none.
        experts: usage of its experts, None for a dense model.
    """

    ref: str
    model: str
    release: Release | None = None
    aliases: tuple[Alias, ...] = ()
    policy: Policy | None = None
    evidence: tuple[EvidenceRecord, ...] = ()
    promotion: JournalEntry | None = None
    training: TrainingLog | None = None
    examples: tuple[RetrievalExample, ...] = ()
    captions: tuple[CaptionExample, ...] = ()
    data: DatasetSummary | None = None
    components: tuple[Component, ...] = ()
    approval: ApprovalState | None = None
    compared: ComparedRelease | None = None
    history: tuple[Release, ...] = ()
    journal: tuple[JournalEntry, ...] = ()
    num_records: int = 0
    findings: tuple[Finding, ...] = ()
    missing: tuple[str, ...] = field(default=())
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    self_test: SelfTestResult | None = None
    experts: ExpertUsage | None = None

    @property
    def name(self) -> str:
        """What to call the model: ``icons@3``, or the start of its digest."""
        return self.release.ref if self.release else self.model[:12]

    @property
    def is_live(self) -> bool:
        """Whether ``live`` points at this release."""
        release = self.release
        return release is not None and any(a.alias == "live" and a.number == release.number for a in self.aliases)

    @property
    def evaluation(self) -> Evidence | None:
        """The newest evaluation of the model."""
        record = self.of_kind(EVALUATION)
        return record.evidence if record else None

    @property
    def training_record(self) -> EvidenceRecord | None:
        """The newest evidence of how this model was made: of its training, or of its fine-tuning."""
        kinds = TRAINING_KINDS
        return next((record for record in reversed(self.evidence) if record.evidence.kind in kinds), None)

    def of_kind(self, kind: str) -> EvidenceRecord | None:
        """The newest evidence of one kind."""
        return next((record for record in reversed(self.evidence) if record.evidence.kind == kind), None)
