"""The numbers of the training core, each beside its bar and its peer: ``make bench-training``.

Takes about ten minutes on two cores; ``python bench/training.py losses`` measures only these.
"""

from __future__ import annotations

import sys

import training_losses
import training_moe
import training_trust
from clerestory.cli.output import Output
from table import Row, publish


def main(names: list[str]) -> int:
    """Measure everything, or what is named, and publish it."""
    out = Output()
    parts = {"losses": training_losses.rows, "moe": training_moe.rows, "trust": training_trust.rows}
    unknown = [name for name in names if name not in parts]
    if unknown:
        out.say(f"there is no {unknown[0]!r} to measure; there is {', '.join(parts)}")
        return 2
    rows: list[Row] = []
    for name in names or parts:
        out.say(f"measuring: {name}")
        rows += parts[name]()
    return 0 if publish("training", rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
