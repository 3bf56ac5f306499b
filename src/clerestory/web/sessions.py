"""Sessions of people who sign in to the pages with an API key: a signed cookie, and nothing in the database.

The cookie has the visible id of the key, never the key; it ends with its time, or with the key.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable

from clerestory.core.errors import NotWritable
from clerestory.store import Store
from clerestory.store.operations.keyed_hash import KeyedHash

LOG = logging.getLogger("clerestory.web")
SESSION_COOKIE = "clerestory_session"
MAX_COOKIE = 300


class Sessions:
    """Signs and reads the cookies of one store; several servers of it accept each other's.

    Args:
        store: its folder holds the secret.
        seconds: how long a session lasts.
    """

    def __init__(self, store: Store, seconds: float) -> None:
        self.seconds = seconds
        self._store = store
        self._signer: Callable[[str], str] | None = None

    def issue(self, key_id: str, now: float) -> str:
        """The cookie of a new session of a key."""
        signed = f"{key_id}.{int(now + self.seconds)}.{secrets.token_hex(8)}"
        return f"{signed}.{self._sign(signed)}"

    def key_id(self, cookie: str, now: float) -> str:
        """The id of the key of a session; empty if the cookie is not ours, or has ended."""
        signed, _, signature = cookie[:MAX_COOKIE].rpartition(".")
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign(signed).encode()):
            return ""
        key_id, end, _ = signed.split(".")
        return key_id if now < int(end) else ""

    def _sign(self, text: str) -> str:
        if self._signer is None:
            self._signer = self._make_signer()
        return self._signer(text)

    def _make_signer(self) -> Callable[[str], str]:
        try:
            keyed = KeyedHash(self._store.files)
        except NotWritable as error:
            LOG.warning("sessions end with this process, since their secret cannot be kept: %s", error)
            secret = secrets.token_bytes(32)
            return lambda text: hmac.new(secret, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
        return lambda text: keyed.of("session", text)
