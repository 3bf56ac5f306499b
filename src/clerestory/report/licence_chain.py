"""The licences of everything that a model was made from, followed to the model and to its output.

``core.licences`` decides; here the components of a model become its chain. Each licence of a dataset is an item of its
own, so that a blocking source is named with its licence and its number of images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from clerestory.core.licences.chain import ItemKind, LicenceSource, LicenceTrace, LicensedItem, trace_licences
from clerestory.core.licences.policy import LicencePolicy, LicenceState
from clerestory.core.licences.table import LicenceTable
from clerestory.core.units import plural
from clerestory.report.model import Component, LicenceShare

ChainEnd = Literal["model", "output"]
MODEL, OUTPUT = "the model", "its output"
ITSELF = "model"  # the role of a model from elsewhere among its components
_DATA_ROLES = ("training data", "class names")


@dataclass(frozen=True, slots=True)
class ChainLink:
    """A source of a chain with the component and the licence that it stands for.

    Attributes:
        source: with its verdict.
        component: what has the licence; None for the model itself and for its output.
        share: the licence and its number of images; None where none is recorded.
    """

    source: LicenceSource
    component: Component | None
    share: LicenceShare | None

    @property
    def name(self) -> str:
        """What it is: ``890 images of pictograms under CC-BY-SA-4.0``."""
        return self.describe("image")

    def describe(self, image: str) -> str:
        """What it is, with another word for an image: ``890 … of pictograms under CC-BY-SA-4.0``."""
        if self.component is None:
            return self.source.name
        licence = self.share.licence if self.share else ""
        under = f" under {licence}" if licence else ", without a recorded licence"
        name = self.component.name or f"the {self.component.role}"
        if self.share and self.share.images and self.component.unit == "images":
            return f"{plural(self.share.images, image)} of {name}{under}"
        return f"{name}{under}"


@dataclass(frozen=True, slots=True)
class LicenceChain:
    """The licences that reach a model or its output.

    Attributes:
        trace: of the engine.
        links: its sources, the nearest first, without those that have no licence of their own.
        is_complete: whether any training data is known; without it nothing can be said about a model.
    """

    trace: LicenceTrace
    links: tuple[ChainLink, ...]
    is_complete: bool

    @property
    def state(self) -> LicenceState:
        """The worst of the sources; unknown at best if the training data are not known."""
        if self.is_complete or self.trace.state == LicenceState.FAILS:
            return self.trace.state
        return LicenceState.UNKNOWN

    @property
    def blocking(self) -> tuple[ChainLink, ...]:
        """The sources that the policy refuses, those that fail before the unknown ones."""
        blocked = [link for link in self.links if link.source.verdict.blocks(self.trace.policy)]
        return tuple(sorted(blocked, key=lambda link: link.source.verdict.state.rank))


def licence_chain(
    components: Sequence[Component],
    policy: LicencePolicy,
    end: ChainEnd = "model",
    table: LicenceTable | None = None,
) -> LicenceChain:
    """The licences that reach a model, or its output, from everything that it was made from.

    Args:
        components: of the model, as ``components_of`` returns them.
        policy: the needed rights and the acceptable conditions.
        end: the model, when it is passed on; or its output.
        table: in place of the table of the package.
    """
    parts: dict[str, tuple[Component, LicenceShare | None]] = {}
    items = list(_items(components, parts))
    if end == "output":
        items.append(LicensedItem(OUTPUT, ItemKind.OUTPUT, None, (MODEL,)))
    trace = trace_licences(items, OUTPUT if end == "output" else MODEL, policy, table)
    known = {item.name: item for item in items}
    links = tuple(
        ChainLink(source, *parts.get(source.name, (None, None)))
        for source in trace.sources
        if known[source.name].licence is not None
    )
    return LicenceChain(trace, links, any(part.role == "training data" for part in components))


def _items(
    components: Sequence[Component], parts: dict[str, tuple[Component, LicenceShare | None]]
) -> Iterator[LicensedItem]:
    """The items of the chain; ``parts`` receives the component and the licence that each stands for."""
    names: dict[str, list[str]] = {}  # of the items that a component was made from, by its key
    for part in reversed(components):  # what something was made from comes after it
        if part.role == ITSELF:
            continue
        kind = ItemKind.DATA if part.role in _DATA_ROLES else ItemKind.MODEL
        for number, share in enumerate(part.licences or (None,)):
            name = f"{part.key} {number} {part.part_of}"
            parts[name] = (part, share)
            licence: str | None = share.licence if share else ""
            if share is None and kind == ItemKind.MODEL and names.get(part.key):
                licence = None  # trained here: what it owes is what it was made from
            yield LicensedItem(name, kind, licence, tuple(names.get(part.key, ())))
            names.setdefault(part.part_of, []).append(name)
    itself = next((part for part in components if part.role == ITSELF), None)
    licence = " AND ".join(each.licence for each in itself.licences) if itself else None
    if itself:
        parts[MODEL] = (itself, itself.licences[0] if itself.licences else None)
    yield LicensedItem(MODEL, ItemKind.MODEL, licence, tuple(names.get("", ())))
