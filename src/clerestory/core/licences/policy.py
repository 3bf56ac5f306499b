"""A policy on licences, and the verdict on an expression under it: passes, fails or unknown.

``OR`` takes the best branch, ``AND`` the worst: passes is better than unknown, which is better than fails. What is
unknown never passes, whatever the policy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from clerestory.core.licences.expression import Combination, LicenceExpression, LicenceName, Reading, parse_licence
from clerestory.core.licences.table import Licence, LicenceTable, licence_table
from clerestory.core.licences.terms import STEPS, UNKNOWN_REASONS, Duty, LicenceReason, Right, Scope, Step
from clerestory.core.settings import check_settings


@dataclass(frozen=True, slots=True)
class LicencePolicy:
    """The rights that a licence must grant, and the conditions that are acceptable; the defaults are the strictest.

    Attributes:
        commercial_use: the result is used commercially, so a licence that does not grant it fails.
        modification: modified versions are shared, so a licence without derivatives fails.
        distribution: the result leaves the organisation, so a licence that does not grant it fails.
        allow_share_alike: the result may have to be shared under the same licence.
        allow_use_restrictions: users may have to be bound to a list of forbidden uses.
        allow_limited_grants: a needed right may hold within a limit only, such as 700 million monthly users.
        allow_unknown: an unknown licence is reported without blocking. It does not pass.
        propagates: the steps through which duties and refusals reach what is made from a source. Whether they reach a
            trained model or its output is legally disputed; the default assumes that they do.
    """

    commercial_use: bool = True
    modification: bool = True
    distribution: bool = True
    allow_share_alike: bool = False
    allow_use_restrictions: bool = False
    allow_limited_grants: bool = False
    allow_unknown: bool = False
    propagates: tuple[Step, ...] = STEPS

    def __post_init__(self) -> None:
        check_settings(self)

    def needs(self, right: Right) -> bool:
        """Whether the policy needs a right."""
        return bool(getattr(self, right.value))


class LicenceState(StrEnum):
    """The answer, from the worst to the best."""

    FAILS = "fails"
    UNKNOWN = "unknown"
    PASSES = "passes"

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(LicenceState).index(self)


@dataclass(frozen=True, slots=True, order=True)
class Obstacle:
    """Why a licence does not pass.

    Attributes:
        licence: its id, as in ``LicenceName``; with its exception.
        reason: the cause.
        hint: what to write instead; empty if nothing is known.
    """

    licence: str
    reason: LicenceReason
    hint: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Obligation:
    """A duty, the licence that it comes from, and how far it reaches if it is share-alike."""

    licence: str
    duty: Duty
    scope: Scope | None = None


@dataclass(frozen=True, slots=True)
class LicenceVerdict:
    """The answer of a policy to an expression.

    Attributes:
        expression: in SPDX spelling.
        state: passes, fails or unknown.
        obstacles: why it does not pass; empty if it passes.
        obligations: the duties of the chosen licences.
        licences: the ids of the chosen licences: of ``MIT OR GPL-3.0-only`` one of the two.
        readings: spellings that were read as another id.
    """

    expression: str
    state: LicenceState
    obstacles: tuple[Obstacle, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    licences: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = ()

    @property
    def reasons(self) -> tuple[LicenceReason, ...]:
        """The reasons why it does not pass, each once, in the order of ``LicenceReason``."""
        return tuple(reason for reason in LicenceReason if any(each.reason == reason for each in self.obstacles))

    @property
    def duties(self) -> tuple[Duty, ...]:
        """The duties, each once, in the order of ``Duty``."""
        return tuple(duty for duty in Duty if any(each.duty == duty for each in self.obligations))

    def blocks(self, policy: LicencePolicy) -> bool:
        """Whether the policy refuses it: it fails, or is unknown and the policy does not allow that."""
        return self.state == LicenceState.FAILS or (self.state == LicenceState.UNKNOWN and not policy.allow_unknown)


@dataclass(frozen=True, slots=True)
class _Answer:
    """The verdict on a part of an expression."""

    obstacles: tuple[Obstacle, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    licences: tuple[str, ...] = ()
    state: LicenceState = field(init=False)

    def __post_init__(self) -> None:
        refused = any(each.reason not in UNKNOWN_REASONS for each in self.obstacles)
        state = LicenceState.FAILS if refused else LicenceState.UNKNOWN if self.obstacles else LicenceState.PASSES
        object.__setattr__(self, "state", state)


def check_licence(
    licence: str | LicenceExpression,
    policy: LicencePolicy,
    table: LicenceTable | None = None,
    steps: Iterable[Step] = (),
) -> LicenceVerdict:
    """Whether a licence expression passes a policy, and which duties come with it.

    Args:
        licence: an expression, a tag or an address; or an expression that was read.
        policy: the needed rights and the acceptable conditions.
        table: in place of the table of the package.
        steps: those from the licensed thing to the one that is judged; a licence whose text ends its duties there asks
            for nothing any more.
    """
    table = table or licence_table()
    expression = parse_licence(licence, table) if isinstance(licence, str) else licence
    if expression.tree is None:
        problem = expression.problem or LicenceReason.UNREADABLE
        return LicenceVerdict(expression.written, LicenceState.UNKNOWN, (Obstacle(expression.written, problem),))
    answer = _answer(expression.tree, policy, table, frozenset(steps))
    return LicenceVerdict(
        str(expression),
        answer.state,
        tuple(dict.fromkeys(answer.obstacles)),
        tuple(dict.fromkeys(answer.obligations)),
        tuple(dict.fromkeys(answer.licences)),
        expression.readings,
    )


def _answer(
    tree: LicenceName | Combination, policy: LicencePolicy, table: LicenceTable, steps: frozenset[Step]
) -> _Answer:
    if isinstance(tree, LicenceName):
        return _of_name(tree, policy, table, steps)
    answers = [_answer(part, policy, table, steps) for part in tree.parts]
    if tree.operator == "OR":  # of equally good branches the one with the fewest duties, then the first
        return min(answers, key=lambda each: (-each.state.rank, len(each.obstacles), len(each.obligations)))
    return _Answer(
        tuple(obstacle for each in answers for obstacle in each.obstacles),
        tuple(obligation for each in answers for obligation in each.obligations),
        tuple(id_ for each in answers for id_ in each.licences),
    )


def _of_name(name: LicenceName, policy: LicencePolicy, table: LicenceTable, steps: frozenset[Step]) -> _Answer:
    id_, licence = str(name), table.licences.get(name.id)
    if name.problem or licence is None:
        return _Answer((Obstacle(id_, name.problem or LicenceReason.UNKNOWN_LICENCE, name.hint),), (), (id_,))
    scope = licence.share_alike
    if name.exception:
        exception = table.exceptions.get(name.exception)
        if exception is None or licence.id not in exception.accompanies:
            return _Answer((Obstacle(id_, LicenceReason.UNKNOWN_EXCEPTION),), (), (id_,))
        scope = exception.share_alike or scope
    if steps.intersection(licence.ends_at) and not licence.unclear:
        return _Answer((), (), (id_,))
    obligations = [Obligation(id_, duty) for duty in licence.duties]
    if scope:
        obligations.append(Obligation(id_, Duty.SHARE_ALIKE, scope))
    obstacles = tuple(Obstacle(id_, reason) for reason in _reasons(licence, policy))
    return _Answer(obstacles, tuple(obligations), (id_,))


_REFUSED = {
    Right.COMMERCIAL_USE: LicenceReason.NON_COMMERCIAL,
    Right.MODIFICATION: LicenceReason.NO_DERIVATIVES,
    Right.DISTRIBUTION: LicenceReason.NO_DISTRIBUTION,
}


def _reasons(licence: Licence, policy: LicencePolicy) -> Iterable[LicenceReason]:
    """Why a licence does not pass a policy."""
    if licence.unclear:
        yield LicenceReason.UNCLEAR_RIGHTS
    for right, refused in _REFUSED.items():
        if policy.needs(right) and right not in (*licence.rights, *licence.limited, *licence.unclear):
            yield refused
    if any(policy.needs(right) for right in licence.limited) and not policy.allow_limited_grants:
        yield LicenceReason.LIMITED_GRANT
    if licence.share_alike and not policy.allow_share_alike:
        yield LicenceReason.SHARE_ALIKE
    if Duty.USE_RESTRICTIONS in licence.duties and not policy.allow_use_restrictions:
        yield LicenceReason.USE_RESTRICTIONS
