"""Measurements, findings, and the evidence that consists of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from clerestory.core.codec import Facts, Tags
from clerestory.core.digest import digest

Direction = Literal["higher", "lower", "none"]
State = Literal["pass", "fail", "warn", "not_applicable", "not_run", "accepted"]
Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval.

    Attributes:
        low, high: its bounds, in the measurement's unit.
        method: how it was computed, such as ``cluster-t``.
        level: its nominal coverage.
    """

    low: float
    high: float
    method: str
    level: float = 0.95

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"an interval needs finite bounds in order, got {self.low}, {self.high}")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a measurement is computed from the per-sample rows, so that anyone can recompute it.

    Attributes:
        statistic: a name known to ``clerestory.stats.aggregate``, such as ``mean``, ``share_at_most``, ``quantile``.
        column: the column of the rows it is computed from.
        where: the rows it is computed on: these columns equal these values; ``*`` is any value except the empty one.
        cluster: the column whose values are independent of one another; empty when every row is independent.
        parameter: ``k`` of ``share_at_most``, ``q`` of ``quantile``; 0 if the statistic has none.
        against: the second column of a statistic of two columns, such as the correctness of answers; otherwise empty.
    """

    statistic: str
    column: str
    where: Tags = field(default_factory=Tags)
    cluster: str = ""
    parameter: float = 0.0
    against: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number with its n, its interval (or the reason why it has none), its unit and its slice.

    Attributes:
        name: such as ``recall@10``.
        value: finite.
        unit: such as ``share``, ``ms``, ``rank``.
        n: the number of rows it was computed from, at least 1.
        interval: its confidence interval, or None with the reason in ``no_interval``.
        no_interval: why there is no interval; not empty exactly when ``interval`` is None.
        slice: what it was computed on, such as ``task=image_to_text, split=test``.
        direction: which way is better.
        clusters: the number of independent clusters that the rows form; None if they form none.
        recipe: how it is computed from the rows of the evidence; None if it is not computed from rows.

    Raises:
        ValueError: built without n, or with neither an interval nor the reason for having none.
    """

    name: str
    value: float
    unit: str
    n: int
    interval: Interval | None
    no_interval: str = ""
    slice: Tags = field(default_factory=Tags)
    direction: Direction = "higher"
    clusters: int | None = None
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"{self.name} is {self.value}: a measurement is a finite number")
        if self.n < 1:
            raise ValueError(f"{self.name} has n={self.n}: a measurement needs at least one row")
        if (self.interval is None) != bool(self.no_interval):
            raise ValueError(f"{self.name} needs an interval, or else the reason why it has none")

    @property
    def key(self) -> str:
        """Name and slice as one string: ``recall@10[split=test, task=image_to_text]``."""
        return f"{self.name}[{self.slice}]" if self.slice else self.name


@dataclass(frozen=True, slots=True)
class Finding:
    """An observation about data, a model or a run. Built by its ``FindingCode`` (``clerestory.core.findings``).

    Attributes:
        code: permanent, such as ``CLR-D001``; it has an entry in ``docs/reference/findings.md``.
        severity: ``info``, ``warning`` or ``error``.
        state: ``pass``, ``fail``, ``warn``, ``not_applicable``, ``not_run`` or ``accepted`` (by a person).
        where: the sample, file, slice or setting it is about.
        message: one sentence for people; nothing parses it.
        fix: what to do about it.
        reason: the cause, as the value of an enum; empty if the code has one cause only.
        count: how many samples, rows or steps it concerns; None if that does not apply.
        details: further typed facts by name, such as ``task``, ``split``, ``group``.
    """

    code: str
    severity: Severity
    state: State
    where: str
    message: str
    fix: str = ""
    reason: str = ""
    count: int | None = None
    details: Facts = field(default_factory=Facts)

    def line(self) -> str:
        """``CLR-D001 a.png: the image is empty``."""
        return f"{self.code} {self.where}: {self.message}"


@dataclass(frozen=True, slots=True)
class Subject:
    """The digests for which a piece of evidence is valid; when one of them changes, the evidence is stale.

    Attributes:
        model, data, code, config, environment: SHA-256 each, empty if the evidence does not depend on it.
    """

    model: str = ""
    data: str = ""
    code: str = ""
    config: str = ""
    environment: str = ""

    def differing_fields(self, other: Subject) -> tuple[str, ...]:
        """The names of the digests that differ in ``other``."""
        names = ("model", "data", "code", "config", "environment")
        return tuple(name for name in names if getattr(self, name) != getattr(other, name))


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a run: wall-clock and processor seconds, peak resident memory in MiB."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """Measurements and findings about exactly one subject; never edited once stored.

    Attributes:
        kind: of the stage that produced it, such as ``evaluate``.
        subject: the digests for which it is valid.
        measurements: the numbers, each with its interval.
        findings: the observations.
        cost: of the run that produced it.
        created: the time, ISO 8601 in UTC.
        rows: SHA-256 of the stored per-sample rows (Parquet), empty without rows.
        artifacts: SHA-256 of further stored files by name (``log``, ``examples``).
        facts: typed context of the measurements: names, sizes, settings.
    """

    kind: str
    subject: Subject
    measurements: tuple[Measurement, ...]
    findings: tuple[Finding, ...]
    cost: Cost
    created: str
    rows: str = ""
    artifacts: Tags = field(default_factory=Tags)
    facts: Facts = field(default_factory=Facts)

    @property
    def id(self) -> str:
        """SHA-256 of the canonical JSON."""
        return digest(self)

    def find(self, name: str, where: Mapping[str, str]) -> Measurement | None:
        """The measurement of this name whose slice is exactly ``where``."""
        slice_ = Tags(where)
        return next((m for m in self.measurements if m.name == name and m.slice == slice_), None)
