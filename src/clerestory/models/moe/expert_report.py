"""Expert report of a model: the load of each expert, and its specialisation by group (style, class, modality …).

Shape suffixes: N tokens, K experts per token, V values of a group, E experts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clerestory.core.errors import CapabilityError, DataError, not_found
from clerestory.models.moe.balancing import ExpertLoad
from clerestory.models.moe.layer import MODALITIES, MixtureOfExperts, RoutingEvent, mixtures

Counts = NDArray[np.int64]
Batch = tuple[Mapping[str, Any], Mapping[str, Sequence[str]]]
MODALITY = "modality"


@dataclass(frozen=True)
class ExpertReport:
    """Routing decisions, counted by layer, expert and group; padding is excluded.

    Attributes:
        load: ``(E,)`` counts by layer.
        values: the values of each group, in the row order of its tables.
        tables: ``(V, E)`` counts by group and layer.
    """

    load: Mapping[str, Counts]
    values: Mapping[str, tuple[str, ...]]
    tables: Mapping[str, Mapping[str, Counts]]

    @property
    def layers(self) -> tuple[str, ...]:
        """The mixtures by their names in the model."""
        return tuple(self.load)

    def max_over_mean(self, layer: str) -> float:
        """Load of the busiest expert over the mean load; 1 is an even load."""
        return ExpertLoad(tuple(self.load[layer].tolist())).max_over_mean

    def dead(self, layer: str) -> tuple[int, ...]:
        """Dead experts, as ``ExpertLoad.dead`` defines them."""
        return ExpertLoad(tuple(self.load[layer].tolist())).dead

    def specialisation(self, group: str, layer: str) -> float:
        """Normalised mutual information of group and expert, 0..1."""
        return mutual_information(self.table(group, layer))

    def effective_experts(self, group: str, layer: str) -> dict[str, float]:
        """Effective number of experts of each value: ``exp`` of the entropy of its counts, 1..E; 0 without counts."""
        table = self.table(group, layer)
        return {
            value: math.exp(_entropy(row / row.sum())) if row.sum() else 0.0
            for value, row in zip(self.values[group], table, strict=True)
        }

    def table(self, group: str, layer: str) -> Counts:
        """``(V, E)`` counts of a group in a layer.

        Raises:
            NotFound: there is no such group or layer.
        """
        if group not in self.tables:
            raise not_found("group", group, self.tables)
        if layer not in self.load:
            raise not_found("layer", layer, self.load)
        table_VE = np.zeros((len(self.values[group]), len(self.load[layer])), np.int64)
        counted = self.tables[group].get(layer)
        if counted is not None:
            table_VE[: len(counted)] = counted
        return table_VE

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and lists, for a JSON artifact."""
        return {
            "layers": [
                {
                    "layer": layer,
                    "load": self.load[layer].tolist(),
                    "max_over_mean": self.max_over_mean(layer),
                    "dead": list(self.dead(layer)),
                    "groups": {
                        group: {
                            "specialisation": self.specialisation(group, layer),
                            "values": list(self.values[group]),
                            "choices": self.table(group, layer).tolist(),
                        }
                        for group in self.tables
                    },
                }
                for layer in self.layers
            ]
        }

    @classmethod
    def from_dict(cls, report: Mapping[str, Any]) -> ExpertReport:
        """The inverse of ``to_dict``."""
        load: dict[str, Counts] = {}
        values: dict[str, tuple[str, ...]] = {}
        tables: dict[str, dict[str, Counts]] = {}
        for entry in report["layers"]:
            load[entry["layer"]] = np.array(entry["load"], np.int64)
            for group, data in entry["groups"].items():
                values[group] = tuple(data["values"])
                shape = (len(data["values"]), len(entry["load"]))
                tables.setdefault(group, {})[entry["layer"]] = np.array(data["choices"], np.int64).reshape(shape)
        return cls(load, values, tables)


@torch.inference_mode()
def report_experts(model: nn.Module, batches: Iterable[Batch]) -> ExpertReport:
    """Count the routing decisions of every mixture of a model on some batches.

    Args:
        model: with at least one mixture; it is put into evaluation mode and back.
        batches: pairs of the keyword arguments of one forward pass and, for each group (``style``, ``class``,
            ``modality`` …), the value of each sample. A layer with fewer samples uses the first values. The group
            ``modality`` needs no values if the mixtures have a ``modality``.

    Raises:
        CapabilityError: the model has no mixture.
        DataError: a group does not have a value for each sample.
    """
    by_name = mixtures(model)
    if not by_name:
        raise CapabilityError("this model has no experts", "set model.experts, or upcycle a dense model")
    counter, training = _RoutingCounter(), model.training
    removers = [m.register_routing_hook(partial(counter.record, name, m)) for name, m in by_name.items()]
    model.eval()
    try:
        for inputs, groups in batches:
            counter.groups = groups
            model(**inputs)
    finally:
        model.train(training)
        for remove in removers:
            remove()
    values = {group: tuple(rows) for group, rows in counter.values.items()}
    load = {name: counter.load.get(name, np.zeros(m.num_experts, np.int64)) for name, m in by_name.items()}
    return ExpertReport(load, values, counter.tables)


@dataclass
class _RoutingCounter:
    """Tables of counts that grow with the values of the groups."""

    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    load: dict[str, Counts] = field(default_factory=dict)
    values: dict[str, dict[str, int]] = field(default_factory=dict)
    tables: dict[str, dict[str, Counts]] = field(default_factory=dict)

    def record(self, name: str, mixture: MixtureOfExperts, event: RoutingEvent) -> None:
        experts_NK = event.routing.experts_NK.cpu().numpy()
        n_experts = mixture.num_experts
        load_E = np.bincount(experts_NK.ravel(), minlength=n_experts).astype(np.int64)
        self.load[name] = self.load.get(name, np.zeros(n_experts, np.int64)) + load_E
        shape = event.shape
        valid = np.ones(shape, bool) if event.valid is None else event.valid.cpu().numpy().reshape(shape)
        sample = np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
        samples_N = np.broadcast_to(sample, shape)[valid]
        for group, labels in self.groups.items():
            if len(labels) < shape[0]:
                raise DataError(
                    f"group {group!r} has {len(labels)} values for {shape[0]} samples", "give one value for each sample"
                )
            rows = np.array([self.row(group, label) for label in labels])
            self.add(group, name, rows[samples_N], experts_NK, n_experts)
        if mixture.modality is not None and MODALITY not in self.groups:
            rows = np.array([self.row(MODALITY, label) for label in MODALITIES])
            self.add(MODALITY, name, np.full(len(samples_N), rows[mixture.modality]), experts_NK, n_experts)

    def row(self, group: str, label: str) -> int:
        known = self.values.setdefault(group, {})
        return known.setdefault(str(label), len(known))

    def add(self, group: str, name: str, rows_N: Counts, experts_NK: Counts, n_experts: int) -> None:
        tables, n_values = self.tables.setdefault(group, {}), len(self.values[group])
        flat = np.repeat(rows_N, experts_NK.shape[1]) * n_experts + experts_NK.ravel()
        table = np.bincount(flat, minlength=n_values * n_experts).astype(np.int64).reshape(n_values, n_experts)
        before = tables.get(name)
        if before is not None:
            table[: len(before)] += before
        tables[name] = table


def mutual_information(table_VE: Counts) -> float:
    """Mutual information over the mean of both entropies; 0 if either has a single value."""
    total = table_VE.sum()
    if not total:
        return 0.0
    joint = table_VE / total
    group_entropy, expert_entropy = _entropy(joint.sum(axis=1)), _entropy(joint.sum(axis=0))
    shared = group_entropy + expert_entropy - _entropy(joint.ravel())
    # Rounding can give a value slightly below 0.
    if group_entropy <= 0 or expert_entropy <= 0:
        return 0.0
    return max(0.0, 2 * shared / (group_entropy + expert_entropy))


def _entropy(p: NDArray[np.float64]) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum()) + 0.0
