"""Nineteen ways in which pictures go bad in the world, five severities each.

The common corruptions of Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations" (ICLR 2019), with the parameters that the field uses for pictures of any size.
"""

from __future__ import annotations

from clerestory.data.corruptions.engine import corrupt, corrupt_many
from clerestory.data.corruptions.parameters import FAMILIES, NAMES, SEVERITIES

__all__ = ["FAMILIES", "NAMES", "SEVERITIES", "corrupt", "corrupt_many"]
