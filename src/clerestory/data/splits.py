"""Splits by concept: every picture of a concept falls on the same side, on any machine, whatever else is there."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping

from clerestory.core.sample import TEST, TRAIN, VAL

SHARES = {TEST: 0.10, VAL: 0.10}


def position(concept: str, salt: str = "") -> float:
    """A stable number in [0, 1) for a concept; it depends on nothing but the two strings."""
    whole = hashlib.sha256(f"{salt}\0{concept}".encode()).digest()
    return int.from_bytes(whole[:8], "big") / 2**64


def split_of(concept: str, shares: Mapping[str, float] = SHARES, salt: str = "") -> str:
    """The split of a concept: the ``shares`` are laid end to end over [0, 1), what remains is ``train``."""
    where, edge = position(concept, salt), 0.0
    for name, share in shares.items():
        edge += share
        if where < edge:
            return name
    return TRAIN


def connected(links: Iterable[tuple[Hashable, Hashable]]) -> dict[Hashable, Hashable]:
    """For every node of the links one node that stands for all it is connected with."""
    parents: dict[Hashable, Hashable] = {}

    def top(node: Hashable) -> Hashable:
        while parents.setdefault(node, node) != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    for one, other in links:
        parents[top(one)] = top(other)
    return {node: top(node) for node in list(parents)}
