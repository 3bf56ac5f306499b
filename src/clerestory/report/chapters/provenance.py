"""What the model was made from: training data, base model and text tower, with licences and duties."""

from __future__ import annotations

from collections.abc import Sequence

from clerestory.core.digest import short
from clerestory.core.licences.policy import LicencePolicy, LicenceState
from clerestory.core.licences.terms import REASON_LABELS
from clerestory.core.units import plural
from clerestory.report import format
from clerestory.report.licence_chain import ChainLink, licence_chain
from clerestory.report.model import Basis, Component, LicenceShare
from clerestory.report.view import ComponentView, LicenceAnswer, ProvenanceView, TableView

NOT_RECORDED = (
    "Nothing is recorded about the data and the models that this model was made from: it was not trained in this "
    "store. Read its own model card and licence before you use it."
)
MAX_LICENCES = 8
MAX_BLOCKING = 6
IMAGE = "picture"  # the word for people who are not engineers
_UNKNOWN = LicenceShare("", 0)
COMMERCIAL = LicencePolicy()
_QUESTION = "May it be used commercially and passed on, without sharing it under the same licence?"
_DISPUTED = "as far as duties of training data reach a trained model, which is legally disputed"


def provenance_view(components: Sequence[Component], policy: LicencePolicy = COMMERCIAL) -> ProvenanceView:
    """What a model was made from, in words and as tables of licences, and what its licences allow.

    Args:
        components: as ``report.provenance.components_of`` returns them.
        policy: the rights that are needed, and the conditions that are acceptable.
    """
    is_known = any(part.role == "training data" for part in components)
    return ProvenanceView(
        tuple(_sentence(part) for part in components) if is_known else (NOT_RECORDED,),
        tuple(_component(part) for part in components),
        _answer(components, policy),
    )


def _answer(components: Sequence[Component], policy: LicencePolicy) -> LicenceAnswer:
    """What the licences allow under a policy, with the sources that block it."""
    chain = licence_chain(components, policy)
    question = _QUESTION if policy == COMMERCIAL else "Does the policy on licences allow it?"
    if chain.state == LicenceState.PASSES:
        return LicenceAnswer(question, "yes", "Yes: every licence of everything that it was made from allows it.")
    lines = [_blocking_line(link) for link in chain.blocking]
    if not chain.is_complete:
        lines.append("training data: nothing is recorded about it")
    rest = len(lines) - MAX_BLOCKING
    named = (*lines[:MAX_BLOCKING], *((f"and {plural(rest, 'other')}",) if rest > 0 else ()))
    blocked = f"blocked by {plural(len(lines), 'source')}"
    if chain.state == LicenceState.UNKNOWN:
        return LicenceAnswer(question, "unknown", f"That cannot be said: {blocked}.", named, len(lines))
    return LicenceAnswer(question, "no", f"No, {_DISPUTED}: {blocked}.", named, len(lines))


def _blocking_line(link: ChainLink) -> str:
    reasons = format.listing([REASON_LABELS[reason] for reason in link.source.verdict.reasons])
    declared = "" if link.component is None or link.component.basis == Basis.RECORDED else " (as declared)"
    return f"{link.describe(IMAGE)}{declared}: {reasons}"


def _sentence(part: Component) -> str:
    licences = format.listing([each.licence or "no recorded licence" for each in part.licences[:MAX_LICENCES]])
    rest = f" and {len(part.licences) - MAX_LICENCES} more" if len(part.licences) > MAX_LICENCES else ""
    under = f" ({licences}{rest})" if part.licences else " (licences not recorded)"
    note = f" {part.note}" if part.note else ""
    size = f"{_size(part)} of " if part.images and part.unit == "images" else ""
    declared = f", as declared by {part.declared_by}" if part.basis == Basis.DECLARED else ""
    return f"{format.capital(part.role)}{note}: {size}{_name(part)}{under}{declared}."


def _size(part: Component) -> str:
    """The size of training data, in the word for people who are not engineers."""
    return format.images(part.images) if part.unit == "images" else f"{format.count(part.images)} {part.unit}"


def _name(part: Component) -> str:
    return part.name or (f"a dataset without a name ({short(part.digest)})" if part.digest else "not recorded")


def _component(part: Component) -> ComponentView:
    note = f" {part.note}" if part.note else ""
    facts = [_size(part)] if part.images else []
    facts += [f"digest {short(part.digest)}"] if part.digest else []
    declared = part.basis == Basis.DECLARED
    facts.append(f"as declared by {part.declared_by}, not checked here" if declared else "recorded by this store")
    if part.added_by:
        source = f" from {part.source}" if part.source else ""
        facts.append(f"brought in by {part.added_by} on {format.when(part.added)}{source}")
    shares = part.licences or (_UNKNOWN,)
    if any(each.images for each in shares):
        head: tuple[str, ...] = ("Licence", "Pictures", "Requires")
    else:
        head = ("Licence", "Requires")
    rows = tuple(tuple(_cells(each)[name] for name in head) for each in shares)
    title = f"{format.capital(part.role)}{note}: {_name(part)}"
    return ComponentView(title, ", ".join(facts), TableView(f"Licences of {_name(part)}", head, rows))


def _cells(share: LicenceShare) -> dict[str, str]:
    return {
        "Licence": share.licence or "not recorded",
        "Pictures": format.count(share.images) if share.images else "",
        "Requires": format.licence_words(share.licence),
    }
