"""``clerestory serve``."""

from __future__ import annotations

from clerestory.apps.catalogue import dataset
from clerestory.apps.loading import privacy_notice
from clerestory.apps.starter import live_or_starter
from clerestory.cli.output import PLAIN, Common
from clerestory.store import open_store
from clerestory.web import create_app, run


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
    """Open the pages and the HTTP API on this computer; Ctrl-C ends it.

    Args:
        name: The line of models whose live release is served.
        data: The pictures to search in.
        model: Serve this model instead: a release, hf:org/name, a folder (./model), openai:http://host/v1#model, or
            starter.
        host: The address to listen on; only this computer can reach the default.
        port: The port to listen on.
    """
    store = open_store(common.home)
    pictures = dataset(store, data, common.out)
    if not model:
        ref, other = live_or_starter(store, f"{name}@live")
        if other:
            common.out.say(f"notice: {other}")
            model = ref
    if notice := privacy_notice(model):
        common.out.say(f"notice: {notice}")
    run(
        create_app(store, pictures, name, model),
        host=host,
        port=port,
        told=lambda address: common.out.say(f"open {address}  (Ctrl-C ends it)"),
    )
