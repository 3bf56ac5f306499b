"""One relative rule: is the candidate shown to be no worse than another release, on the questions both answered?

Pure: the same rows give the same reason, so that ``verify`` derives it again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clerestory.core.codec import Tags
from clerestory.core.errors import InputError, closest
from clerestory.core.evidence import Direction, Measurement
from clerestory.core.release import Outcome, Reason, Rule
from clerestory.stages.release.rules import margin_in_words
from clerestory.stats.aggregate import Rows
from clerestory.stats.paired import FEW_CLUSTERS, Floats, Ints, holm
from clerestory.stats.pairing import clusters, group_values, groups_of, join, other_pool, scores
from clerestory.stats.verdict import Gate, gate_difference


@dataclass(frozen=True)
class Side:
    """One of the two models.

    Attributes:
        name: what people call it, such as ``icons@3``.
        evidence: id of its evidence.
        measured: the measurement that the rule names.
        rows: the per-sample rows of the evidence.
        facts: of the evidence; they say among how many answers the model chose.
    """

    name: str
    evidence: str
    measured: Measurement
    rows: Rows
    facts: Tags


@dataclass(frozen=True)
class _Pairs:
    """The scores of both on the same questions, and which questions belong together."""

    ours: Floats
    theirs: Floats
    cluster: Ints
    direction: Direction
    unit: str

    def gate(self, rule: Rule, chosen: Ints | None = None) -> Gate:
        """The answer for all questions, or for some."""
        pick = slice(None) if chosen is None else chosen
        margin = rule.no_worse_by if rule.no_worse_by is not None else 0.0
        a, b, of = self.ours[pick], self.theirs[pick], self.cluster[pick]
        return gate_difference(a, b, of, margin, rule.alpha, self.direction, self.unit)


def judge_relative(rule: Rule, candidate: Side, live: Side) -> Reason:
    """Whether a candidate is shown to be no worse than another release by ``rule.no_worse_by``.

    ``fail`` means shown to be worse; ``cannot_tell`` that these samples settle neither, and how many more it takes.
    With ``each_group`` every value of the group must pass. One of them fails where its p value, adjusted for the number
    of groups (Holm 1979), is below ``alpha``. Groups of fewer than 20 clusters are named and not judged.
    """
    try:
        message, outcome = _judge(rule, candidate, live)
    except InputError as error:
        message, outcome = f"{error.message}; {error.fix}." if error.fix else f"{error.message}.", "cannot_tell"
    return Reason(rule.name, outcome, message, candidate.evidence, "", live.evidence)


def nothing_to_compare(rule: Rule, evidence: str, line: str) -> Reason:
    """The reason of a relative rule while there is no other release to compare with: it passes."""
    other = rule.compare_with if "@" in rule.compare_with else f"{line}@{rule.compare_with}"
    message = f"there is no other release at {other} to compare with, so this rule asks nothing yet."
    return Reason(rule.name, "pass", message, evidence)


def _judge(rule: Rule, candidate: Side, live: Side) -> tuple[str, Outcome]:
    recipe = candidate.measured.recipe
    if recipe is None:
        raise InputError(f"{rule.metric} does not follow from samples, so it cannot be compared with {live.name}")
    where = dict(recipe.where)
    if other := other_pool(candidate.facts, live.facts, where.get("task", ""), where.get("split", "")):
        raise InputError(f"{rule.metric} is not the same question for {live.name}: {other}")
    joined = join(candidate.rows, live.rows, where)
    pairs = _Pairs(
        scores(candidate.rows, recipe, joined.a),
        scores(live.rows, recipe, joined.b),
        clusters(candidate.rows, recipe.cluster, joined.a),
        candidate.measured.direction,
        candidate.measured.unit,
    )
    about = f"{rule.metric} ({rule.where}) against {live.name}" if rule.where else f"{rule.metric} against {live.name}"
    if not rule.each_group:
        answer = pairs.gate(rule)
        return f"{about}: {answer.sentence}", answer.answer
    gates, small = _by_group(rule, candidate.rows, joined.a, pairs)
    return _each(rule, about, gates, small, pairs.unit)


def _by_group(rule: Rule, rows: Rows, places: Ints, pairs: _Pairs) -> tuple[dict[str, Gate], list[str]]:
    """The answer for every value of the group, and the values with too few independent concepts for one."""
    column = _column(rule, rows)
    cells = rows[column][places]
    gates, small = {}, []
    for value in group_values(rows, column, places):
        chosen = np.flatnonzero(cells == value)
        if len(set(pairs.cluster[chosen].tolist())) < FEW_CLUSTERS:
            small.append(value)
        else:
            gates[value] = pairs.gate(rule, chosen)
    if not gates:
        raise InputError(f"no {rule.each_group} has the {FEW_CLUSTERS} independent concepts that a comparison takes")
    return gates, small


def _each(rule: Rule, about: str, gates: dict[str, Gate], small: list[str], unit: str) -> tuple[str, Outcome]:
    """What the answers of all groups amount to, told by the group that is worst off."""
    adjusted = dict(zip(gates, holm([_chance(gate) for gate in gates.values()]), strict=True))
    outcomes: dict[str, Outcome] = {
        value: "cannot_tell" if gate.answer == "fail" and adjusted[value] >= rule.alpha else gate.answer
        for value, gate in gates.items()
    }
    rest = f" (too few to judge: {', '.join(small)})" if small else ""
    lowest = sorted(gates, key=lambda value: _chance(gates[value]))
    told: tuple[tuple[Outcome, str], ...] = (("fail", "worse for"), ("cannot_tell", "not settled for"))
    for outcome, said in told:
        named = [value for value in lowest if outcomes[value] == outcome]
        if named:
            first, chance = gates[named[0]], ""
            if outcome != first.answer:
                chance = f" Among {len(gates)} groups that may be chance (adjusted p = {adjusted[named[0]]:.2g})."
            return f"{about}, {said} {', '.join(named)}{rest}. {named[0]}: {first.sentence}{chance}", outcome
    margin = margin_in_words(rule, unit)
    message = f"{about}: none of {len(gates)} values of {rule.each_group} is worse by {margin}{rest}"
    return f"{message}. The lowest is {lowest[0]}: {gates[lowest[0]].sentence}", "pass"


def _chance(gate: Gate) -> float:
    return 1.0 if gate.p is None else gate.p


def _column(rule: Rule, rows: Rows) -> str:
    known = groups_of(rows)
    for name in (rule.each_group, f"group_{rule.each_group}"):
        if name in known:
            return name
    raise InputError(
        f"the rows have no group {rule.each_group!r}", f"they have {', '.join(known) or 'none'}",
        closest(rule.each_group, known),
    )  # fmt: skip
