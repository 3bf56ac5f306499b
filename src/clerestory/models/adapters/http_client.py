"""JSON over HTTP to an endpoint that may be busy, slow or broken: retries, and one sentence for what went wrong."""

from __future__ import annotations

import ipaddress
import os
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from clerestory.core.errors import InputError

KEYS = ("CLERESTORY_API_KEY", "OPENAI_API_KEY")
LONGEST_WAIT = 60.0
# An endpoint that failed so many requests in a row, retries and all, is down: asking on would take hours.
DOWN_AFTER = 8
DOWN_SECONDS = 60.0
FORM = "it looks like openai:http://host:port/v1#model"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait and how often to try.

    Attributes:
        timeout: seconds without a sign of life before a request counts as unanswered.
        retries: how often to ask again after 429, 5xx, silence or garbage.
        backoff: seconds before the first retry; doubled each time. What ``Retry-After`` asks for comes first.
    """

    timeout: float = 120.0
    retries: int = 4
    backoff: float = 1.0


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What came back: a JSON object, or the reason why there is none, and the HTTP status (0 for no answer)."""

    body: Mapping[str, Any]
    problem: str = ""
    status: int = 0


class HttpClient:
    """A connection to one endpoint. The key is read from the environment and is kept nowhere but in the requests.

    Once 8 requests in a row have failed in spite of their retries, the endpoint is left alone for a minute: what would
    be asked meanwhile gets no answer, with that reason.

    Args:
        base: such as ``http://127.0.0.1:8000/v1``.
        patience: see there.

    Raises:
        InputError: ``base`` is no http(s) address.
    """

    def __init__(self, base: str, patience: RetryPolicy | None = None) -> None:
        self.base, self.patience = base.rstrip("/"), patience or RetryPolicy()
        self.host = host_of(base)
        key = next((os.environ[name] for name in KEYS if os.environ.get(name)), "")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        # A proxy has no business with this computer's own address; a redirect must not carry the key elsewhere.
        self._client = httpx.Client(
            headers=headers,
            timeout=self.patience.timeout,
            follow_redirects=False,
            trust_env=not is_loopback(self.host),
        )
        # Models have no end of their own, and open sockets should not outlive them.
        weakref.finalize(self, self._client.close)
        self._secret = key
        self._failed, self._ask_again = 0, 0.0

    def get(self, path: str) -> HttpReply:
        """``GET`` below the base; tried twice at most, since somebody is waiting for the endpoint to be opened."""
        return self._ask("GET", path, None, min(1, self.patience.retries))

    def post(self, path: str, body: Mapping[str, Any], retries: int | None = None) -> HttpReply:
        """``POST`` of a JSON object below the base."""
        return self._ask("POST", path, body, self.patience.retries if retries is None else retries)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None, retries: int) -> HttpReply:
        if self._failed >= DOWN_AFTER and time.monotonic() < self._ask_again:
            return HttpReply({}, f"the endpoint failed {DOWN_AFTER} requests in a row, so it was not asked for a while")
        answer = self._tried(method, path, body, retries)
        self._failed = self._failed + 1 if answer.problem and not _refused(answer) else 0
        if self._failed >= DOWN_AFTER:
            self._ask_again = time.monotonic() + DOWN_SECONDS
        return answer

    def _tried(self, method: str, path: str, body: Mapping[str, Any] | None, retries: int) -> HttpReply:
        answer = HttpReply({}, "it was not asked")
        for turn in range(retries + 1):
            wait = min(LONGEST_WAIT, self.patience.backoff * 2**turn)
            try:
                response = self._client.request(method, f"{self.base}/{path}", json=body)
            except httpx.TimeoutException:
                answer = HttpReply({}, f"the endpoint gave no answer within {self.patience.timeout:g} s")
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                answer = HttpReply(
                    {}, f"the endpoint cannot be reached: {self._clean(str(error)) or type(error).__name__}"
                )
            else:
                answer = self._read(response)
                if _refused(answer):
                    return answer
                wait = _retry_after(response, wait)
            if not answer.problem:
                return answer
            if turn < retries:
                time.sleep(wait)
        tries = f" ({retries + 1} tries)" if retries else ""
        return HttpReply({}, answer.problem + tries, answer.status)

    def _read(self, response: httpx.Response) -> HttpReply:
        status = response.status_code
        try:
            body = response.json()
        except ValueError:
            body = None
        if status != 200:
            said = self._clean(_message(body))
            return HttpReply(
                {}, f"the endpoint answered {status} {response.reason_phrase}{said and ': ' + said}", status
            )
        if not isinstance(body, dict):
            return HttpReply({}, "the endpoint answered something that is not a JSON object", status)
        return HttpReply(body, "", status)

    def _clean(self, text: str) -> str:
        """One short line that does not hold the key, whatever the other side sent back."""
        line = " ".join(text.split())
        return (line.replace(self._secret, "***") if self._secret else line)[:200]


def _refused(answer: HttpReply) -> bool:
    """Whether this one request was turned down (3xx, 4xx but 429), which says nothing about the next."""
    return answer.status != 429 and 300 <= answer.status < 500


def host_of(base: str) -> str:
    """The host of an address.

    Raises:
        InputError: it is no http(s) address with a host.
    """
    try:
        parts = urlsplit(base)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise InputError(f"{base!r} is not an address: {error}", FORM) from error
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(f"{base!r} is not an http address", FORM)
    if parts.username or parts.password:
        raise InputError("the address of the endpoint holds a name or a password", f"set {KEYS[0]} instead")
    return host


def is_loopback(host: str) -> bool:
    """Whether a host is this computer."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _message(body: Any) -> str:
    error = body.get("error", body.get("detail", "")) if isinstance(body, dict) else ""
    return str(error.get("message", "")) if isinstance(error, dict) else str(error)


def _retry_after(response: httpx.Response, otherwise: float) -> float:
    """Seconds to wait: what the endpoint asks for (a number or a date), bounded, or else our own."""
    asked = response.headers.get("retry-after", "").strip()
    try:
        seconds = float(asked)
    except ValueError:
        try:
            when = parsedate_to_datetime(asked)
        except ValueError:
            return otherwise
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(LONGEST_WAIT, max(0.0, seconds)) if seconds == seconds else otherwise
