"""The expert report of a training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from clerestory.report.model import ExpertGroup, ExpertLayer, ExpertUsage

MODALITY = "modality"


def read_experts(content: bytes) -> ExpertUsage:
    """Read the ``experts`` artifact of a training.

    Raises:
        ValueError, KeyError, TypeError: the artifact is not of this form.
    """
    report = json.loads(content)
    return ExpertUsage(
        tuple(_layer(one) for one in report["layers"]), int(report.get("images", 0)), report.get("split", "")
    )


def _layer(one: Mapping[str, Any]) -> ExpertLayer:
    groups = {name: _group(name, found) for name, found in one["groups"].items()}
    modality = groups.get(MODALITY)
    seen = [value for value, row in zip(modality.values, modality.choices, strict=True) if sum(row)] if modality else []
    return ExpertLayer(
        one["layer"],
        tuple(int(n) for n in one["load"]),
        float(one["max_over_mean"]),
        tuple(int(e) for e in one["dead"]),
        tuple(seen),
        tuple(group for name, group in sorted(groups.items()) if name != MODALITY or len(seen) > 1),
    )


def _group(name: str, found: Mapping[str, Any]) -> ExpertGroup:
    choices = tuple(tuple(int(n) for n in row) for row in found["choices"])
    return ExpertGroup(name, float(found["specialisation"]), tuple(map(str, found["values"])), choices)
