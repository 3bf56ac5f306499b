"""What a model was made from: training data, base models and text towers, each with its licence and who names it.

What this store saw (a training on exactly this digest) is *recorded*; what a model card or the package of a model says
is *declared*, and marked as such. Nobody here can check a declaration.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from clerestory.core.digest import short
from clerestory.core.errors import ClerestoryError
from clerestory.core.evidence import Evidence
from clerestory.core.sample import Dataset
from clerestory.data.sources import bare_source
from clerestory.models.folder_check import CONFIG
from clerestory.models.languages import MODEL_CARD, card_metadata
from clerestory.models.starter import PHOTOS, STARTER, starter_folder
from clerestory.report.model import TRAINING_KINDS, Basis, Component, LicenceShare
from clerestory.store import Store

CHECKPOINTS = ("early_model", "late_model")
PHOTOS_CARD = Path(str(files("clerestory"))) / PHOTOS / "card.md"
MAX_BASES = 8  # a fine-tuned model of a fine-tuned model …; a limit, should two ever name one another
# Events that say who brought something in, or made it from something else.
DATA_ADDED, DATA_FIXED, MODEL_ADDED = "data_added", "data_fixed", "model_added"
PACKAGE, CARD = "the package Clerestory", "its model card"
_OTHER = "other"  # of a model card: the licence has a name of its own


@dataclass(frozen=True, slots=True)
class _Arrival:
    """Who brought something into the store, when and from where."""

    who: str
    when: str
    source: str


def is_local(source: str) -> bool:
    """Whether a source is a path of this computer, which documents for others must not name."""
    return bare_source(source.removeprefix("hf:")).startswith(("/", "~", "."))


def published_source(source: str) -> str:
    """A source as documents for others name it: without paths of this computer."""
    return "a folder or file on a computer" if is_local(source) else source


def _short_name(source: str) -> str:
    """A reference of a model as its name: of a folder on this computer only the last part of its path."""
    return Path(source).name or source if is_local(source) else source


def training_of(store: Store, model: str) -> Evidence | None:
    """The training or fine-tuning that a model comes from, as its final model or as a checkpoint; None if unknown."""
    for kind in TRAINING_KINDS:
        found = store.find_evidence(kind, model=model)
        if found:
            return found[0]
    trained = (e for kind in TRAINING_KINDS for e in store.find_evidence(kind))
    return next((e for e in trained if model in {e.facts.get(name) for name in CHECKPOINTS}), None)


def components_of(store: Store, model: str, images: Dataset | None = None) -> tuple[Component, ...]:
    """What a model was made from; empty where nothing is recorded or declared.

    The model itself is the first component if it comes from elsewhere: then it has a licence of its own.

    Args:
        store: of the model and of the evidence of its training.
        model: its digest.
        images: a dataset that is counted if it is the training data.
    """
    arrivals = _arrivals(store)
    found: list[Component] = []
    at, seen, part_of = model, set[str](), ""
    while at not in seen and len(seen) < MAX_BASES:
        seen.add(at)
        evidence = training_of(store, at)
        if evidence is None:
            found += _from_elsewhere(store, at, part_of, arrivals)
            break
        note = "of the base model" if part_of else ""
        found.append(replace(_training_data(evidence, images, arrivals), note=note, part_of=part_of))
        found += _text_tower(_folder(store, at), part_of)
        base = _base(evidence, store, arrivals)
        if base is None:
            break
        found.append(replace(base, part_of=part_of))
        if base.name == PHOTOS and _folder(store, base.digest) is None:
            found += _of_photos(base.key)
        if not base.digest:
            break
        at, part_of = base.digest, base.key
    return tuple({(part.key, part.part_of): part for part in reversed(found)}.values())[::-1]


def _training_data(evidence: Evidence, images: Dataset | None, arrivals: Mapping[str, _Arrival]) -> Component:
    facts, digest = evidence.facts, evidence.subject.data
    licences = facts.string_items("licences")
    if licences:
        shares = _shares(dict(zip(licences, map(int, facts.string_items("licence_images")), strict=True)))
    elif images is not None and images.digest == digest:
        shares = _shares(images.training_licences())
    else:
        shares = _starter_licences(digest)
    size = facts.integer("images") or facts.integer("train_samples")
    part = Component("training data", facts.text("data"), digest, size, shares)
    if evidence.subject.model == _starter_digest():
        return replace(part, basis=Basis.DECLARED, declared_by=PACKAGE)
    return _with_arrival(part, arrivals)


def _shares(licences: Mapping[str, int]) -> tuple[LicenceShare, ...]:
    return tuple(LicenceShare(name, images) for name, images in licences.items())


def _starter_licences(digest: str) -> tuple[LicenceShare, ...]:
    """The licences of the starter's training data, which are part of the package; empty for other data."""
    path = starter_folder().with_name("training_data.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["digest"] != digest:
        return ()
    return _shares(content["licences"])


@cache
def _starter_digest() -> str:
    """The digest of the starter, as its evidence in the package names it."""
    (evidence, *_) = json.loads(starter_folder().with_name("evidence.json").read_text(encoding="utf-8"))
    return str(evidence["subject"]["model"])


def _base(evidence: Evidence, store: Store, arrivals: Mapping[str, _Arrival]) -> Component | None:
    facts = evidence.facts
    name = facts.text("base") or facts.text("start_from")
    if not name:
        return None
    digest = facts.text("base_model") or _digest(store, name)
    part = Component("base model", name, digest, 0, ())
    if digest and training_of(store, digest) is not None and name != STARTER:  # trained here: a work of one's own
        return part
    folder = _folder(store, digest)
    card = folder / MODEL_CARD if folder else PHOTOS_CARD if name == PHOTOS else None
    licences = (LicenceShare(declared_licence(card_metadata(card) if card else {}), 0),)
    declared_by = PACKAGE if name in (PHOTOS, STARTER) else CARD
    if name == STARTER and not licences[0].licence:
        licences = (LicenceShare("Apache-2.0", 0),)  # that of the package
    return _with_arrival(replace(part, licences=licences, basis=Basis.DECLARED, declared_by=declared_by), arrivals)


def _digest(store: Store, ref: str) -> str:
    try:
        return store.resolve(ref).digest
    except ClerestoryError:
        return ""


def _folder(store: Store, model: str) -> Path | None:
    try:
        return store.model_folder(model) if model else None
    except (ClerestoryError, OSError):
        return None


def _from_elsewhere(store: Store, model: str, part_of: str, arrivals: Mapping[str, _Arrival]) -> Iterator[Component]:
    """What the files of a model say that was not trained in this store."""
    folder = _folder(store, model)
    if folder is None:
        return
    card = folder / MODEL_CARD
    if _is_photos(card):
        yield from _of_photos(part_of)
        yield from _text_tower(folder, part_of)
        return
    metadata = card_metadata(card)
    if not part_of:
        arrival = arrivals.get(model)
        name = _short_name(arrival.source) if arrival and arrival.source else model[:12]
        licences = (LicenceShare(declared_licence(metadata), 0),)
        part = Component("model", name, model, 0, licences, basis=Basis.DECLARED, declared_by=CARD)
        yield _with_arrival(part, arrivals)
    declared_by = "the model card" if not part_of else "the model card of the base model"
    note = "of the base model" if part_of else ""
    for role, key in (("training data", "datasets"), ("base model", "base_model")):
        for name in _listed(metadata.get(key)):
            yield Component(role, name, "", 0, (), note, Basis.DECLARED, declared_by, part_of=part_of)
    yield from _text_tower(folder, part_of)


def _is_photos(card: Path) -> bool:
    """Whether a model card is that of ``photos``, the model for photographs that is part of Clerestory."""
    try:
        return card.read_bytes() == PHOTOS_CARD.read_bytes()
    except OSError:
        return False


def _of_photos(part_of: str) -> Iterator[Component]:
    yield from _declared(_declarations()["photos"], part_of)


@cache
def _declarations() -> dict[str, Any]:
    """Components that no file of a model names in a form that can be read; reviewed, part of the package."""
    path = Path(str(files("clerestory.report"))) / "declared_components.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _declared(parts: Iterable[Mapping[str, Any]], part_of: str) -> Iterator[Component]:
    """Components from their JSON form, each followed by what it was made from."""
    for each in parts:
        part = Component(
            each["role"],
            each["name"],
            each.get("digest", ""),
            each.get("images", 0),
            _shares(each["licences"]),
            note=each.get("note", ""),
            basis=Basis.DECLARED,
            declared_by=each["declared_by"],
            part_of=part_of,
            unit=each.get("unit", "images"),
        )
        yield part
        note = f"of {each['name'].partition(' (')[0]}"
        yield from _declared(({**inner, "note": note} for inner in each.get("made_from", ())), part.key)


def declared_licence(metadata: Mapping[str, Any]) -> str:
    """The licence in the front matter of a model card, as an expression; empty where there is none."""
    names = _listed(metadata.get("license"))
    own = metadata.get("license_name")
    if isinstance(own, str) and own.strip():
        names = [own.strip() if name == _OTHER else name for name in names] or [own.strip()]
    return " AND ".join(names)


def _listed(value: object) -> list[str]:
    """A text or a list of texts of a model card as a list; anything else is left out."""
    items = value if isinstance(value, list) else [value]
    return [item.strip() for item in items if isinstance(item, str) and item.strip()]


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _text_tower(folder: Path | None, part_of: str) -> Iterator[Component]:
    digest = _config(folder).get("text_tower_digest") if folder else None
    if not isinstance(digest, str) or not digest:
        return
    known = _declarations()["text_towers"].get(digest)
    if known is None:
        name = "a text tower that is not known here"
        yield Component("text tower", name, digest, 0, (LicenceShare("", 0),), part_of=part_of)
        return
    # The digest is recorded in the model; the licence is a declaration.
    yield from _declared([{**known, "digest": digest}], part_of)


def _arrivals(store: Store) -> dict[str, _Arrival]:
    """By digest: who brought data or a model into the store first."""
    try:
        records = store.journal.records(kinds=(DATA_ADDED, DATA_FIXED, MODEL_ADDED))
    except ClerestoryError:
        return {}  # a damaged journal is reported elsewhere
    arrivals: dict[str, _Arrival] = {}
    for event in (record.event for record in records):
        digest = event.subject if event.kind == MODEL_ADDED else event.details.get("digest", "")
        if event.kind == DATA_FIXED:
            parent = f"{event.details['parent']} (digest {short(event.details['made_from'])}) by a fix"
            arrivals[digest] = _Arrival(event.who, event.when, parent)
        else:
            arrivals.setdefault(digest, _Arrival(event.who, event.when, event.details.get("source", "")))
    return arrivals


def _with_arrival(part: Component, arrivals: Mapping[str, _Arrival]) -> Component:
    arrival = arrivals.get(part.digest) if part.digest else None
    if arrival is None:
        return part
    return replace(part, source=arrival.source, added_by=arrival.who, added=arrival.when)
