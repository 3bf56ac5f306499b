"""Requests that come through a proxy: who sent them, how, and to which host, as the headers of a trusted proxy say.

The headers ``X-Forwarded-For``, ``X-Forwarded-Proto`` and ``X-Forwarded-Host`` count only from an address that the
settings name; from anybody else they are what a stranger would like to be.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import Scope

from clerestory.stages.serve.access_config import Network

MAX_HOPS = 32
SCHEMES = ("http", "https")


def apply_forwarded(scope: Scope, proxies: Sequence[Network]) -> None:
    """Set client, scheme and host of a request to what its trusted proxies report; else leave it as it is.

    Args:
        scope: of one HTTP request; changed in place.
        proxies: the trusted ones.
    """
    client = scope.get("client")
    if not proxies or client is None or not _is_trusted(client[0], proxies):
        return
    headers = Headers(scope=scope)
    addresses = _items(headers, "x-forwarded-for")
    if address := _sender(addresses, proxies):
        scope["client"] = (address, 0)
    schemes = _items(headers, "x-forwarded-proto")
    if schemes and schemes[-1].lower() in SCHEMES:
        scope["scheme"] = schemes[-1].lower()
    hosts = _items(headers, "x-forwarded-host")
    if hosts:
        others = [(name, value) for name, value in scope["headers"] if name != b"host"]
        scope["headers"] = [(b"host", hosts[-1].encode("latin-1", "replace")), *others]


def _sender(addresses: Sequence[str], proxies: Sequence[Network]) -> str:
    """The last address that is not a trusted proxy: those before it may be invented; empty if there is none."""
    sender = ""
    for each in reversed(addresses[-MAX_HOPS:]):
        address = _without_port(each)
        if not _is_address(address):
            break
        sender = address
        if not _is_trusted(address, proxies):
            break
    return sender


def _items(headers: Headers, name: str) -> list[str]:
    return [part.strip() for value in headers.getlist(name) for part in value.split(",") if part.strip()]


def _without_port(address: str) -> str:
    """An address without the port and brackets that some proxies add."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    host, _, port = address.rpartition(":")
    return host if host and ":" not in host and port.isdigit() else address


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_trusted(text: str, proxies: Sequence[Network]) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in proxies)
