"""Models of the store exported to ONNX: made once, found by the digest of their model, opened where torch is absent.

An export is a model folder of the store. Which one belongs to a model is in the cache, and in the journal, which says
whether the cache can be trusted: an export that the journal does not name is not opened.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from clerestory.core.codec import Tags
from clerestory.core.digest import canonical, short
from clerestory.core.errors import CapabilityError, ConfigError, IntegrityError, NotFound
from clerestory.core.provenance import current_user, now
from clerestory.core.release import Event
from clerestory.models.onnx.folder import FORMAT, ExportComparison, read_settings
from clerestory.store import Store

if TYPE_CHECKING:
    from clerestory.models.onnx.encoder import OnnxEncoder
    from clerestory.models.protocols import AnyModel

EXPORTED = "exported"  # the kind of the journal record
RUNTIME = "CLERESTORY_RUNTIME"
ONNX, TORCH = "onnx", "torch"
INSTALL_TORCH = "install clerestory with all its dependencies (pip install clerestory)"


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """An export of a model.

    Attributes:
        model: the digest of the model.
        export: the digest of the folder of the export.
        bytes: the size of that folder and of the text tower that it shares with other exports.
        comparison: with the model, when it was exported.
    """

    model: str
    export: str
    bytes: int
    comparison: ExportComparison | None


def runtime() -> str:
    """What runs models: ``onnx`` where torch is not installed or ``CLERESTORY_RUNTIME`` says so, else ``torch``.

    Raises:
        ConfigError: the variable has another value.
    """
    chosen = os.environ.get(RUNTIME, "")
    if chosen not in ("", ONNX, TORCH):
        raise ConfigError(f"{RUNTIME} is {chosen!r}", f"set it to {ONNX} or {TORCH}, or unset it")
    return chosen or (TORCH if _has_torch() else ONNX)


def export_onnx(
    store: Store, model: AnyModel, ref: str, force: bool = False, images: Sequence[Image.Image] = ()
) -> ExportedModel:
    """Export a model, compare the result with it, and keep it in the store; one that exists is returned.

    Args:
        store: has the model, and receives the export.
        model: opened with torch.
        ref: its reference, for the journal.
        force: export again.
        images: to compare on, besides those that are made.

    Raises:
        CapabilityError, IntegrityError: as ``export_model``.
    """
    if not force and (folder := find_export(store, model.digest)) is not None:
        return _described(model.digest, folder)
    from clerestory.models.onnx.export import export_model  # here, because it imports torch

    tower_digest = str(model.facts().get("text_tower", ""))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tower = _exported_tower(store, tower_digest, force) if tower_digest else ""
        export_model(model, folder, store.model_folder(tower) if tower else folder, tower, images)
        export = store.put_model(folder)
    details = Tags(export=export, format=str(FORMAT), model=model.digest, runtime=ONNX)
    why = f"exported {ref} to ONNX"
    store.journal.append(Event(EXPORTED, model.digest, current_user(), why, now(), details))
    store.cache_put(_key(model.digest), store.blobs.put(canonical({"export": export})))
    return _described(model.digest, store.model_folder(export))


def find_export(store: Store, model: str) -> Path | None:
    """The verified folder of the newest export of a model; None if there is none in the present format.

    Raises:
        IntegrityError: its files were changed, or the journal does not name it.
    """
    content = store.cache_read(_key(model))
    if content is None:
        return None
    export = str(json.loads(content)["export"])
    try:
        folder = store.model_folder(export)
    except NotFound:
        return None
    known = [r.event.details.get("export") for r in store.journal.records(model, kinds=(EXPORTED,))]
    if export not in known:
        raise IntegrityError(
            f"the journal does not name {short(export)} as an export of the model {short(model)}",
            "export it again with --force",
        )
    _verify(store, export)
    settings = read_settings(folder)
    if settings.source != model:
        raise IntegrityError(f"{folder} was exported from another model", "export it again with --force")
    _verify(store, settings.text_tower)
    return folder


def open_export(store: Store, model: str, name: str) -> OnnxEncoder:
    """The export of a model, ready to use.

    Args:
        store: has the export.
        model: the digest of the model.
        name: its reference, for messages.

    Raises:
        CapabilityError: the model has no export, or onnxruntime is not installed.
        IntegrityError: as ``find_export``.
    """
    folder = find_export(store, model)
    if folder is None:
        reason = "torch is not installed" if not _has_torch() else f"{RUNTIME} is {ONNX}"
        raise CapabilityError(
            f"{name or short(model)} has no export to ONNX, and {reason}",
            f"where torch is installed, run: clerestory release export {name or short(model)} --onnx; "
            f"or {INSTALL_TORCH}",
        )
    from clerestory.models.onnx.encoder import open_exported  # here, because it imports onnxruntime

    return open_exported(folder)


def _exported_tower(store: Store, tower_digest: str, force: bool) -> str:
    """The digest of the folder of the exported text tower, which all exports with this text tower share."""
    key = _key(f"text-tower/{tower_digest}")
    content = store.cache_read(key)
    if content is not None and not force:
        known = str(json.loads(content)["export"])
        if not any(finding.state == "fail" for finding in store.verify_model(known)):
            return known
    from clerestory.models.onnx.export import export_text_tower  # here, because it imports torch

    with tempfile.TemporaryDirectory() as temporary:
        export_text_tower(tower_digest, Path(temporary))
        exported = store.put_model(Path(temporary))
    store.cache_put(key, store.blobs.put(canonical({"export": exported})))
    return exported


def _described(model: str, folder: Path) -> ExportedModel:
    settings = read_settings(folder)
    files = [*folder.iterdir(), *(folder.parent / settings.text_tower).iterdir()]
    return ExportedModel(model, folder.name, sum(file.stat().st_size for file in files), settings.comparison)


def _verify(store: Store, export: str) -> None:
    failed = [finding for finding in store.verify_model(export) if finding.state == "fail"]
    if failed:
        raise IntegrityError(f"the export {short(export)} has changed: {failed[0].message}", failed[0].fix)


def _key(model: str) -> str:
    return f"onnx/{FORMAT}/{model}"


def _has_torch() -> bool:
    try:
        return find_spec("torch") is not None
    except (ImportError, ValueError):
        return False
