"""HTTP/1.1 for strangers: bounded headers, bodies in small pieces, and word of a client that is gone.

uvicorn's protocol with the parser of Node.js (``httptools``), which takes a quarter of the time of the one in Python.
The parser itself has no limit of the size of headers. While the model is overloaded, requests for it are refused right
after their head.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from clerestory.web.early_refusal import early_refusal
from clerestory.web.places import ON_CLIENT_GONE
from clerestory.web.request_body import ARRIVED

READ_BYTES = 16_384
MAX_HEADER_BYTES = 32_768
MAX_HEADERS = 256
LINGER_SECONDS = 5.0  # for the body of a refused request; closed at once, the client might never read the response
HOLD_SECONDS = 0.25  # the refusal of a client that comes back before it may is held back, or it would come at once
GRACE_SECONDS = 2.0  # for the first request of a connection that was just opened
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 43\r\nconnection: close\r\n\r\nthe headers of the request are too large.\n\n"
)


class BoundedHttpProtocol(HttpToolsProtocol):
    """HTTP/1.1, read in small pieces: a large one full of tiny chunks would keep the event loop busy for long."""

    _header_bytes = 0
    _in_headers = True
    _gone: Callable[[], None] | None = None
    _dropping = _keeps = False  # the body of a refused request; the connection after it
    _lingering: asyncio.TimerHandle | None = None
    _held: bytes | None = None
    _holding: asyncio.TimerHandle | None = None
    _not_before = 0.0  # by the clock of the event loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Begin a connection."""
        if hasattr(transport, "max_size"):  # of asyncio's transports
            transport.max_size = READ_BYTES
        super().connection_made(transport)
        self._application = getattr(getattr(self.app, "state", None), "server", None)

    def data_received(self, data: bytes) -> None:
        """Parse the next bytes; a request with headers beyond the limits is answered 431, and the connection closed."""
        for start in range(0, len(data), READ_BYTES):
            if self.transport.is_closing():
                return
            piece = data[start : start + READ_BYTES] if len(data) > READ_BYTES else data
            if self._in_headers:
                self._header_bytes += len(piece)
            super().data_received(piece)
            if self._dropping and self._lingering is None:
                self._lingering = self.loop.call_later(LINGER_SECONDS, self.transport.close)
            if self._in_headers and self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
                self._reject()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._in_headers, self._header_bytes = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in one header; those beyond the limit are not kept."""
        if len(self.headers) < MAX_HEADERS:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._in_headers = False
        self._release()  # the responses keep the order of their requests
        if self._refuse():
            return
        self.scope[ON_CLIENT_GONE] = self._on_client_gone  # type: ignore[literal-required]  # uvicorn's type of a scope is closed
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take in a piece of the body, or drop that of a refused request."""
        if not self._dropping:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note in the scope that the body has arrived, if nobody has begun to read it."""
        self._in_headers, self._header_bytes = True, 0
        if self._dropping:
            self._end_refused()
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.scope[ARRIVED] = len(self.cycle.body)  # type: ignore[literal-required]  # as above
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and tell the request under way."""
        self._stop_lingering()
        if self._holding is not None:
            self._holding.cancel()
        self._held = self._holding = None
        super().connection_lost(exc)
        gone, self._gone = self._gone, None
        if gone is not None and self.cycle is not None and not self.cycle.response_complete:
            gone()

    def shutdown(self) -> None:
        """As in uvicorn, but a connection that was just opened may still send its request."""
        self._release()
        if self.cycle is None and not self.transport.is_closing():
            self.loop.call_later(GRACE_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def _on_client_gone(self, call: Callable[[], None] | None) -> None:
        self._gone = call

    def _reject(self) -> None:
        self.transport.write(_TOO_LARGE)
        self.transport.close()

    def _refuse(self) -> bool:
        """Refuse the request if the model is overloaded; not while a response or a slow reader precedes it."""
        is_free = self.cycle is None or self.cycle.response_complete
        if self._application is None or not is_free or self.flow.write_paused or self.parser.should_upgrade():
            return False
        keep_alive = self.parser.should_keep_alive()
        refusal = early_refusal(self._application, self.parser.get_method(), self.url, self.headers, keep_alive)
        if refusal is None:
            return False
        now = self.loop.time()
        if refusal.keeps and now < self._not_before:
            self._held = refusal.content
            self._holding = self.loop.call_later(HOLD_SECONDS, self._release)
        else:
            self.transport.write(refusal.content)
        self._not_before = now + refusal.retry_after
        self._dropping, self._keeps = True, refusal.keeps
        if not refusal.waits:
            self.transport.close()
        return True

    def _release(self) -> None:
        """Send the refusal that is held back."""
        content, timer = self._held, self._holding
        self._held = self._holding = None
        if timer is not None:
            timer.cancel()
        if content is not None and not self.transport.is_closing():
            self.transport.write(content)

    def _end_refused(self) -> None:
        self._dropping = False
        self._stop_lingering()
        if self._keeps:
            self.on_response_complete()
        else:
            self.transport.close()

    def _stop_lingering(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
