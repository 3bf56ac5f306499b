"""Peak memory of every entry for image files, for images that are hard on memory: ``make bench-images``."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.large_images import LARGE_IMAGES  # noqa: E402  the path is set above

from table import Row, measure  # noqa: E402  beside this file

MAX_MB = 600.0
# A command is a process of its own; the server is one process for all of its entries.
PROCESSES = (("data add",), ("use search",), ("use describe",), ("train",), ("web upload", "/v1/embeddings"))


def memory() -> Iterable[Row]:
    """The worst image of each entry."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in LARGE_IMAGES.items():
            (Path(folder) / name).write_bytes(content())
        found: dict[str, dict[str, float]] = {}
        for entries in PROCESSES:
            command = [sys.executable, "-m", "tests.support.peak_memory", folder, *entries]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            found |= json.loads(done.stdout)
    for entry, peaks in found.items():
        worst = max(peaks, key=peaks.__getitem__)
        note = f"the worst is {worst}; the others at most {sorted(peaks.values())[-2]:.0f} MB"
        name = f"peak memory above idle, {entry}"
        yield Row(name, peaks[worst], "MB", f"≤ {MAX_MB:.0f} MB", peaks[worst] <= MAX_MB, len(peaks), note=note)


if __name__ == "__main__":
    sys.exit(measure("images", {"memory": memory}, sys.argv[1:]))
