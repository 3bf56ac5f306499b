"""Who may send a request: the keys of a server, the scope that each URL needs, and what each key has spent."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import time
from dataclasses import dataclass, field
from functools import lru_cache

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

from clerestory.core.errors import ClerestoryError, InputError
from clerestory.stages.serve.access_config import AccessConfig
from clerestory.stages.serve.rate_limit import RateLimiter, SpendingDecision, SpendingLimit
from clerestory.store import Store
from clerestory.store.operations.api_keys import ApiKey, KeyRing, KeyScope
from clerestory.web.security import SAFE_METHODS, RequestRejected, is_browser_request
from clerestory.web.sessions import SESSION_COOKIE, Sessions

LOG = logging.getLogger("clerestory.web")
REFRESH_SECONDS = 0.5  # a revoked key is refused after at most this and the time of one query
HOW_TO = "send it as Authorization: Bearer clr_…, or as X-API-Key; make one with: clerestory api-key create"
SIGN_IN, SIGN_OUT = "/sign-in", "/sign-out"
PUBLIC = ("/healthz", "/readyz", "/openapi.json", "/favicon.ico", "/static/", SIGN_IN, SIGN_OUT)
FREE = ("/images/", "/query-images/", "/folder/images/")  # no price of their own: a page has dozens of them
CHALLENGE = {"www-authenticate": 'Bearer realm="clerestory"'}
ENTRY = "clerestory.admitted"  # its key in the scope


@dataclass(frozen=True, slots=True)
class ScopeRule:
    """The scope that a URL needs: the first rule whose prefix and method fit."""

    prefix: str
    scope: KeyScope
    methods: tuple[str, ...] = ()  # all of them if empty

    def fits(self, method: str, path: str) -> bool:
        """Whether it is the rule of a request."""
        under = path == self.prefix or path.startswith(f"{self.prefix.rstrip('/')}/")
        return (under if self.prefix != "/" else path == "/") and (not self.methods or method in self.methods)


READ = ("GET", "HEAD", "OPTIONS")
# A URL without a rule needs the scope admin.
SCOPE_RULES = (
    ScopeRule("/v1/feedback", KeyScope.FEEDBACK),
    ScopeRule("/v1/embeddings", KeyScope.INFER),
    ScopeRule("/v1/chat/completions", KeyScope.INFER),
    ScopeRule("/v1/classify", KeyScope.INFER),
    ScopeRule("/v1/search", KeyScope.INFER),
    ScopeRule("/v1/models", KeyScope.INFER),
    ScopeRule("/", KeyScope.INFER),
    ScopeRule("/query-images", KeyScope.INFER),
    ScopeRule("/folder", KeyScope.INFER),
    ScopeRule("/duplicates", KeyScope.INFER),
    ScopeRule("/duplicates.csv", KeyScope.INFER),
    ScopeRule("/describe", KeyScope.INFER),
    ScopeRule("/images", KeyScope.INFER),
    ScopeRule("/feedback/received", KeyScope.FEEDBACK),
    ScopeRule("/feedback/corrections", KeyScope.AUDIT),
    ScopeRule("/feedback", KeyScope.FEEDBACK, ("POST",)),
    ScopeRule("/feedback", KeyScope.AUDIT, READ),  # the page has what everybody wrote
    ScopeRule("/releases", KeyScope.REGISTRY_READ, READ),
    ScopeRule("/releases", KeyScope.PROMOTE, ("POST",)),
    ScopeRule("/channel", KeyScope.REGISTRY_READ, READ),
    ScopeRule("/channel", KeyScope.PROMOTE, ("POST",)),
    ScopeRule("/evidence", KeyScope.REGISTRY_READ, READ),
    ScopeRule("/metrics", KeyScope.REGISTRY_READ, READ),
    ScopeRule("/operations", KeyScope.REGISTRY_READ, READ),
    ScopeRule("/drift", KeyScope.REGISTRY_READ, READ),
    ScopeRule("/data", KeyScope.AUDIT),
    ScopeRule("/governance", KeyScope.AUDIT),
    ScopeRule("/journal", KeyScope.AUDIT, READ),
    ScopeRule("/incidents", KeyScope.AUDIT),
    ScopeRule("/trace", KeyScope.AUDIT, READ),
)


@lru_cache(maxsize=1024)
def needed_scope(method: str, path: str) -> KeyScope | None:
    """The scope that a request needs; None where everybody may."""
    if any(path == each or (each.endswith("/") and path.startswith(each)) for each in PUBLIC):
        return None
    return next((rule.scope for rule in SCOPE_RULES if rule.fits(method, path)), KeyScope.ADMIN)


class RateLimited(RequestRejected):
    """A key has spent what it may; ``retry_after`` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        seconds = max(1, math.ceil(retry_after))
        super().__init__(
            "this key has spent what it may for now", f"try again in {seconds} s", status=429, kind="rate_limited"
        )
        self.headers = {"retry-after": str(seconds)}


@dataclass(slots=True)
class AdmittedKey:
    """The key of a request, and what it may still spend."""

    key: ApiKey
    by_cookie: bool
    spending: SpendingDecision | None = None


@dataclass(slots=True)
class AccessControl:
    """The keys of one server and what they have spent.

    Attributes:
        config: the settings.
        store: has the keys.
        ring: the keys as they were at most ``REFRESH_SECONDS`` ago; checking one needs no database.
        sessions: of people who signed in to the pages.
        bound: the address that the server listens on if other computers reach it; empty on the loopback address.
    """

    config: AccessConfig
    store: Store
    ring: KeyRing = field(default_factory=KeyRing)
    bound: str = ""
    sessions: Sessions = field(init=False)
    _limiter: RateLimiter = field(default_factory=RateLimiter)

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.store, self.config.session_hours * 3600)
        self.refresh()

    @property
    def is_required(self) -> bool:
        """Whether a request needs a key."""
        if self.bound or self.config.is_public or self.config.keys == "required":
            return True
        return self.config.keys == "auto" and len(self.ring) > 0

    @property
    def is_public(self) -> bool:
        """Whether other computers reach the server."""
        return bool(self.bound) or self.config.is_public

    def check_start(self, host: str, is_loopback: bool) -> None:
        """Refuse to start where strangers would reach a server without keys.

        Args:
            host: the address to listen on.
            is_loopback: whether only this computer can reach it.

        Raises:
            InputError: nobody could present a key, or none would be demanded.
        """
        self.bound = "" if is_loopback else host
        if not self.is_public:
            return
        where = f"{host} can be reached from other computers" if self.bound else "the settings name a proxy or a host"
        if self.config.keys == "off":
            raise InputError(f'{where}, and keys = "off" demands no key', 'set keys = "auto" in the table [access]')
        now = time.time()
        if not any(key.state(now) == "valid" for key in self.ring):
            raise InputError(
                f"{where}, and there is no valid API key, so anybody could use the server or nobody",
                "make one with: clerestory api-key create 'my program' --why '…'; or listen on 127.0.0.1",
            )

    def start_line(self) -> str:
        """One sentence on who may use the server, for the log of its start."""
        if not self.is_required:
            return "  access: no API key is demanded, since only this computer reaches the server"
        public = "; other computers reach it, so let a proxy encrypt the connection" if self.is_public else ""
        return f"  access: an API key is demanded of every request{public}"

    def accepts_host(self, name: str) -> bool:
        """Whether a host name is one of this server, besides those of the loopback address.

        A number cannot be rebound by a foreign name server, so any address is accepted where other computers may
        connect.
        """
        if name in {host.lower() for host in self.config.hosts}:
            return True
        if not self.bound:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name == self.bound.lower()
        return True

    def refresh(self) -> None:
        """Read the keys; if the database does not respond, those read before go on counting."""
        try:
            self.ring = KeyRing.of(self.store)
        except ClerestoryError as error:
            LOG.warning("the API keys cannot be read: %s", error)

    async def follow(self) -> None:
        """Read the keys again and again until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await asyncio.to_thread(self.refresh)

    def limit_of(self, key: ApiKey) -> SpendingLimit:
        """What a key may spend: its own limits, else those of the settings."""
        return SpendingLimit(key.rate or self.config.rate, key.burst or self.config.burst)

    def spend(self, admitted: AdmittedKey, price: float) -> None:
        """Charge a price.

        Raises:
            RateLimited: the key has spent what it may for now.
            RequestRejected: 413, the price is above what it may spend at once.
        """
        limit = self.limit_of(admitted.key)
        decision = self._limiter.spend(admitted.key.id, price, limit, time.monotonic())
        admitted.spending = decision
        if decision.allowed:
            return
        if math.isinf(decision.retry_after):
            raise RequestRejected(
                f"the request costs {price:,.0f} price units; this key may spend {limit.burst:,.0f} at once",
                "send fewer or smaller texts and images",
                status=413,
                kind="too_large",
                code="price_above_burst",
            )
        raise RateLimited(decision.retry_after)

    def admit(self, scope: Scope) -> AdmittedKey | None:
        """The key of a request; None where none is needed.

        Raises:
            RequestRejected: 401 without a valid key, 403 if the key may not do this.
        """
        wanted = needed_scope(scope["method"], scope["path"])
        if wanted is None or not self.is_required:
            return None
        headers = Headers(scope=scope)
        presented = presented_key(headers)
        if presented:
            key, state = self.ring.check(presented, time.time())
            by_cookie = False
        else:
            key, state = self._of_session(scope, headers)
            by_cookie = True
        if key is None or state != "valid":
            raise _unauthenticated(state)
        if not key.allows(wanted):
            raise RequestRejected(
                f"the key {key.id} does not have the scope {wanted}",
                f"use a key with it; its scopes are {' '.join(key.scopes)}",
                status=403,
                kind="permission_denied",
                code="insufficient_scope",
            )
        return AdmittedKey(key, by_cookie)

    def _of_session(self, scope: Scope, headers: Headers) -> tuple[ApiKey | None, str]:
        cookie = Request(scope).cookies.get(SESSION_COOKIE, "")
        if not cookie:
            return None, "missing"
        if scope["method"] not in SAFE_METHODS and not is_browser_request(headers):
            return None, "missing"  # a form of another site from a browser that names no origin
        key = self.ring.get(self.sessions.key_id(cookie, time.time()))
        return key, key.state(time.time()) if key else "unknown"


def presented_key(headers: Headers) -> str:
    """The key in ``Authorization: Bearer`` or ``X-API-Key``; empty without one."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return headers.get("x-api-key", "").strip()


def admitted_key(request: Request) -> ApiKey | None:
    """The key that a request presented; None where none was demanded."""
    admitted = request.scope.get(ENTRY)
    return admitted.key if isinstance(admitted, AdmittedKey) else None


def session_label(request: Request) -> str:
    """The label of the key with which the sender signed in to the pages; empty if nobody did."""
    admitted = request.scope.get(ENTRY)
    return admitted.key.label if isinstance(admitted, AdmittedKey) and admitted.by_cookie else ""


def charge(scope: Scope, characters: int = 0, pixels: int = 0) -> None:
    """Charge the key of a request for its texts and images; without a key nothing.

    Raises:
        RateLimited, RequestRejected: as ``AccessControl.spend``.
    """
    admitted = scope.get(ENTRY)
    if isinstance(admitted, AdmittedKey):
        access = scope["app"].state.server.access
        config = access.config
        access.spend(admitted, config.price(characters, pixels) - config.price_per_request)


def _unauthenticated(state: str) -> RequestRejected:
    problems = {
        "missing": ("this server demands an API key", "missing_api_key"),
        "unknown": ("the API key is not valid", "invalid_api_key"),
        "expired": ("the API key has expired", "expired_api_key"),
        "revoked": ("the API key was revoked", "revoked_api_key"),
    }
    message, code = problems[state]
    rejection = RequestRejected(message, HOW_TO, status=401, kind="unauthenticated", code=code)
    rejection.headers = CHALLENGE
    return rejection
