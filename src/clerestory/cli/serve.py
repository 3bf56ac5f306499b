"""``clerestory serve``."""

from __future__ import annotations

from clerestory.apps.catalogue import dataset
from clerestory.cli.output import PLAIN, Common
from clerestory.store import open_store
from clerestory.web import create_app, run


def serve_(
    name: str = "icons", /, *, data: str = "icons", host: str = "127.0.0.1", port: int = 8000, common: Common = PLAIN
) -> None:
    """Open the pages and the HTTP API on this computer; Ctrl-C ends it.

    Args:
        name: The line of models whose live release is served.
        data: The pictures to search in.
        host: The address to listen on; only this computer can reach the default.
        port: The port to listen on.
    """
    store = open_store(common.home)
    pictures = dataset(store, data, common.out)
    run(
        create_app(store, pictures, name),
        host=host,
        port=port,
        told=lambda address: common.out.say(f"open {address}  (Ctrl-C ends it)"),
    )
