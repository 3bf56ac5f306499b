"""``clerestory release export``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from clerestory.apps.exported_models import TORCH, export_onnx, runtime
from clerestory.apps.loading import open_stored
from clerestory.apps.references import model_reference
from clerestory.cli.output import PLAIN, Common
from clerestory.core.digest import short
from clerestory.core.errors import CapabilityError, InputError
from clerestory.store import open_store


def export_(
    ref: str,
    /,
    *,
    onnx: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Export the model of a release to ONNX, for a server without torch, and compare the answers of both.

    Args:
        ref: A release (icons@3, icons@live), a model's digest, starter or photos.
        onnx: The format; the only one so far.
        force: Export again, although an export exists.
    """
    if not onnx:
        raise InputError("no format was named", f"run: clerestory release export {ref} --onnx")
    if runtime() != TORCH:
        raise CapabilityError(
            "exporting a model needs torch", "run it where clerestory is installed with all its dependencies"
        )
    store = open_store(common.home)
    name = model_reference(store, ref)
    model = open_stored(store, store.resolve(name).digest, ref)
    exported = export_onnx(store, model, ref, force)
    facts = Table(box=None, show_header=False)
    facts.add_row("model", short(exported.model))
    facts.add_row("export", short(exported.export))
    facts.add_row("size", f"{exported.bytes / 1e6:,.1f} MB, the text tower included, which exports share")
    if (compared := exported.comparison) is not None:
        facts.add_row("images", f"{compared.images}, least cosine similarity {compared.min_image_cosine:.7f}")
        facts.add_row("texts", f"{compared.texts}, least cosine similarity {compared.min_text_cosine:.7f}")
        if compared.captions:
            facts.add_row("captions", f"{compared.equal_captions} of {compared.captions} equal")
    common.out.result(exported, f"✓ {ref} can be served without torch", facts)
