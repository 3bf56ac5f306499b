"""How much memory the process needs at most: resident pages, the model's weights and every library included."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import NamedTuple

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"


class Peak(NamedTuple):
    """A peak of resident memory: MiB, and of what exactly."""

    mib: float
    about: str


class PeakMemory:
    """The most resident memory of this process from now on, where the system can start the count anew (Linux).

    Elsewhere it is the most since the process began, and ``Peak.about`` says so.
    """

    def __init__(self) -> None:
        try:
            CLEAR.write_text(RESET_PEAK, encoding="ascii")
            self._anew = True
        except OSError:
            self._anew = False

    def peak(self) -> Peak:
        """So far."""
        since = "while it was measured" if self._anew else "since the process began"
        about = f"resident memory of the whole process (weights, libraries, pictures), the most {since}"
        try:
            lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
            return Peak(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024, about)
        except (OSError, StopIteration):
            unit = 1 if sys.platform == "darwin" else 1024
            return Peak(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, about)
