"""Fit the lines of effective robustness from a table of public models, and write the coefficients the product ships.

    python bench/fit_effective_robustness.py openclip_results.csv

The table is ``docs/openclip_results.csv`` of mlfoundations/open_clip. The same table gives the same file.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy.special import logit

import clerestory.stats
from clerestory.core.errors import InputError
from clerestory.stats.robustness import RobustnessFit

OUT = Path(clerestory.stats.__file__).with_name("effective_robustness.json")
IN = "ImageNet 1k"
# Only datasets with ImageNet's classes are shifts of it.
SHIFTS = {
    "imagenet_v2": "ImageNet v2",
    "imagenet_sketch": "ImageNet Sketch",
    "imagenet_r": "ImageNet-R",
    "imagenet_a": "ImageNet-A",
    "imagenet_o": "ImageNet-O",
    "objectnet": "ObjectNet",
}


def fit_line(x: Sequence[float], y: Sequence[float]) -> RobustnessFit:
    """Least squares on the logits of two accuracies per model.

    Raises:
        InputError: fewer than three models, accuracies of 0 or 1, or all models equal.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(a) != len(b) or len(a) < 3 or not ((a > 0) & (a < 1) & (b > 0) & (b < 1)).all():
        raise InputError("a line needs three models or more with accuracies between 0 and 1", "remove the others")
    u, v = logit(a), logit(b)
    mean, spread = float(u.mean()), float(((u - u.mean()) ** 2).sum())
    if spread == 0.0 or np.ptp(v) == 0.0:
        raise InputError("all models have the same accuracy, so no line fits them", "take models that differ")
    slope = float(((u - mean) * (v - v.mean())).sum() / spread)
    intercept = float(v.mean()) - slope * mean
    rest = float(((v - slope * u - intercept) ** 2).sum())
    r2 = 1 - rest / float(((v - v.mean()) ** 2).sum())
    residual = math.sqrt(rest / (len(a) - 2))
    return RobustnessFit(slope, intercept, r2, residual, len(a), float(a.min()), float(a.max()), mean, spread)


def main() -> int:
    """Read the table, fit, write, and print what fits how well."""
    content = Path(sys.argv[1]).read_bytes()
    rows = list(csv.DictReader(content.decode("utf-8").splitlines()))
    lines = {}
    for name, column in SHIFTS.items():
        pairs = [(float(row[IN]), float(row[column])) for row in rows if row[IN] and row[column]]
        pairs = [(x, y) for x, y in pairs if 0 < x < 1 and 0 < y < 1]
        line = fit_line([x for x, _ in pairs], [y for _, y in pairs])
        lines[name] = asdict(line)
        print(f"{name:16} R² {line.r2:.3f}  slope {line.slope:.3f}  intercept {line.intercept:+.3f}  n {line.n}")
    source = {
        "name": "open_clip, docs/openclip_results.csv: zero-shot accuracies of public models",
        "url": "https://github.com/mlfoundations/open_clip/blob/main/docs/openclip_results.csv",
        "licence": "MIT",
        "sha256": hashlib.sha256(content).hexdigest(),
        "x": IN,
        "fit": "least squares, logit(y) = slope * logit(x) + intercept; bench/fit_effective_robustness.py",
    }
    OUT.write_text(json.dumps({"source": source, "lines": lines}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
