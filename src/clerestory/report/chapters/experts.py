"""What do its experts do? Load and specialisation of each layer with experts; no chapter for a dense model."""

from __future__ import annotations

from clerestory.report import format
from clerestory.report.heat import heat
from clerestory.report.model import ExpertGroup, ExpertLayer, Experts, ReportData
from clerestory.report.view import Chapter, Figure, Table

MOST_ROWS = 14
EVEN = 1.25  # busiest expert over the mean, up to which a load is called even
LITTLE, MUCH = 0.02, 0.25  # of the information that a group and the choice of an expert share
_MODALITY = {"image": "pictures", "text": "words"}


def chapter(data: ReportData) -> Chapter | None:
    """Who does how much, and for which pictures."""
    card = data.experts
    if card is None or not card.layers:
        return None
    lead = (
        "An expert is a small network; each piece of a picture, or word of a caption, visits the few that a gate "
        f"picks for it. This was watched on {format.count(card.pictures)} {_pictures(card.split)}. Experts that differ "
        "in what they do are no merit in themselves: whether they help, only a comparison with a model without them "
        "tells."
    )
    telling = _most_telling(card)
    shown = tuple(_figure(card, layer, group) for layer, group in telling)
    rest = tuple(
        _figure(card, layer, group)
        for layer in card.layers
        for group in layer.groups
        if not any(layer is a and group is b for a, b in telling)
    )
    return Chapter(
        "experts",
        "What do its experts do?",
        "Experts",
        _answer(card),
        lead,
        shown,
        rest,
        "Every layer",
        (_table(card),),
        warnings=_warnings(card),
    )


def _pictures(split: str) -> str:
    return format.slice_value("split", split) if split else "pictures"


def _most_telling(card: Experts) -> list[tuple[ExpertLayer, ExpertGroup]]:
    """Of each group the layer whose experts differ most by it."""
    best: dict[str, tuple[ExpertLayer, ExpertGroup]] = {}
    for layer in card.layers:
        for group in layer.groups:
            if group.name not in best or group.specialisation > best[group.name][1].specialisation:
                best[group.name] = (layer, group)
    return sorted(best.values(), key=lambda pair: (-pair[1].specialisation, pair[1].name))


def _answer(card: Experts) -> str:
    busiest = max(card.layers, key=lambda layer: layer.max_over_mean)
    dead = sum(len(layer.dead) for layer in card.layers)
    experts = sum(len(layer.load) for layer in card.layers)
    where = "" if len(card.layers) == 1 else f" in {format.plural(len(card.layers), 'layer')}"
    shared = "share the work evenly" if busiest.max_over_mean <= EVEN else "do not share the work evenly"
    idle = "none is without work" if not dead else f"{dead} of them {'is' if dead == 1 else 'are'} without work"
    text = (
        f"Its {experts} experts{where} {shared}: the busiest has {busiest.max_over_mean:.2f} times the mean of its "
        f"layer, and {idle}."
    )
    groups = [group for _, group in _most_telling(card)]
    if not groups:
        return text
    most = groups[0]
    if most.specialisation < LITTLE:
        return text + " Which expert is picked says next to nothing about the kind of picture."
    degree = "much" if most.specialisation >= MUCH else "a little"
    return text + f" Which expert is picked says {degree} about the {format.slice_key(most.name)}."


def _warnings(card: Experts) -> tuple[str, ...]:
    found = []
    for layer in card.layers:
        if layer.dead:
            names = format.listing([str(e + 1) for e in layer.dead])
            who = "Expert" if len(layer.dead) == 1 else "Experts"
            found.append(f"{who} {names} of {place(layer)} did next to nothing: memory without use.")
    return tuple(found)


def place(layer: ExpertLayer) -> str:
    """A layer in plain words: ``block 2 of the image tower``."""
    parts = layer.name.split(".")
    number = next((int(part) + 1 for part in parts if part.isdigit()), 0)
    tower = {"image_tower": "the image tower", "decoder": "the caption decoder"}.get(parts[0], "the model")
    return f"block {number} of {tower}" if number else layer.name or tower


def _figure(card: Experts, layer: ExpertLayer, group: ExpertGroup) -> Figure:
    key = format.slice_key(group.name)
    title = f"By {key}: {place(layer)}"
    rows = [*_rows(group), ("all", _shares(layer.load))]
    experts = tuple(str(e + 1) for e in range(len(layer.load)))
    desc = (
        f"Of 100 choices of each {key}, how many fell on each expert. {format.sentence(_spread(group))}"
        f" The busiest expert has {layer.max_over_mean:.2f} times the mean."
    )
    name = f"experts-{layer.name}-{group.name}".replace(".", "-")
    table = Table(
        f"{title}: choices of 100", (key.capitalize(), *(f"Expert {e}" for e in experts)),
        tuple((label, *(f"{100 * share:.1f}" for share in shares)) for label, shares in rows),
    )  # fmt: skip
    note = f"Each row adds up to 100 choices; the last is all of them. {_spread(group)}"
    return Figure(name, title, desc, heat(f"fig-{name}", title, desc, rows, experts), note, table)


def _spread(group: ExpertGroup) -> str:
    return (
        f"{format.slice_key(group.name).capitalize()} and expert share {100 * group.specialisation:.0f} of 100 parts "
        "of their information."
    )


def _rows(group: ExpertGroup) -> list[tuple[str, tuple[float, ...]]]:
    """The values with most choices; the rarest added up in one row."""
    found = sorted(zip(group.values, group.choices, strict=True), key=lambda row: (-sum(row[1]), row[0]))
    found = [(value, row) for value, row in found if sum(row)]
    if len(found) > MOST_ROWS:
        rest = [sum(column) for column in zip(*(row for _, row in found[MOST_ROWS - 1 :]), strict=True)]
        found = [*found[: MOST_ROWS - 1], (f"{len(found) - MOST_ROWS + 1} others", tuple(rest))]
    return [(_MODALITY.get(v, format.slice_value(group.name, v)), _shares(row)) for v, row in found]


def _shares(row: tuple[int, ...]) -> tuple[float, ...]:
    total = max(1, sum(row))
    return tuple(n / total for n in row)


def _table(card: Experts) -> Table:
    names = list(dict.fromkeys(group.name for layer in card.layers for group in layer.groups))
    rows = []
    for layer in card.layers:
        known = {group.name: group.specialisation for group in layer.groups}
        told = [f"{known[name]:.2f}" if name in known else "—" for name in names]
        dead = ", ".join(str(e + 1) for e in layer.dead) or "none"
        seen = format.listing([_MODALITY.get(m, m) for m in layer.modalities]) or "—"
        rows.append((place(layer), seen, str(len(layer.load)), f"{layer.max_over_mean:.2f}", dead, *told))
    head = (
        "Layer",
        "Sees",
        "Experts",
        "Busiest / mean",
        "Without work",
        *(format.slice_key(n).capitalize() for n in names),
    )
    caption = "Load, and from 0 to 1 how much the choice of an expert and each kind of group tell about one another"
    return Table(caption, head, tuple(rows))
