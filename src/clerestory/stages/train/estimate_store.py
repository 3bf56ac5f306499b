"""What a training run is expected to take, kept until it is over, and the comparison with what it took."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from clerestory.core.codec import decode, encode
from clerestory.core.digest import digest
from clerestory.core.errors import ConfigError
from clerestory.core.evidence import Cost, Measurement, Subject

ONE_RUN = "one run and one forecast of it"


@dataclass(frozen=True, slots=True)
class Plan:
    """A forecast of one training run on this machine.

    Attributes:
        steps, batch: of the run.
        seconds: wall time of the whole, preparation included.
        low, high: between which times it will probably be, if the machine stays as busy as it is.
        peak_mib: most resident memory of the process.
        preparing: seconds until the first step.
        step: seconds of a step.
        looking, saving: seconds for all looks at the validation split, and for all checkpoints and models.
        probed: steps it was measured on.
        price: what an hour of the machine costs; None when it was not told.
        currency: of the price.
    """

    steps: int
    batch: int
    seconds: float
    low: float
    high: float
    peak_mib: float
    preparing: float
    step: float
    looking: float
    saving: float
    probed: int
    price: float | None = None
    currency: str = ""

    @property
    def cost(self) -> float | None:
        """What the run costs, in ``currency``; None without a price."""
        return None if self.price is None else self.seconds / 3600 * self.price

    def lines(self) -> tuple[str, ...]:
        """The forecast for a person."""
        told = [
            f"time      {duration(self.seconds)} (probably {duration(self.low)} to {duration(self.high)})",
            f"          {duration(self.preparing)} to read and prepare the data, then {self.steps} steps of "
            f"{self.step:.2g} s, {duration(self.looking)} to look at the validation pictures and "
            f"{duration(self.saving)} to save",
            f"memory    {self.peak_mib:.0f} MiB at most",
        ]
        if self.cost is not None and self.price is not None:
            told.append(f"cost      {self._money(self.cost)}, at {self._money(self.price)} an hour")
        told.append(
            f"how sure  measured on {self.probed} real steps of {self.batch} pictures, with this machine as busy as now"
        )
        return tuple(told)

    def _money(self, amount: float) -> str:
        return f"{amount:.2f} {self.currency}".rstrip() if amount >= 1 else f"{amount:.2g} {self.currency}".rstrip()


def duration(seconds: float) -> str:
    """A length of time in the unit a person would use: ``40 s``, ``4.5 min``, ``3.2 h``."""
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 9.5 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def score(plan: Plan, cost: Cost) -> tuple[Measurement, ...]:
    """How good the forecast was: what the run took divided by what was foretold; 1 is perfect."""
    pairs = {"plan_time_ratio": (cost.seconds, plan.seconds), "plan_memory_ratio": (cost.peak_mib, plan.peak_mib)}
    return tuple(
        Measurement(name, took / said, "ratio", 1, interval=None, no_interval=ONE_RUN, direction="none")
        for name, (took, said) in pairs.items()
        if said > 0 and math.isfinite(took / said)
    )


def keep(plan: Plan, subject: Subject, folder: Path) -> Path:
    """Remember the forecast of a run until that run is over."""
    file = _file(subject, folder)
    file.write_text(json.dumps(encode(plan)) + "\n", encoding="utf-8")
    return file


def kept(subject: Subject, folder: Path) -> Plan | None:
    """The forecast of exactly this run (data, code, settings and machine), None when there is none."""
    try:
        return decode(Plan, json.loads(_file(subject, folder).read_text(encoding="utf-8")), "the plan")
    except (OSError, ValueError, ConfigError):
        return None


def forget(subject: Subject, folder: Path) -> None:
    """The run is over."""
    _file(subject, folder).unlink(missing_ok=True)


def _file(subject: Subject, folder: Path) -> Path:
    return folder / f"plan-{digest(subject)[:24]}.json"
