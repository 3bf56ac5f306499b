"""From data to output: which duties reach the end of a chain, and which source blocks it.

Whether the duties of training data reach the trained model, or its output, is legally disputed. The engine takes no
side: ``LicencePolicy.propagates`` states the assumption, which is by default that they do. Two rules hold whatever the
setting: a licence whose text ends its duties at a step ends there, and an unknown licence stays unknown to the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter

from clerestory.core.errors import ConfigError, not_found
from clerestory.core.licences.expression import Combination, LicenceName, parse_licence
from clerestory.core.licences.policy import (
    LicencePolicy,
    LicenceState,
    LicenceVerdict,
    Obligation,
    Obstacle,
    check_licence,
)
from clerestory.core.licences.table import LicenceTable, licence_table
from clerestory.core.licences.terms import UNKNOWN_REASONS, Duty, LicenceReason, Scope, Step

WHOLE = frozenset({Scope.WORK, Scope.NETWORK, Scope.ADAPTATIONS, Scope.DATABASE})
"""Scopes in which the whole result must be shared under the same licence."""


class ItemKind(StrEnum):
    """What an item of a chain is."""

    DATA = "data"
    MODEL = "model"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class LicensedItem:
    """A dataset, a model or output, with its licence and what it was made from.

    Attributes:
        name: unique in the chain.
        kind: what it is.
        licence: an expression; empty if it is unknown, None for one's own work, which needs no licence.
        made_from: names of other items.
    """

    name: str
    kind: ItemKind
    licence: str | None = ""
    made_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LicenceSource:
    """An item that the end of a chain depends on.

    Attributes:
        name: the item.
        path: the names from the item to the end, both included.
        verdict: what its licence means at the end.
    """

    name: str
    path: tuple[str, ...]
    verdict: LicenceVerdict


@dataclass(frozen=True, slots=True)
class LicenceTrace:
    """What the end of a chain owes, and to whom.

    Attributes:
        name: the end.
        sources: the end itself and all items it depends on, the nearest first, each with its worst path.
        policy: under which it was judged.
    """

    name: str
    sources: tuple[LicenceSource, ...]
    policy: LicencePolicy

    @property
    def state(self) -> LicenceState:
        """The worst of the sources."""
        return min((source.verdict.state for source in self.sources), key=lambda state: state.rank)

    @property
    def blocking(self) -> tuple[LicenceSource, ...]:
        """The sources that the policy refuses."""
        return tuple(source for source in self.sources if source.verdict.blocks(self.policy))

    @property
    def obligations(self) -> tuple[Obligation, ...]:
        """The duties of the end, each once."""
        return tuple(dict.fromkeys(each for source in self.sources for each in source.verdict.obligations))


def trace_licences(
    items: Iterable[LicensedItem], end: str, policy: LicencePolicy, table: LicenceTable | None = None
) -> LicenceTrace:
    """The duties of an item and its blocking sources, from the licences of everything that it was made from.

    Args:
        items: the chain; any order.
        end: the name of the item that is judged.
        policy: the needed rights and the acceptable conditions, and which steps duties pass.
        table: in place of the table of the package.

    Raises:
        ConfigError: a name occurs twice, or items are made from each other in a circle.
        NotFound: an item, or the end, does not exist.
    """
    table = table or licence_table()
    chain = _by_name(items)
    if end not in chain:
        raise not_found("item", end, chain)
    worst: dict[str, LicenceSource] = {}
    for path, steps, ended in _paths(chain, end, policy):
        item = chain[path[0]]
        verdict = _at_the_end(item, policy, table, steps, ended)
        known = worst.get(item.name)
        if known is None or _badness(verdict) > _badness(known.verdict):
            worst[item.name] = LicenceSource(item.name, path, verdict)
    sources = sorted(worst.values(), key=lambda source: len(source.path))
    return LicenceTrace(end, tuple(_with_conflicts(sources, chain[end], table)), policy)


def step_between(source: LicensedItem, made: LicensedItem) -> Step:
    """How something was made from its source: by training, generation or derivation (tuning, compression, a subset)."""
    if made.kind == ItemKind.MODEL and source.kind != ItemKind.MODEL:
        return "training"
    if made.kind != ItemKind.MODEL and source.kind == ItemKind.MODEL:
        return "generation"
    return "derivation"


def _by_name(items: Iterable[LicensedItem]) -> dict[str, LicensedItem]:
    chain: dict[str, LicensedItem] = {}
    for item in items:
        if item.name in chain:
            raise ConfigError(f"the chain has two items with the name {item.name!r}", "give each a name of its own")
        chain[item.name] = item
    for item in chain.values():
        for name in item.made_from:
            if name not in chain:
                raise not_found("item", name, chain)
    try:
        TopologicalSorter({item.name: item.made_from for item in chain.values()}).prepare()
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise ConfigError(f"items are made from each other in a circle: {circle}", "remove one of the links") from None
    return chain


def _paths(
    chain: Mapping[str, LicensedItem], end: str, policy: LicencePolicy
) -> Iterable[tuple[tuple[str, ...], frozenset[Step], bool]]:
    """The shortest path from every item to the end, for every set of steps on the way.

    Yields:
        the names, the steps, and whether the policy assumes that duties end at one of them.
    """
    queue: deque[tuple[tuple[str, ...], frozenset[Step]]] = deque([((end,), frozenset())])
    visited: set[tuple[str, frozenset[Step]]] = {(end, frozenset())}
    while queue:
        path, steps = queue.popleft()
        yield path, steps, not steps <= set(policy.propagates)
        item = chain[path[0]]
        for name in item.made_from:
            further = steps | {step_between(chain[name], item)}
            if (name, further) not in visited:
                visited.add((name, further))
                queue.append(((name, *path), further))


def _at_the_end(
    item: LicensedItem, policy: LicencePolicy, table: LicenceTable, steps: frozenset[Step], ended: bool
) -> LicenceVerdict:
    """What an item's licence means after some steps."""
    if item.licence is None:
        return LicenceVerdict("", LicenceState.PASSES)
    verdict = check_licence(item.licence, policy, table, steps)
    if not ended:
        return verdict
    # That duties end does not say that there was a licence: what is unknown stays unknown.
    unknown = tuple(each for each in verdict.obstacles if each.reason in UNKNOWN_REASONS)
    state = LicenceState.UNKNOWN if unknown else LicenceState.PASSES
    return replace(verdict, state=state, obstacles=unknown, obligations=())


def _badness(verdict: LicenceVerdict) -> tuple[int, int]:
    return -verdict.state.rank, len(verdict.obligations)


def _with_conflicts(
    sources: Sequence[LicenceSource], end: LicensedItem, table: LicenceTable
) -> Iterable[LicenceSource]:
    """The sources; those whose share-alike the end cannot meet have an obstacle more."""
    demands = {source.name: _demanded(source, table) for source in sources if source.name != end.name}
    accepted = [each for demand in demands.values() for each in demand.values()]
    tree = parse_licence(end.licence, table).tree if end.licence else None
    for source in sources:
        conflicts = tuple(
            Obstacle(licence, LicenceReason.SHARE_ALIKE_CONFLICT)
            for licence, each in demands.get(source.name, {}).items()
            if not (_is_shared_under(tree, each) if tree else frozenset.intersection(*accepted))
        )
        if conflicts:
            obstacles = (*source.verdict.obstacles, *conflicts)
            verdict = replace(source.verdict, state=LicenceState.FAILS, obstacles=obstacles)
            yield replace(source, verdict=verdict)
        else:
            yield source


def _is_shared_under(tree: LicenceName | Combination, accepted: frozenset[str]) -> bool:
    """Whether an expression keeps a share-alike duty: one of joint licences does, or every one of a choice."""
    if isinstance(tree, LicenceName):
        return tree.id in accepted
    met = (_is_shared_under(part, accepted) for part in tree.parts)
    return any(met) if tree.operator == "AND" else all(met)


def _demanded(source: LicenceSource, table: LicenceTable) -> dict[str, frozenset[str]]:
    """The share-alike licences of a source that reach the whole, each with the licences that it accepts for it."""
    demanded = {}
    for each in source.verdict.obligations:
        if each.duty == Duty.SHARE_ALIKE and each.scope in WHOLE:
            id_ = each.licence.partition(" WITH ")[0]
            demanded[each.licence] = frozenset({id_, *table.licences[id_].compatible})
    return demanded
