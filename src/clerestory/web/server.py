"""Runs the application on the loopback address, with a graceful shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from clerestory.core.errors import InputError
from clerestory.models.adapters.http_client import is_loopback
from clerestory.web.http_protocol import BoundedHttpProtocol
from clerestory.web.serve_config import HttpConfig

CLOSE_SECONDS = 3.0  # of `stop_seconds`, for what follows the last response
MAX_PORT = 65535
GC_THRESHOLDS = (20_000, 20, 100)  # a request makes hundreds of objects, of which few refer to one another in a circle
LOG = logging.getLogger("clerestory.web")


def run(
    app: Starlette,
    host: str = "127.0.0.1",
    port: int = 8000,
    on_listening: Callable[[str], None] | None = None,
    config: HttpConfig | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain, finish the running requests and return.

    Args:
        app: from ``create_app``.
        host: a loopback address or name; any other only if API keys are demanded and at least one is valid.
        port: 0 selects a free one.
        on_listening: called with the URL once the socket listens.
        config: connections, and the end of the server. A second signal ends the wait for a load balancer.

    Raises:
        InputError: strangers could use the server without a key, or the port is in use.
    """
    config = config or HttpConfig()
    # The imported modules and the samples last as long as the process. A garbage collection that visits all of them
    # stops every thread for a third of a second.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    app.state.server.access.check_start(host, is_loopback(host))
    with contextlib.closing(_listen(host, port)) as listening:
        bound = listening.getsockname()[1]
        if on_listening is not None:
            on_listening(f"http://{f'[{host}]' if ':' in host else host}:{bound}/")
        server = _Server(server_config(app, config), app, config)
        try:
            server.run(sockets=[listening])
        finally:
            server.stopped.set()


def server_config(app: Starlette, config: HttpConfig | None = None) -> uvicorn.Config:
    """The settings of the HTTP server."""
    config = config or HttpConfig()
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # `web.proxies` reads them, from trusted addresses only
        date_header=False,
        timeout_graceful_shutdown=max(1, round(config.stop_seconds - config.drain_seconds - CLOSE_SECONDS)),
        timeout_keep_alive=config.keep_alive_seconds,  # type: ignore[arg-type]  # of asyncio, which takes a fraction, too
        http=BoundedHttpProtocol,
        ws="none",
        loop="asyncio",
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: Starlette, http: HttpConfig) -> None:
        super().__init__(config)
        self._app = app
        self._drain_seconds = http.drain_seconds
        self._stop_seconds = http.stop_seconds
        self.stopped = threading.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As in uvicorn, but a signal begins the drain, and is not raised again after an orderly end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()

        def on_signal(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._shut_down)

        previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As in uvicorn, but who has connected meanwhile is accepted first: closing the socket would reset them."""
        for _ in range(3):  # accept, create the protocol, register it
            await asyncio.sleep(0)
        await super().shutdown(sockets)

    def _shut_down(self) -> None:
        follower = self._app.state.server.follower
        if self.should_exit:
            self.force_exit = True
        elif follower.draining:
            self.should_exit = True
        else:
            follower.draining = True
            threading.Thread(target=self._end_in_time, daemon=True).start()
            asyncio.get_running_loop().call_later(self._drain_seconds, self._exit)

    def _exit(self) -> None:
        self.should_exit = True

    def _end_in_time(self) -> None:
        """End the process if a job in a thread, which nothing can interrupt, goes on for too long."""
        if not self.stopped.wait(self._stop_seconds):
            LOG.error("the model was still running %.0f s after the signal; ended without it", self._stop_seconds)
            os._exit(1)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= MAX_PORT:
        raise InputError(f"port {port} does not exist", f"choose one from 0 to {MAX_PORT} with --port")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it the body of an answer waits for 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        message = f"port {port} on {host} cannot be used: {error.strerror or error}"
        raise InputError(message, "choose another with --port") from error
    listening.listen(128)
    listening.setblocking(False)
    return listening
