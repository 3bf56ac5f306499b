"""One relative rule: a non-inferiority test of the candidate against another release, on the questions both answered.

A pure function: the same rows give the same reason, so ``verify`` can reproduce it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from clerestory.core.codec import Facts
from clerestory.core.errors import InputError, closest
from clerestory.core.evidence import Direction, Measurement
from clerestory.core.release import Cause, Outcome, Reason, Rule
from clerestory.stages.release.rules import describe_measurement, format_margin, outcome_of
from clerestory.stats.aggregate import Rows
from clerestory.stats.paired import FEW_CLUSTERS, Floats, Ints, holm
from clerestory.stats.pairing import clusters, different_candidates, group_values, groups_of, join, scores
from clerestory.stats.verdict import GateResult, gate_difference


@dataclass(frozen=True)
class ComparedModel:
    """One of the two models of a relative rule.

    Attributes:
        name: such as ``icons@3``.
        evidence: id of its evidence.
        measured: the measurement that the rule names.
        rows: the per-sample rows of the evidence.
        facts: of the evidence, with the number of retrieval candidates.
    """

    name: str
    evidence: str
    measured: Measurement
    rows: Rows
    facts: Facts


@dataclass(frozen=True)
class _PairedRows:
    """The scores of both models on the same questions, with their clusters."""

    candidate: Floats
    reference: Floats
    clusters: Ints
    direction: Direction
    unit: str

    def test(self, rule: Rule, indices: Ints | None = None) -> GateResult:
        """The non-inferiority test on all questions, or on some."""
        selected = slice(None) if indices is None else indices
        margin = rule.no_worse_by if rule.no_worse_by is not None else 0.0
        return gate_difference(
            self.candidate[selected],
            self.reference[selected],
            self.clusters[selected],
            margin,
            rule.alpha,
            self.direction,
            self.unit,
        )


class _NotDecidable(Exception):
    """The rows of the two models do not allow the comparison."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause
        self.message = message


def check_relative(rule: Rule, candidate: ComparedModel, reference: ComparedModel) -> Reason:
    """Whether a candidate is shown to be no worse than another release by ``rule.no_worse_by``.

    ``fail`` means shown to be worse; ``cannot_decide`` means that these samples show neither; it says how many more are
    needed. With ``each_group`` the rule must hold for each value of the group. A value fails if its p value, adjusted
    for the number of values (Holm 1979), is below ``alpha``. Values with fewer than 20 clusters are named and not
    tested.
    """
    try:
        reason = _compare(rule, candidate, reference)
    except _NotDecidable as error:
        reason = Reason(rule.name, "cannot_decide", error.cause, error.message)
    except InputError as error:
        fix = f"; {error.fix}" if error.fix else ""
        reason = Reason(rule.name, "cannot_decide", "not_comparable", f"{error.message}{fix}.")
    return replace(reason, evidence=candidate.evidence, reference_evidence=reference.evidence)


def without_reference(rule: Rule, evidence: str, name: str) -> Reason:
    """The reason of a relative rule without a reference release: it passes."""
    other = rule.compare_with if "@" in rule.compare_with else f"{name}@{rule.compare_with}"
    message = f"there is no other release at {other} to compare with, so this rule passes."
    return Reason(rule.name, "pass", "no_reference", message, evidence)


def _compare(rule: Rule, candidate: ComparedModel, reference: ComparedModel) -> Reason:
    recipe = candidate.measured.recipe
    if recipe is None:
        message = f"{rule.metric} is not computed from samples, so it cannot be compared with {reference.name}."
        raise _NotDecidable("not_comparable", message)
    where = dict(recipe.where)
    difference = different_candidates(candidate.facts, reference.facts, where.get("task", ""), where.get("split", ""))
    if difference:
        message = f"{rule.metric} is not comparable with that of {reference.name}: {difference}."
        raise _NotDecidable("not_comparable", message)
    joined = join(candidate.rows, reference.rows, where)
    pairs = _PairedRows(
        scores(candidate.rows, recipe, joined.a),
        scores(reference.rows, recipe, joined.b),
        clusters(candidate.rows, recipe.cluster, joined.a),
        candidate.measured.direction,
        candidate.measured.unit,
    )
    prefix = f"{describe_measurement(rule)} against {reference.name}"
    if not rule.each_group:
        test = pairs.test(rule)
        return _reason(rule, test.outcome, f"{prefix}: {test.message}", test, pairs.unit)
    tests, too_small = _test_groups(rule, candidate.rows, joined.a, pairs)
    return _combine(rule, prefix, tests, too_small, pairs.unit)


def _test_groups(rule: Rule, rows: Rows, indices: Ints, pairs: _PairedRows) -> tuple[dict[str, GateResult], list[str]]:
    """The test of every value of the group, and the values with too few independent concepts for one."""
    column = _group_column(rule, rows)
    cells = rows[column][indices]
    tests, too_small = {}, []
    for value in group_values(rows, column, indices):
        chosen = np.flatnonzero(cells == value)
        if len(set(pairs.clusters[chosen].tolist())) < FEW_CLUSTERS:
            too_small.append(value)
        else:
            tests[value] = pairs.test(rule, chosen)
    if not tests:
        message = f"no {rule.each_group} has the {FEW_CLUSTERS} independent concepts that a comparison needs."
        raise _NotDecidable("too_few_clusters", message)
    return tests, too_small


def _combine(rule: Rule, prefix: str, tests: dict[str, GateResult], too_small: list[str], unit: str) -> Reason:
    """The outcome of all values together, with the numbers of the least favourable one."""
    adjusted = dict(zip(tests, holm([_p_value(test) for test in tests.values()]), strict=True))
    outcomes: dict[str, Outcome] = {
        value: "cannot_decide" if test.outcome == "fail" and adjusted[value] >= rule.alpha else test.outcome
        for value, test in tests.items()
    }
    note = f" (too few concepts to test: {', '.join(too_small)})" if too_small else ""
    by_p_value = sorted(tests, key=lambda value: _p_value(tests[value]))
    phrases: tuple[tuple[Outcome, str], ...] = (("fail", "worse for"), ("cannot_decide", "not settled for"))
    for outcome, phrase in phrases:
        values = [value for value in by_p_value if outcomes[value] == outcome]
        if not values:
            continue
        first, note_p = tests[values[0]], ""
        if outcome != first.outcome:
            note_p = f" Among {len(tests)} groups that may be chance (adjusted p = {adjusted[values[0]]:.2g})."
        message = f"{prefix}, {phrase} {', '.join(values)}{note}. {values[0]}: {first.message}{note_p}"
        return replace(_reason(rule, outcome, message, first, unit), groups=tuple(values))
    first = tests[by_p_value[0]]
    message = (
        f"{prefix}: none of {len(tests)} values of {rule.each_group} is worse by {format_margin(rule, unit)}{note}. "
        f"The lowest is {by_p_value[0]}: {first.message}"
    )
    return replace(_reason(rule, "pass", message, first, unit), groups=(by_p_value[0],))


def _reason(rule: Rule, outcome: Outcome, message: str, test: GateResult, unit: str) -> Reason:
    causes: dict[Outcome, Cause] = {"pass": "not_worse", "fail": "worse", "cannot_decide": "inconclusive"}
    interval = test.difference.interval
    return Reason(
        rule=rule.name,
        outcome=outcome_of(causes[outcome]),
        cause=causes[outcome],
        message=message,
        value=test.difference.value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        bound=rule.no_worse_by,
        unit=unit,
        n=test.difference.n,
        additional_rows=test.additional.rows if test.additional and outcome == "cannot_decide" else None,
    )


def _p_value(test: GateResult) -> float:
    return 1.0 if test.p is None else test.p


def _group_column(rule: Rule, rows: Rows) -> str:
    known = groups_of(rows)
    for name in (rule.each_group, f"group_{rule.each_group}"):
        if name in known:
            return name
    near = closest(rule.each_group, known)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    message = f"the rows have no group {rule.each_group!r}; they have {', '.join(known) or 'none'}{hint}"
    raise _NotDecidable("unknown_group", message)
