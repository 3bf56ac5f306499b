"""Mixture of experts: what do its experts do? Load and specialisation; no chapter for a dense model."""

from __future__ import annotations

from clerestory.report import format
from clerestory.report.metric_figures import UNKNOWN
from clerestory.report.model import ExpertGroup, ExpertLayer, ExpertUsage, ReportData
from clerestory.report.svg.heat import heat_map
from clerestory.report.view import Chapter, Figure, TableView

MAX_ROWS = 14
BALANCED = 1.25  # load of the busiest expert over the mean, up to which a load is called balanced
WEAK, STRONG = 0.02, 0.25  # normalised mutual information of a group and the choice of an expert
_MODALITIES = {"image": "pictures", "text": "texts"}


def chapter(data: ReportData) -> Chapter | None:
    """Load of each expert, and the images and texts it is chosen for."""
    usage = data.experts
    if usage is None or not usage.layers:
        return None
    lead = (
        "An expert is a small network; a router sends each image patch or text token to a few of them. This was "
        f"measured on {format.images(usage.images)}{_split(usage.split)}. Specialisation alone is not an "
        "advantage: only a comparison with a dense model shows whether the experts help."
    )
    strongest = _most_specialised(usage)
    shown = tuple(_figure(layer, group) for layer, group in strongest)
    rest = tuple(
        _figure(layer, group)
        for layer in usage.layers
        for group in layer.groups
        if not any(layer is a and group is b for a, b in strongest)
    )
    return Chapter(
        "experts", "Mixture of experts: what do its experts do?", "Experts", 150, answer=_answer(usage), lead=lead,
        figures=shown, more=rest, more_title="Every layer", tables=(_table(usage),), warnings=_warnings(usage),
    )  # fmt: skip


def _split(name: str) -> str:
    return f" of the split {name}" if name else ""


def _most_specialised(usage: ExpertUsage) -> list[tuple[ExpertLayer, ExpertGroup]]:
    """Of each group the layer whose experts differ most by it."""
    best: dict[str, tuple[ExpertLayer, ExpertGroup]] = {}
    for layer in usage.layers:
        for group in layer.groups:
            if group.name not in best or group.specialisation > best[group.name][1].specialisation:
                best[group.name] = (layer, group)
    return sorted(best.values(), key=lambda pair: (-pair[1].specialisation, pair[1].name))


def _answer(usage: ExpertUsage) -> str:
    busiest = max(usage.layers, key=lambda layer: layer.max_over_mean)
    dead = sum(len(layer.dead) for layer in usage.layers)
    experts = sum(len(layer.load) for layer in usage.layers)
    where = "" if len(usage.layers) == 1 else f" in {format.plural(len(usage.layers), 'layer')}"
    balance = "balanced" if busiest.max_over_mean <= BALANCED else "not balanced"
    unused = "no expert is dead" if not dead else f"{dead} of them {'is' if dead == 1 else 'are'} dead (hardly used)"
    text = (
        f"The load of its {experts} experts{where} is {balance}: the busiest has {busiest.max_over_mean:.2f} times the "
        f"mean load of its layer, and {unused}."
    )
    groups = [group for _, group in _most_specialised(usage)]
    if not groups:
        return text
    strongest = groups[0]
    if strongest.specialisation < WEAK:
        return text + " The choice of an expert hardly depends on the kind of picture."
    degree = "strongly" if strongest.specialisation >= STRONG else "slightly"
    return text + f" The choice of an expert depends {degree} on the {format.slice_key(strongest.name)}."


def _warnings(usage: ExpertUsage) -> tuple[str, ...]:
    found = []
    for layer in usage.layers:
        if layer.dead:
            names = format.listing([str(e + 1) for e in layer.dead])
            who, are = ("Expert", "is") if len(layer.dead) == 1 else ("Experts", "are")
            found.append(f"{who} {names} of {place(layer)} {are} dead: memory without use.")
    return tuple(found)


def place(layer: ExpertLayer) -> str:
    """A layer in plain words: ``block 2 of the image tower``."""
    parts = layer.name.split(".")
    number = next((int(part) + 1 for part in parts if part.isdigit()), 0)
    tower = {"image_tower": "the image tower", "decoder": "the caption decoder"}.get(parts[0], "the model")
    return f"block {number} of {tower}" if number else layer.name or tower


def _figure(layer: ExpertLayer, group: ExpertGroup) -> Figure:
    key = format.slice_key(group.name)
    title = f"Expert choice by {key}: {place(layer)}"
    rows = [*_rows(group), ("all", _shares(layer.load))]
    experts = tuple(str(e + 1) for e in range(len(layer.load)))
    desc = (
        f"Of 100 choices of each {key}, how many fell on each expert. {_specialisation(group)} The busiest expert has "
        f"{layer.max_over_mean:.2f} times the mean load."
    )
    name = f"experts-{layer.name}-{group.name}".replace(".", "-")
    table = TableView(
        f"{title}: choices of 100", (format.capital(key), *(f"Expert {e}" for e in experts)),
        tuple((label, *(f"{100 * share:.1f}" for share in shares)) for label, shares in rows),
    )  # fmt: skip
    note = f"Each row adds up to 100 choices; the last is all of them. {_specialisation(group)}"
    return Figure(name, title, desc, heat_map(f"fig-{name}", title, desc, rows, experts), note, table)


def _specialisation(group: ExpertGroup) -> str:
    key = format.capital(format.slice_key(group.name))
    return f"{key} and expert have a normalised mutual information of {group.specialisation:.2f} (0: none, 1: all)."


def _rows(group: ExpertGroup) -> list[tuple[str, tuple[float, ...]]]:
    """The values with most choices; the rarest summed up in one row."""
    found = sorted(zip(group.values, group.choices, strict=True), key=lambda row: (-sum(row[1]), row[0]))
    found = [(value, row) for value, row in found if sum(row)]
    if len(found) > MAX_ROWS:
        rest = [sum(column) for column in zip(*(row for _, row in found[MAX_ROWS - 1 :]), strict=True)]
        found = [*found[: MAX_ROWS - 1], (f"{len(found) - MAX_ROWS + 1} others", tuple(rest))]
    return [(_MODALITIES.get(v, format.slice_value(group.name, v)), _shares(row)) for v, row in found]


def _shares(row: tuple[int, ...]) -> tuple[float, ...]:
    total = max(1, sum(row))
    return tuple(n / total for n in row)


def _table(usage: ExpertUsage) -> TableView:
    names = list(dict.fromkeys(group.name for layer in usage.layers for group in layer.groups))
    rows = []
    for layer in usage.layers:
        known = {group.name: group.specialisation for group in layer.groups}
        values = [f"{known[name]:.2f}" if name in known else UNKNOWN for name in names]
        dead = ", ".join(str(e + 1) for e in layer.dead) or "none"
        modalities = format.listing([_MODALITIES.get(m, m) for m in layer.modalities]) or UNKNOWN
        rows.append((place(layer), modalities, str(len(layer.load)), f"{layer.max_over_mean:.2f}", dead, *values))
    head = (
        "Layer",
        "Processes",
        "Experts",
        "Busiest / mean load",
        "Dead experts",
        *(format.capital(format.slice_key(n)) for n in names),
    )
    caption = "Load, and specialisation by group (normalised mutual information, 0 to 1)"
    return TableView(caption, head, tuple(rows))
