"""How much energy the machine uses, where it tells: Intel's and AMD's running counters (RAPL) as Linux shows them.

``/sys/class/powercap`` has a folder for each zone, with ``name``, ``energy_uj`` (microjoules so far) and
``max_energy_range_uj``, after which the counter starts again from 0 (Linux, Documentation/power/powercap). The
packages are added up, and the memory (``dram``), which they do not contain; ``core`` and ``uncore`` are parts of a
package, and ``psys`` contains it. What is counted is the whole machine, whoever keeps it busy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
MICRO = 1e-6


@dataclass(frozen=True, slots=True)
class EnergyZone:
    """One counter.

    Attributes:
        name: ``package-0``, ``dram``.
        counter: the file with the microjoules so far.
        wrap: after how many microjoules it starts again from 0.
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
    """The counters that add up to the machine's energy, or one sentence why there are none."""
    if not root.is_dir():
        return "this system shows no energy counters (Linux powercap)"
    zones: dict[str, EnergyZone] = {}
    # intel-rapl-mmio:0 is the same package by another way, so the folder's name decides, not only its zone's.
    for folder in sorted(root.glob("intel-rapl:*")):
        try:
            name = (folder / "name").read_text(encoding="ascii").strip()
            if not (name.startswith("package") or name == "dram"):
                continue
            zone = EnergyZone(
                name, folder / "energy_uj", int((folder / "max_energy_range_uj").read_text(encoding="ascii"))
            )
            zone.read()
        except PermissionError:
            return "only root may read this system's energy counters"
        except (OSError, ValueError) as error:
            return f"the energy counter {folder.name} cannot be read: {error}"
        zones[folder.name] = zone
    return tuple(zones.values()) or "this processor has no energy counters (RAPL)"


class EnergyMeter:
    """Adds up what zones count from now on.

    A counter that starts again from 0 is followed through it, once between two readings: read at least every few
    minutes (a package of 65 J/s with the usual range of 262 kJ wraps after an hour).
    """

    def __init__(self, zones: tuple[EnergyZone, ...]) -> None:
        self._zones = zones
        self._last = [zone.read() for zone in zones]
        self._total = 0

    def joules(self) -> float:
        """Since the meter was made.

        Raises:
            OSError, ValueError: a counter can no longer be read.
        """
        for place, zone in enumerate(self._zones):
            now = zone.read()
            gone = now - self._last[place]
            self._total += gone if gone >= 0 else gone + zone.wrap
            self._last[place] = now
        return self._total * MICRO
