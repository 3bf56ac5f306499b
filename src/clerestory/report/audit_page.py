"""The page of an audit: the verdict, the checks, and a contact sheet for each finding."""

from __future__ import annotations

from dataclasses import dataclass

from clerestory.core.units import plural
from clerestory.report import format
from clerestory.report.render import fill

OPENED_IMAGES, OPENED_GROUPS = 12, 6  # of a finding; a reader opens the others
# The chapters of the findings: the anchor, the title, what it is, and the states that it has.
CHAPTERS = (
    ("problems", "Problems", "Solve these before the data is used.", ("fail",)),
    (
        "warnings",
        "Warnings",
        "These may be intended. Look at the images and decide; the most serious come first.",
        ("warn",),
    ),
    ("notes", "Notes", "Nothing has to be done about these.", ("accepted", "not_run", "not_applicable", "pass")),
)
BADGES = {
    "fail": ("no", "problem"),
    "warn": ("unsure", "warning"),
    "accepted": ("plain", "accepted by a person"),
    "not_run": ("unsure", "not checked"),
    "not_applicable": ("plain", "does not apply"),
    "pass": ("plain", "note"),
}


@dataclass(frozen=True, slots=True)
class SheetImage:
    """One image of a contact sheet.

    Attributes:
        name: the id of its sample.
        thumbnail: a small copy as a data URI; empty if the image cannot be shown.
        width, height: of the thumbnail, in pixels.
        alt: what it shows, for people who do not see it.
        split: in words, empty if there is none.
        is_evaluated: whether its split evaluates a model.
        notes: facts about it.
        captions: texts that the finding is about.
    """

    name: str
    thumbnail: str = ""
    width: int = 0
    height: int = 0
    alt: str = ""
    split: str = ""
    is_evaluated: bool = False
    notes: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SheetGroup:
    """Images that belong together, such as copies of one image.

    Attributes:
        images: those that are shown.
        size: how many there are.
    """

    images: tuple[SheetImage, ...]
    size: int


@dataclass(frozen=True, slots=True)
class FindingSheet:
    """A finding with its contact sheet.

    Attributes:
        anchor: unique on the page.
        state, severity, code, title, message, fix: of the finding.
        why: why it matters, for people who are not engineers.
        extent: how much it concerns: ``198 images (33.1%)``.
        documentation: where its code is explained.
        images: those that are shown, unless they are in ``groups``.
        groups: those that are shown.
        places: other places and the observation there, such as a row of a table.
        more: what is left out.
        is_closed: whether a reader opens the images first.
        acceptance: who accepted it, why and until when, and what has lapsed; sentences.
    """

    anchor: str
    state: str
    severity: str
    code: str
    title: str
    message: str
    fix: str
    why: str
    extent: str
    documentation: str
    images: tuple[SheetImage, ...] = ()
    groups: tuple[SheetGroup, ...] = ()
    places: tuple[tuple[str, str], ...] = ()
    more: str = ""
    is_closed: bool = False
    acceptance: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckedTopic:
    """A part of the audit.

    Attributes:
        title: such as ``Copies``.
        what: its checks.
        state: ``no``, ``unsure``, ``yes`` or ``plain``, as a badge has it.
        result: in a few words.
    """

    title: str
    what: str
    state: str
    result: str


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """A score of a model with and without some images, such as those that it was trained on.

    Attributes:
        name: of the score.
        measured, corrected: with and without them.
        left_out: which images.
    """

    name: str
    measured: str
    corrected: str
    left_out: str = "the leaked images"


@dataclass(frozen=True, slots=True)
class DetectorLine:
    """How well one detector works on this data, as a calibration measured it.

    Attributes:
        name: of its finding.
        recall: the share of planted faults that were reported, with n and interval.
        weakest: the kind of fault that is reported least often.
        precision: the share of reports that were planted.
        silence: what follows for the images that were not reported.
    """

    name: str
    recall: str
    weakest: str
    precision: str
    silence: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Everything that the page of an audit shows.

    Attributes:
        dataset: its name.
        samples: how many images it has.
        findings: in the order of the page.
        checked: the parts of the audit.
        not_checked: sentences.
        scores: of a model, if images leaked.
        facts: when, of what and with which limits.
        command: lists every image of every finding.
        trust: how far the silence of the audit can be trusted; a sentence.
        detectors: the numbers behind it, if the audit was calibrated on this data.
    """

    dataset: str
    samples: int
    findings: tuple[FindingSheet, ...]
    checked: tuple[CheckedTopic, ...]
    not_checked: tuple[str, ...]
    scores: tuple[ScoreLine, ...]
    facts: tuple[tuple[str, str], ...]
    command: str
    trust: str = ""
    detectors: tuple[DetectorLine, ...] = ()

    @property
    def state(self) -> str:
        """The badge of the verdict."""
        states = {finding.state for finding in self.findings}
        return "no" if "fail" in states else "unsure" if "warn" in states else "yes"

    @property
    def verdict(self) -> str:
        """``5 problems, 26 warnings in 599 images``."""
        counted = [sum(finding.state == state for finding in self.findings) for state in ("fail", "warn")]
        named = ", ".join(plural(n, word) for n, word in zip(counted, ("problem", "warning"), strict=True) if n)
        return f"{named or 'Nothing found'} in {plural(self.samples, 'image')}"


def render_audit(page: AuditPage) -> str:
    """One HTML document that needs nothing else."""
    chapters = [
        (anchor, title, lead, [finding for finding in page.findings if finding.state in states])
        for anchor, title, lead, states in CHAPTERS
    ]
    return fill(
        "audit.html",
        page=page,
        chapters=[each for each in chapters if each[3]],
        badges=BADGES,
        sentence=format.sentence,
        opened_images=OPENED_IMAGES,
        opened_groups=OPENED_GROUPS,
    )
