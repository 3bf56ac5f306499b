"""Nineteen image corruptions with five severities each.

The common corruptions of Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations" (ICLR 2019), with the common parameters for images of any size.
"""

from __future__ import annotations

from clerestory.data.corruptions.engine import corrupt, corrupt_many
from clerestory.data.corruptions.parameters import FAMILIES, NAMES, SEVERITIES

__all__ = ["FAMILIES", "NAMES", "SEVERITIES", "corrupt", "corrupt_many"]
