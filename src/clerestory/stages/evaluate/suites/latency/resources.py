"""Peak memory of the process, and the energy that the machine uses where it has counters."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

PROCESS_STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
PEAK_FIELD = "VmHWM:"
POWERCAP = Path("/sys/class/powercap")
JOULES_PER_MICROJOULE = 1e-6

MemoryScope = Literal["measurement", "process"]


class PeakMemoryResult(NamedTuple):
    """Peak resident memory in MiB, since the measurement began or since the process started."""

    mib: float
    scope: MemoryScope


class PeakMemory:
    """The peak resident memory of this process from now on: the model's weights, every library and the images.

    Where the system cannot reset the peak (only Linux can), it is the peak since the process started.
    """

    def __init__(self) -> None:
        self._scope: MemoryScope = "measurement"
        try:
            CLEAR_REFS.write_text(RESET_PEAK, encoding="ascii")
        except OSError:
            self._scope = "process"

    def peak(self) -> PeakMemoryResult:
        """The peak so far."""
        try:
            lines = PROCESS_STATUS.read_text(encoding="ascii", errors="replace").splitlines()
            kib = next(int(line.split()[1]) for line in lines if line.startswith(PEAK_FIELD))
            return PeakMemoryResult(kib / 1024, self._scope)
        except (OSError, StopIteration):
            unit = 1 if sys.platform == "darwin" else 1024
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
            return PeakMemoryResult(peak, "process")


@dataclass(frozen=True, slots=True)
class EnergyZone:
    """One energy counter of the processor (RAPL).

    ``/sys/class/powercap`` has a folder for each zone, with ``name``, ``energy_uj`` (microjoules so far) and
    ``max_energy_range_uj``, after which the counter restarts at 0 (Linux, Documentation/power/powercap).

    Attributes:
        name: ``package-0``, ``dram``.
        counter: the file with the microjoules so far.
        wrap: the number of microjoules after which it restarts at 0.
    """

    name: str
    counter: Path
    wrap: int

    def read(self) -> int:
        """Microjoules so far.

        Raises:
            OSError, ValueError: the counter cannot be read.
        """
        return int(self.counter.read_text(encoding="ascii"))


def find_zones(root: Path = POWERCAP) -> tuple[EnergyZone, ...] | str:
    """The counters whose sum is the machine's energy, or one sentence why there are none.

    These are the packages and the memory (``dram``), which they do not contain; ``core`` and ``uncore`` are inside a
    package, and ``psys`` contains it. The whole machine is counted, whatever keeps it busy.
    """
    if not root.is_dir():
        return "this system has no energy counters (Linux powercap)"
    zones: dict[str, EnergyZone] = {}
    # intel-rapl-mmio:0 is the same package by another interface, so the name of the folder decides, too.
    for folder in sorted(root.glob("intel-rapl:*")):
        try:
            name = (folder / "name").read_text(encoding="ascii").strip()
            if not (name.startswith("package") or name == "dram"):
                continue
            wrap = int((folder / "max_energy_range_uj").read_text(encoding="ascii"))
            zone = EnergyZone(name, folder / "energy_uj", wrap)
            zone.read()
        except PermissionError:
            return "only root may read this system's energy counters"
        except (OSError, ValueError) as error:
            return f"the energy counter {folder.name} cannot be read: {error}"
        zones[folder.name] = zone
    return tuple(zones.values()) or "this processor has no energy counters (RAPL)"


class EnergyMeter:
    """The energy that zones count from now on.

    A counter may restart at 0 once between two readings: read at least every few minutes (a package of 65 W with the
    usual range of 262 kJ restarts after an hour).
    """

    def __init__(self, zones: tuple[EnergyZone, ...]) -> None:
        self._zones = zones
        self._last = [zone.read() for zone in zones]
        self._microjoules = 0

    def joules(self) -> float:
        """Joules since the meter was created.

        Raises:
            OSError, ValueError: a counter can no longer be read.
        """
        for i, zone in enumerate(self._zones):
            now = zone.read()
            difference = now - self._last[i]
            self._microjoules += difference if difference >= 0 else difference + zone.wrap
            self._last[i] = now
        return self._microjoules * JOULES_PER_MICROJOULE
