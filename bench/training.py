"""The numbers of the training core, each beside its bar and its peer: ``make bench-training``.

Takes about twenty minutes on two cores; ``python bench/training.py losses`` measures only these.
"""

from __future__ import annotations

import sys

import training_losses
import training_moe
import training_resume
import training_throughput
import training_trust
import training_tune
from table import measure

PARTS = {
    "losses": training_losses.rows,
    "moe": training_moe.rows,
    "trust": training_trust.rows,
    "throughput": training_throughput.rows,
    "tune": training_tune.rows,
    "resume": training_resume.rows,
}

if __name__ == "__main__":
    sys.exit(measure("training", PARTS, sys.argv[1:]))
