"""The experts' report card that a training kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from clerestory.report.model import ExpertGroup, ExpertLayer, Experts

MODALITY = "modality"


def read_experts(content: bytes) -> Experts:
    """Read the ``experts`` artifact of a training.

    Raises:
        ValueError, KeyError, TypeError: the artifact is not of this form.
    """
    card = json.loads(content)
    return Experts(tuple(_layer(one) for one in card["layers"]), int(card.get("pictures", 0)), card.get("split", ""))


def _layer(one: Mapping[str, Any]) -> ExpertLayer:
    groups = {name: _group(name, found) for name, found in one["groups"].items()}
    told = groups.get(MODALITY)
    both = [value for value, row in zip(told.values, told.choices, strict=True) if sum(row)] if told else []
    return ExpertLayer(
        one["layer"],
        tuple(int(n) for n in one["load"]),
        float(one["max_over_mean"]),
        tuple(int(e) for e in one["dead"]),
        tuple(both),
        tuple(group for name, group in sorted(groups.items()) if name != MODALITY or len(both) > 1),
    )


def _group(name: str, found: Mapping[str, Any]) -> ExpertGroup:
    choices = tuple(tuple(int(n) for n in row) for row in found["choices"])
    return ExpertGroup(name, float(found["specialisation"]), tuple(map(str, found["values"])), choices)
