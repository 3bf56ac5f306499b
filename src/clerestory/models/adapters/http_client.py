"""JSON over HTTP to an endpoint, with timeouts, retries and a circuit breaker; each failure is one sentence."""

from __future__ import annotations

import ipaddress
import os
import ssl
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
from clerestory.core.files import read_problem

API_KEY_VARIABLES = ("CLERESTORY_API_KEY", "OPENAI_API_KEY")
MAX_WAIT_SECONDS = 60.0
# Circuit breaker: after this many consecutive failures no request is sent for a while; retrying each would take hours.
MAX_CONSECUTIVE_FAILURES = 8
OPEN_CIRCUIT_SECONDS = 60.0
OPENAI = "openai:"
URL_FORM = "use the form openai:http://host:port/v1#model"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Timeout and retries of a request.

    Attributes:
        timeout: seconds without a response after which a request has failed.
        retries: number of retries after 429, 5xx, a timeout or an invalid response.
        backoff: seconds before the first retry, doubled each time; ``Retry-After`` takes precedence.
    """

    timeout: float = 120.0
    retries: int = 4
    backoff: float = 1.0


@dataclass(frozen=True, slots=True)
class HttpReply:
    """The reply to a request.

    Attributes:
        body: a JSON object; empty after an error.
        error: the reason why there is no body; empty without an error.
        status: the HTTP status; 0 without a response.
        parameter: the parameter that the endpoint refused, if it names one.
    """

    body: Mapping[str, Any]
    error: str = ""
    status: int = 0
    parameter: str = ""


class HttpClient:
    """A client of one endpoint. The API key is read from the environment and used in requests only.

    After 8 failed requests in a row, retries included, no request is sent for a minute; the requests of that minute
    return that as their error.

    Args:
        base: such as ``http://127.0.0.1:8000/v1``.
        retry_policy: timeout and retries.

    Raises:
        InputError: ``base`` is not an http(s) URL, or the API key has characters that no header can carry.
    """

    def __init__(self, base: str, retry_policy: RetryPolicy | None = None) -> None:
        self.base, self.retry_policy = base.rstrip("/"), retry_policy or RetryPolicy()
        self.host = host_of(base)
        key = _api_key()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        # Requests to this computer must not use a proxy, and a redirect must not carry the key to another host.
        self._client = httpx.Client(
            headers=headers,
            timeout=self.retry_policy.timeout,
            follow_redirects=False,
            trust_env=not is_loopback(self.host),
            verify=_certificates(),
        )
        # Models have no close method, and open sockets must not outlive them.
        weakref.finalize(self, self._client.close)
        self._api_key = key
        self._consecutive_failures, self._circuit_open_until = 0, 0.0

    def get(self, path: str) -> HttpReply:
        """``GET`` below the base; one retry at most, because the user is waiting for the endpoint to open."""
        return self._request("GET", path, None, min(1, self.retry_policy.retries))

    def post(self, path: str, body: Mapping[str, Any], retries: int | None = None) -> HttpReply:
        """``POST`` of a JSON object below the base."""
        return self._request("POST", path, body, self.retry_policy.retries if retries is None else retries)

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None, retries: int) -> HttpReply:
        if self._consecutive_failures >= MAX_CONSECUTIVE_FAILURES and time.monotonic() < self._circuit_open_until:
            return HttpReply(
                {}, f"{MAX_CONSECUTIVE_FAILURES} requests in a row failed, so no request was sent for a while"
            )
        reply = self._request_with_retries(method, path, body, retries)
        self._consecutive_failures = self._consecutive_failures + 1 if reply.error and not _is_rejected(reply) else 0
        if self._consecutive_failures >= MAX_CONSECUTIVE_FAILURES:
            self._circuit_open_until = time.monotonic() + OPEN_CIRCUIT_SECONDS
        return reply

    def _request_with_retries(self, method: str, path: str, body: Mapping[str, Any] | None, retries: int) -> HttpReply:
        reply = HttpReply({}, "no request was sent")
        for attempt in range(retries + 1):
            wait = min(MAX_WAIT_SECONDS, self.retry_policy.backoff * 2**attempt)
            try:
                response = self._client.request(method, f"{self.base}/{path}", json=body)
            except httpx.TimeoutException:
                reply = HttpReply({}, f"the endpoint did not respond within {self.retry_policy.timeout:g} s")
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                reason = self._redact(str(error)) or type(error).__name__
                reply = HttpReply({}, f"the endpoint cannot be reached: {reason}")
            else:
                reply = self._parse(response)
                if _is_rejected(reply):
                    return reply
                wait = _retry_after(response, wait)
            if not reply.error:
                return reply
            if attempt < retries:
                time.sleep(wait)
        attempts = f" ({retries + 1} attempts)" if retries else ""
        return HttpReply({}, reply.error + attempts, reply.status)

    def _parse(self, response: httpx.Response) -> HttpReply:
        status = response.status_code
        try:
            body = response.json()
        except ValueError:
            body = None
        if isinstance(body, list):  # some endpoints list their models without an object around them
            body = {"data": body}
        detail = self._redact(_message(body))
        if status != 200:
            message = f"the endpoint responded with {status} {response.reason_phrase}{detail and ': ' + detail}"
            return HttpReply({}, message, status, self._redact(_parameter(body)))
        if isinstance(body, dict) and body.get("error"):
            return HttpReply({}, f"the endpoint responded with an error{detail and ': ' + detail}", status)
        if not isinstance(body, dict):
            return HttpReply({}, "the response of the endpoint is not a JSON object", status)
        return HttpReply(body, "", status)

    def _redact(self, text: str) -> str:
        """One short line without the key, whatever the endpoint sent back."""
        line = " ".join(text.split())
        return (line.replace(self._api_key, "***") if self._api_key else line)[:200]


def _is_rejected(reply: HttpReply) -> bool:
    """Whether the endpoint rejected this one request (3xx, 4xx except 429), which does not mean that it is down."""
    return reply.status != 429 and 300 <= reply.status < 500


def host_of(base: str) -> str:
    """The host of a base URL.

    Raises:
        InputError: it is not an http(s) URL with a host.
    """
    try:
        parts = urlsplit(base)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise InputError(f"{base!r} is not a URL: {error}", URL_FORM) from error
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(f"{base!r} is not an http URL", URL_FORM)
    if parts.username or parts.password:
        raise InputError(
            "the URL of the endpoint contains a user name or a password", f"set {API_KEY_VARIABLES[0]} instead"
        )
    return host


def is_loopback(host: str) -> bool:
    """Whether a host is this computer."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _api_key() -> str:
    """The API key of the environment, without surrounding blanks such as the line break of a file.

    Raises:
        InputError: no header can carry it; the message does not show it.
    """
    for name in API_KEY_VARIABLES:
        key = os.environ.get(name, "").strip()
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise InputError(
                f"the key in {name} has a blank, a line break or another character that no request can carry",
                f"set {name} again, with the key alone",
            )
        if key:
            return key
    return ""


def _certificates() -> ssl.SSLContext | bool:
    """The certificate authorities that the environment names, for this computer as well; otherwise the usual ones.

    Raises:
        InputError: the named file or folder cannot be read.
    """
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if not file and not folder:
        return True
    try:
        return ssl.create_default_context(cafile=file or None, capath=folder or None)
    except OSError as error:
        name, value = ("SSL_CERT_FILE", file) if file else ("SSL_CERT_DIR", folder)
        message = f"the certificates {value!r} cannot be read: {read_problem(error)}"
        raise InputError(message, f"correct the environment variable {name}") from error


def _message(body: Any) -> str:
    error = body.get("error", body.get("detail", "")) if isinstance(body, dict) else ""
    return str(error.get("message", "")) if isinstance(error, dict) else str(error)


def _parameter(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("param") or "") if isinstance(error, dict) else ""


def _retry_after(response: httpx.Response, default: float) -> float:
    """Seconds to wait: ``Retry-After`` (a number or a date) up to the maximum, otherwise the default."""
    header = response.headers.get("retry-after", "").strip()
    try:
        seconds = float(header)
    except ValueError:
        try:
            when = parsedate_to_datetime(header)
        except ValueError:
            return default
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(MAX_WAIT_SECONDS, max(0.0, seconds)) if seconds == seconds else default
