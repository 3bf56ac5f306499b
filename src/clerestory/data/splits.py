"""Splits by concept: all images of a concept are in the same split, on any machine, independently of the other data."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping

from clerestory.core.sample import TEST, TRAIN, VAL

SHARES = {TEST: 0.10, VAL: 0.10}


def hash_position(concept: str, salt: str = "") -> float:
    """A stable number in [0, 1) for a concept that depends only on the two strings."""
    digest = hashlib.sha256(f"{salt}\0{concept}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_of(concept: str, shares: Mapping[str, float] = SHARES, salt: str = "") -> str:
    """The split of a concept: the ``shares`` partition [0, 1) from 0 on, and the rest is ``train``."""
    position, edge = hash_position(concept, salt), 0.0
    for name, share in shares.items():
        edge += share
        if position < edge:
            return name
    return TRAIN


def splits_by_concept(images: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The split of every concept; concepts with a byte-identical image are assigned to the same one.

    Args:
        images: the concept and the SHA-256 of every image.
    """
    links: list[tuple[Hashable, Hashable]] = [(concept, ("image", sha256)) for concept, sha256 in images]
    component = connected_components(links)
    smallest: dict[Hashable, str] = {}
    for concept in dict.fromkeys(str(concept) for concept, _ in links):
        root = component[concept]
        smallest[root] = min(smallest.get(root, concept), concept)
    return {str(concept): split_of(smallest[component[concept]]) for concept, _ in links}


def connected_components(links: Iterable[tuple[Hashable, Hashable]]) -> dict[Hashable, Hashable]:
    """The representative node of the connected component of every node, by union-find."""
    parents: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        while parents.setdefault(node, node) != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    for a, b in links:
        parents[root(a)] = root(b)
    return {node: root(node) for node in list(parents)}
