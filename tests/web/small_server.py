"""A real server with a tiny model and a few images, and no releases: it starts in seconds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from tests.web.conftest import wait_ready

from clerestory.web.server import _listen, server_config


@contextmanager
def running(app: Starlette) -> Iterator[str]:
    """The URL of the application, without the last slash, once its model is loaded."""
    listening = _listen("127.0.0.1", 0)
    server = uvicorn.Server(server_config(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    base = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        with httpx.Client(base_url=base, timeout=60) as client:
            wait_ready(client)
        yield base
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
