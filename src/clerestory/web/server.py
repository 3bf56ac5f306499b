"""Runs the application on the loopback address, and lets it end without dropping anything."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from clerestory.core.errors import InputError

GRACE_SECONDS = 1.0
FINISH_SECONDS = 30


def run(
    app: Starlette,
    host: str = "127.0.0.1",
    port: int = 8000,
    told: Callable[[str], None] | None = None,
    grace: float = GRACE_SECONDS,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain: not ready, a moment longer open, finish what is under way, end.

    Args:
        app: made by ``create_app``.
        host: a loopback address or name; there is no log-in, so nothing else is taken.
        port: 0 takes a free one.
        told: is given the address to open, once the socket listens.
        grace: how many seconds new requests are still taken after the signal, while ``/readyz`` says no, so that
            whoever balances load has time to see it. A second signal ends the wait.

    Raises:
        InputError: the host is not a loopback address, or the port is taken.
    """
    with contextlib.closing(_listen(host, port)) as listening:
        bound = listening.getsockname()[1]
        if told is not None:
            told(f"http://{f'[{host}]' if ':' in host else host}:{bound}/")
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=FINISH_SECONDS,
            timeout_keep_alive=5,
            h11_max_incomplete_event_size=32_768,
            ws="none",
            loop="asyncio",
        )
        _Server(config, app, grace).run(sockets=[listening])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: Starlette, grace: float) -> None:
        super().__init__(config)
        self._app = app
        self._grace = grace

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but the signal begins the drain, and an orderly end is not followed by dying of the signal."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()

        def begin(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._asked_to_end)

        kept = {number: signal.signal(number, begin) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)

    def _asked_to_end(self) -> None:
        live = self._app.state.site.live
        if self.should_exit:
            self.force_exit = True
        elif live.draining:
            self.should_exit = True
        else:
            live.draining = True
            asyncio.get_running_loop().call_later(self._grace, self._end)

    def _end(self) -> None:
        self.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    if not _is_loopback(host):
        raise InputError(
            f"{host} can be reached from other computers, and these pages have no log-in",
            "use 127.0.0.1, and a tunnel (ssh -L) to reach it from elsewhere",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"port {port} of {host} cannot be used: {reason}", "choose another with --port") from error
    listening.listen(128)
    listening.setblocking(False)
    return listening


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
