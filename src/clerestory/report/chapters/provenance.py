"""What the model was made from: training data, base model and text tower, with licences and duties."""

from __future__ import annotations

from collections.abc import Sequence

from clerestory.core.digest import short
from clerestory.report import format
from clerestory.report.model import Component, LicenceShare
from clerestory.report.view import ComponentView, ProvenanceView, TableView

NOT_RECORDED = (
    "Nothing is recorded about the data and the models that this model was made from: it was not trained in this "
    "store. Read its own model card and licence before you use it."
)
MAX_LICENCES = 8
_UNKNOWN = LicenceShare("", 0)


def provenance_view(components: Sequence[Component]) -> ProvenanceView:
    """What a model was made from, in words and as tables of licences."""
    if not any(part.role == "training data" for part in components):
        return ProvenanceView((NOT_RECORDED,), tuple(_component(part) for part in components), _duties(components))
    return ProvenanceView(
        tuple(_sentence(part) for part in components),
        tuple(_component(part) for part in components),
        _duties(components),
    )


def _sentence(part: Component) -> str:
    licences = format.listing([each.licence or "no recorded licence" for each in part.licences[:MAX_LICENCES]])
    rest = f" and {len(part.licences) - MAX_LICENCES} more" if len(part.licences) > MAX_LICENCES else ""
    under = f" ({licences}{rest})" if part.licences else " (licences not recorded)"
    note = f" {part.note}" if part.note else ""
    size = f"{format.images(part.images)} of " if part.images else ""
    return f"{format.capital(part.role)}{note}: {size}{_name(part)}{under}."


def _name(part: Component) -> str:
    return part.name or (f"a dataset without a name ({short(part.digest)})" if part.digest else "not recorded")


def _component(part: Component) -> ComponentView:
    note = f" {part.note}" if part.note else ""
    facts = [format.images(part.images)] if part.images else []
    facts += [f"digest {short(part.digest)}"] if part.digest else []
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


def _duties(components: Sequence[Component]) -> tuple[str, ...]:
    """What to settle before the model is passed on or sold."""
    found = []
    for part in components:
        what = f"the {part.role} {_name(part)}"
        alike = [each for each in part.licences if format.share_alike(each.licence)]
        if alike:
            named = format.listing([_share(each.licence, each.images) for each in alike])
            found.append(
                f"Share-alike in {what}: {named}. Works made from them may have to carry the same licence; seek legal "
                "advice before you sell them."
            )
        limited = [e.licence for e in part.licences if {"NC", "ND"} & set(e.licence.upper().split("-"))]
        if limited:
            found.append(f"Restricted use in {what}: {format.listing(limited)}.")
        unknown = sum(each.images for each in part.licences if not each.licence)
        if unknown or not part.licences or all(not each.licence for each in part.licences):
            counted = f"{format.images(unknown)} of " if unknown else ""
            found.append(f"No licence is recorded for {counted}{what}; do not assume one.")
    return tuple(found)


def _share(licence: str, images: int) -> str:
    return f"{format.images(images)} under {licence}" if images else licence
