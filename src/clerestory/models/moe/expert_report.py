"""The experts' report card: who does how much, and who is responsible for what.

Shape suffixes: V values of a group (styles, classes …), E experts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clerestory.core.errors import CapabilityError, DataError, not_found
from clerestory.models.moe.balancing import Load
from clerestory.models.moe.layer import MixtureOfExperts, Seen, mixtures
from clerestory.models.moe.losses import MODALITIES

Counts = NDArray[np.int64]
Batch = tuple[Mapping[str, Any], Mapping[str, Sequence[str]]]
MODALITY = "modality"


@dataclass(frozen=True)
class ExpertCard:
    """Choices of experts, counted; padding is not among them.

    Attributes:
        load: ``(E,)`` choices by layer.
        values: the values of each group, in the order of the rows of its tables.
        tables: ``(V, E)`` choices by group and layer.
    """

    load: Mapping[str, Counts]
    values: Mapping[str, tuple[str, ...]]
    tables: Mapping[str, Mapping[str, Counts]]

    @property
    def layers(self) -> tuple[str, ...]:
        """The mixtures by their names in the model."""
        return tuple(self.load)

    def max_over_mean(self, layer: str) -> float:
        """Load of the busiest expert over the mean load: 1 is even."""
        return Load(tuple(self.load[layer].tolist())).max_over_mean

    def dead(self, layer: str) -> tuple[int, ...]:
        """Experts with less than a hundredth of the mean load."""
        return Load(tuple(self.load[layer].tolist())).dead

    def specialisation(self, group: str, layer: str) -> float:
        """Normalised mutual information of group and expert, 0..1: how much one tells about the other."""
        return mutual_information(self.table(group, layer))

    def kept(self, group: str, layer: str) -> dict[str, float]:
        """How many experts each value keeps busy: ``exp`` of the entropy of its choices, 1..E; 0 without choices."""
        table = self.table(group, layer)
        return {
            value: math.exp(_entropy(row / row.sum())) if row.sum() else 0.0
            for value, row in zip(self.values[group], table, strict=True)
        }

    def table(self, group: str, layer: str) -> Counts:
        """``(V, E)`` choices.

        Raises:
            NotFound: there is no such group or layer.
        """
        if group not in self.tables:
            raise not_found("group", group, self.tables)
        if layer not in self.load:
            raise not_found("layer", layer, self.load)
        whole = np.zeros((len(self.values[group]), len(self.load[layer])), np.int64)
        part = self.tables[group].get(layer)
        if part is not None:
            whole[: len(part)] = part
        return whole

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and lists, for a JSON file kept as evidence."""
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
    def from_dict(cls, card: Mapping[str, Any]) -> ExpertCard:
        """What ``to_dict`` wrote."""
        load: dict[str, Counts] = {}
        values: dict[str, tuple[str, ...]] = {}
        tables: dict[str, dict[str, Counts]] = {}
        for entry in card["layers"]:
            load[entry["layer"]] = np.array(entry["load"], np.int64)
            for group, found in entry["groups"].items():
                values[group] = tuple(found["values"])
                shape = (len(found["values"]), len(entry["load"]))
                tables.setdefault(group, {})[entry["layer"]] = np.array(found["choices"], np.int64).reshape(shape)
        return cls(load, values, tables)


@torch.inference_mode()
def report_card(model: nn.Module, batches: Iterable[Batch], run: Callable[..., object] | None = None) -> ExpertCard:
    """Watch every mixture of a model while it works through the batches.

    Args:
        model: with at least one mixture; it is put into evaluation mode and back.
        batches: pairs of the keyword arguments of one forward pass and, for each group (``style``, ``class``,
            ``modality`` …), the value of each sample. A layer that sees fewer samples sees the first ones. Where the
            model itself tells modalities apart, the group ``modality`` needs no values.
        run: what is called with the arguments instead of the model itself.

    Raises:
        CapabilityError: the model has no mixture.
        DataError: a group does not have a value for each sample.
    """
    found = mixtures(model)
    if not found:
        raise CapabilityError("this model has no experts", "set model.experts, or upcycle a dense model")
    counting, training = _Counting(), model.training
    stops = [mixture.watch(partial(counting.see, name, mixture)) for name, mixture in found.items()]
    model.eval()
    try:
        for inputs, groups in batches:
            counting.groups = groups
            (run or model)(**inputs)
    finally:
        model.train(training)
        for stop in stops:
            stop()
    values = {group: tuple(rows) for group, rows in counting.values.items()}
    load = {name: counting.load.get(name, np.zeros(m.num_experts, np.int64)) for name, m in found.items()}
    return ExpertCard(load, values, counting.tables)


@dataclass
class _Counting:
    """Tables that grow as values turn up."""

    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    load: dict[str, Counts] = field(default_factory=dict)
    values: dict[str, dict[str, int]] = field(default_factory=dict)
    tables: dict[str, dict[str, Counts]] = field(default_factory=dict)

    def see(self, name: str, mixture: MixtureOfExperts, seen: Seen) -> None:
        experts_NK = seen.routing.experts_NK.cpu().numpy()
        n_experts = mixture.num_experts
        load_E = np.bincount(experts_NK.ravel(), minlength=n_experts).astype(np.int64)
        self.load[name] = self.load.get(name, np.zeros(n_experts, np.int64)) + load_E
        kept = np.ones(seen.shape, bool) if seen.kept is None else seen.kept.cpu().numpy().reshape(seen.shape)
        sample = np.arange(seen.shape[0]).reshape(-1, *[1] * (len(seen.shape) - 1))
        samples_N = np.broadcast_to(sample, seen.shape)[kept]
        for group, labels in self.groups.items():
            if len(labels) < seen.shape[0]:
                raise DataError(
                    f"group {group!r} has {len(labels)} values for {seen.shape[0]} samples", "give one for each sample"
                )
            rows = np.array([self.row(group, label) for label in labels])
            self.add(group, name, rows[samples_N], experts_NK, n_experts)
        modality = mixture.modality if seen.modality is None else seen.modality.cpu().numpy()
        if modality is not None and MODALITY not in self.groups:
            rows = np.array([self.row(MODALITY, label) for label in MODALITIES])
            told = np.broadcast_to(modality, seen.shape)[kept]
            self.add(MODALITY, name, rows[told], experts_NK, n_experts)

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
    """Mutual information over the mean of both entropies; 0 where either has a single value."""
    total = table_VE.sum()
    if not total:
        return 0.0
    joint = table_VE / total
    one, other = _entropy(joint.sum(axis=1)), _entropy(joint.sum(axis=0))
    shared = one + other - _entropy(joint.ravel())
    # Rounding may leave a hair below 0.
    return max(0.0, 2 * shared / (one + other)) if one > 0 and other > 0 else 0.0


def _entropy(p: NDArray[np.float64]) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum()) + 0.0
