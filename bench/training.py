"""The requirements of training, measured and compared with other implementations: ``make bench-training``.

Takes about twenty minutes on two cores; ``python bench/training.py losses`` measures one section.
"""

from __future__ import annotations

import sys

import training_loader
import training_losses
import training_moe
import training_resume
import training_throughput
import training_trust
import training_tune
from table import measure

SECTIONS = {
    "losses": training_losses.rows,
    "moe": training_moe.rows,
    "trust": training_trust.rows,
    "throughput": training_throughput.rows,
    "loader": training_loader.rows,
    "tune": training_tune.rows,
    "resume": training_resume.rows,
}

if __name__ == "__main__":
    sys.exit(measure("training", SECTIONS, sys.argv[1:]))
