"""The id of a request: from ``X-Request-ID`` where it is valid, else made here; part of every response and error."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence

from starlette.types import Scope

TRACE = "clerestory.trace"  # the key of the record of a request in the scope
REQUEST_ID = "clerestory.request_id"  # its key in the scope
CLIENT_GONE = 499  # the status in the log of a request whose client did not wait for the response
_VALID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:@/+=-]{0,63}")


def new_request_id(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The id of a request with these headers."""
    for name, value in headers:
        if name == b"x-request-id":
            if _VALID.fullmatch(value):
                return value.decode("ascii")
            break
    return f"req_{secrets.token_hex(12)}"


def request_id(scope: Scope) -> str:
    """The id of the request of a scope; empty before it has one."""
    return str(scope.get(REQUEST_ID, ""))
