"""Who may use the server, how much, and which proxies stand in front of it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlsplit

from clerestory.core.errors import SettingError
from clerestory.core.settings import Range, check_settings

KeyDemand = Literal["auto", "required", "off"]
Price = Annotated[float, Range(0, 1e9)]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """Who may use the server, and how much.

    Attributes:
        keys: whether a request needs an API key: required, off, or auto, which is as soon as one key exists.
        hosts: the host names under which the server is reached besides localhost, such as clerestory.example.org.
        origins: the origins of pages that may send requests besides the server's own, such as https://example.org.
        proxies: the addresses or networks of proxies whose X-Forwarded-* headers are believed, such as 10.0.0.0/8.
        session_hours: how long a sign-in to the pages lasts.
        rate: the price units per second that a key may spend; 0 for no limit.
        burst: the price units that a key may spend at once.
        price_per_request: the price units of a request.
        price_per_thousand_characters: the price units of 1,000 characters of text.
        price_per_megapixel: the price units of a million pixels of images.
    """

    keys: KeyDemand = "auto"
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    session_hours: Annotated[float, Range(0.01, 8_760)] = 12.0
    rate: Annotated[float, Range(0, 1e9)] = 200.0
    burst: Annotated[float, Range(1, 1e9)] = 5_000.0
    price_per_request: Price = 1.0
    price_per_thousand_characters: Price = 1.0
    price_per_megapixel: Price = 4.0

    def __post_init__(self) -> None:
        check_settings(self)
        for host in self.hosts:
            if not host or _host_of(f"http://{host}") != host.lower():
                raise SettingError("hosts", f"has {host!r}, which is not a host name", "write it without a port")
        for origin in self.origins:
            parts = urlsplit(origin)
            if (
                parts.scheme not in {"http", "https"}
                or f"{parts.scheme}://{parts.netloc}" != origin
                or not parts.netloc
            ):
                problem = f"has {origin!r}, which is not an origin"
                raise SettingError("origins", problem, "write it as https://example.org, without a path")
        for proxy in self.proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                problem = f"has {proxy!r}, which is not an address or a network"
                raise SettingError("proxies", problem, "write it as 10.1.2.3 or 10.0.0.0/8") from None

    @property
    def is_public(self) -> bool:
        """Whether other computers reach the server, through a proxy or under a name."""
        return bool(self.hosts or self.origins or self.proxies)

    @property
    def networks(self) -> tuple[Network, ...]:
        """The trusted proxies."""
        return tuple(ipaddress.ip_network(proxy) for proxy in self.proxies)

    def price(self, characters: int = 0, pixels: int = 0) -> float:
        """The price of a request in price units."""
        by_text = self.price_per_thousand_characters * characters / 1_000
        return self.price_per_request + by_text + self.price_per_megapixel * pixels / 1_000_000


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
