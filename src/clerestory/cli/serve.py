"""``clerestory serve``."""

from __future__ import annotations

from clerestory.apps.datasets import load_dataset
from clerestory.apps.loading import privacy_notice
from clerestory.apps.starter import live_or_starter
from clerestory.cli.output import PLAIN, Common
from clerestory.core.imports import paused_garbage_collection
from clerestory.store import open_store


def serve_(
    name: str = "icons",
    /,
    *,
    data: str = "icons",
    model: str = "",
    host: str = "127.0.0.1",
    port: int = 8000,
    common: Common = PLAIN,
) -> None:
    """Open the pages and the HTTP API on this computer; Ctrl-C stops them.

    Args:
        name: The model name whose live release is served.
        data: The dataset to search.
        model: Serve this model instead: a release, hf:org/name, a folder (./model), openai:http://host/v1#model, or
            starter.
        host: The address to listen on; the default can only be reached from this computer.
        port: The port to listen on.
    """
    with paused_garbage_collection():
        from clerestory.web import create_app, run  # here, because it imports torch

    store = open_store(common.home)
    dataset = load_dataset(store, data, common.out)
    if not model:
        ref, replaced = live_or_starter(store, f"{name}@live")
        if replaced:
            common.out.write_line(f"notice: {replaced}")
            model = ref
    if notice := privacy_notice(model):
        common.out.write_line(f"notice: {notice}")
    run(
        create_app(store, dataset, name, model),
        host=host,
        port=port,
        on_listening=lambda url: common.out.write_line(f"open {url}  (Ctrl-C stops the server)"),
    )
