"""The estimate of a training run, stored until the run is over, and its accuracy."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from clerestory.core.codec import decode, encode
from clerestory.core.digest import digest
from clerestory.core.errors import ConfigError
from clerestory.core.evidence import Cost, Measurement, Subject
from clerestory.core.units import duration
from clerestory.stats.metrics import metric

NO_INTERVAL = "one run and one estimate of it"


@dataclass(frozen=True, slots=True)
class TrainEstimate:
    """The estimated time, memory and cost of one training run on this machine.

    Attributes:
        steps, batch_size: of the run.
        seconds: wall time of the whole run, preparation included.
        low, high: likely range of the wall time, if the machine stays as busy as it is.
        peak_mib: peak resident memory of the process.
        prepare_seconds: time until the first step.
        step_seconds: time of a step.
        validate_seconds, save_seconds: time of all validations, and of all checkpoints and models.
        measured_steps: real steps that the estimate is based on.
        price_per_hour: of the machine; None if unknown.
        currency: of the price.
    """

    steps: int
    batch_size: int
    seconds: float
    low: float
    high: float
    peak_mib: float
    prepare_seconds: float
    step_seconds: float
    validate_seconds: float
    save_seconds: float
    measured_steps: int
    price_per_hour: float | None = None
    currency: str = ""

    @property
    def cost(self) -> float | None:
        """The cost of the run in ``currency``; None without a price."""
        return None if self.price_per_hour is None else self.seconds / 3600 * self.price_per_hour

    def lines(self) -> tuple[str, ...]:
        """The estimate for people, a line each."""
        lines = [
            f"time      {duration(self.seconds)} (likely {duration(self.low)} to {duration(self.high)})",
            f"          {duration(self.prepare_seconds)} to read and prepare the data, {self.steps} steps of "
            f"{self.step_seconds:.2g} s, {duration(self.validate_seconds)} to validate and "
            f"{duration(self.save_seconds)} to save",
            f"memory    {self.peak_mib:.0f} MiB at most",
        ]
        if self.cost is not None and self.price_per_hour is not None:
            lines.append(f"cost      {self._money(self.cost)}, at {self._money(self.price_per_hour)} per hour")
        lines.append(
            f"based on  {self.measured_steps} real steps of {self.batch_size} images, with the machine as busy as now"
        )
        return tuple(lines)

    def _money(self, amount: float) -> str:
        return f"{amount:.2f} {self.currency}".rstrip() if amount >= 1 else f"{amount:.2g} {self.currency}".rstrip()


def accuracy(estimate: TrainEstimate, cost: Cost) -> tuple[Measurement, ...]:
    """Actual divided by estimated time and memory; 1 is a perfect estimate."""
    pairs = {
        "plan_time_ratio": (cost.seconds, estimate.seconds),
        "plan_memory_ratio": (cost.peak_mib, estimate.peak_mib),
    }
    return tuple(
        Measurement(
            name,
            actual / estimated,
            metric(name).unit,
            1,
            interval=None,
            no_interval=NO_INTERVAL,
            direction=metric(name).direction,
        )
        for name, (actual, estimated) in pairs.items()
        if estimated > 0 and math.isfinite(actual / estimated)
    )


def save(estimate: TrainEstimate, subject: Subject, folder: Path) -> Path:
    """Store the estimate of a run until that run is over."""
    file = _file(subject, folder)
    file.write_text(json.dumps(encode(estimate)) + "\n", encoding="utf-8")
    return file


def load(subject: Subject, folder: Path) -> TrainEstimate | None:
    """The stored estimate of exactly this run (data, code, settings and machine), None if there is none."""
    try:
        return decode(TrainEstimate, json.loads(_file(subject, folder).read_text(encoding="utf-8")), "the estimate")
    except (OSError, ValueError, ConfigError):
        return None


def delete(subject: Subject, folder: Path) -> None:
    """Delete the stored estimate of a run, if there is one."""
    _file(subject, folder).unlink(missing_ok=True)


def _file(subject: Subject, folder: Path) -> Path:
    return folder / f"estimate-{digest(subject)[:24]}.json"
