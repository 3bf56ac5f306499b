"""One attempt to deliver one notification; every failure is one sentence without a secret in it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import smtplib
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

import httpx

from clerestory.core.digest import digest
from clerestory.core.errors import ClerestoryError, MissingExtra
from clerestory.core.text import visible
from clerestory.stages.watch.notify.config import NotifyChannel
from clerestory.store.operations.release_notices import RELEASE_NOTICE

MAX_LINE = 180  # characters of a subject line
MAX_REPLY = 65_536  # bytes of a reply that are read
FOREVER_S = 365 * 86_400.0  # an Alertmanager would take an alert without an end as resolved after five minutes
_PREFIX = "whsec_"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class DeliveryError(ClerestoryError):
    """A notification was not delivered; it is tried again.

    Args:
        message: the problem, without a secret.
        retry_after_s: how long the receiver wants to be left alone; 0 if it does not say.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def send(channel: NotifyChannel, key: str, payload: Mapping[str, Any]) -> None:
    """Deliver one notification.

    Args:
        channel: where it goes.
        key: of idempotency; the same for each attempt.
        payload: the incident and its change, or the change of a release.

    Raises:
        DeliveryError: it was not delivered, or nobody knows whether it was.
        ConfigError: the secret cannot be read.
        MissingExtra: apprise is not installed.
    """
    if channel.kind == "email":
        _send_email(channel, key, payload)
    elif channel.kind == "apprise":
        _send_apprise(channel, payload)
    elif (body := _body(channel, payload)) is not None:
        _post(channel, key, body)


def sign(secret: str, key: str, timestamp: int, body: bytes) -> str:
    """The signature of a webhook, as https://www.standardwebhooks.com defines it: HMAC-SHA256 of id, time and body."""
    raw = base64.b64decode(secret.removeprefix(_PREFIX)) if secret.startswith(_PREFIX) else secret.encode()
    content = f"{key}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(raw, content, hashlib.sha256).digest()).decode()


def headline(payload: Mapping[str, Any]) -> str:
    """The subject line of a notification."""
    if payload["event"] == RELEASE_NOTICE:
        text = f"[release] {payload['title']}"
    else:
        state = "opened" if payload["event"] == "trigger" else payload["state"]
        text = f"[{payload['severity']}] incident {payload['incident']} {state}: {payload['title']}"
    return visible(text if len(text) <= MAX_LINE else f"{text[: MAX_LINE - 1]}…")


def message(payload: Mapping[str, Any]) -> str:
    """The text of a notification for people."""
    when = datetime.fromtimestamp(payload["at"], UTC).isoformat(timespec="seconds")
    if payload["event"] == RELEASE_NOTICE:
        lines = [
            payload["title"],
            "",
            f"because    {payload['why']}",
            f"at         {when}",
            f"by         {payload['who']}",
        ]
        lines += ["", f"clerestory watch status {payload['name']}"]
        return "\n".join(visible(str(line)) for line in lines) + "\n"
    lines = [
        payload["title"],
        "",
        f"severity   {payload['severity']}",
        f"state      {payload['state']}, {when}",
        f"by         {payload['who']}: {payload['why']}",
        f"model      {payload['name'] or '-'}",
        f"subject    {payload['subject'] or '-'}",
        *(f"{name:<10} {value}" for name, value in sorted(payload["details"].items())),
        "",
        f"clerestory watch incidents show {payload['incident']}",
    ]
    return "\n".join(visible(str(line)) for line in lines) + "\n"


def _body(channel: NotifyChannel, payload: Mapping[str, Any]) -> Any:
    """The JSON for a receiver; None if it has no word for what happened."""
    if channel.kind == "alertmanager":
        return _alertmanager_alert(payload)
    if channel.kind == "pagerduty":
        return _pagerduty_event(channel, payload)
    return payload


def _alertmanager_alert(payload: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    if payload["event"] == "acknowledge":  # silences are its word for that, and people set them
        return None
    ends = payload["at"] if payload["event"] == "resolve" else payload["at"] + FOREVER_S
    # Labels identify the alert, so they never change during an incident; the severity may.
    labels = {
        "alertname": f"Clerestory_{payload['kind']}",
        "incident": str(payload["incident"]),
        "dedup_key": payload["dedup_key"],
        "kind": payload["kind"],
        "model": payload["name"],
        "subject": payload["subject"],
    }
    annotations = {
        "summary": payload["title"],
        "severity": payload["severity"],
        "state": payload["state"],
        "description": message(payload),
    }
    alert = {
        "labels": {key: value for key, value in labels.items() if value},
        "annotations": annotations,
        "startsAt": _iso(payload["opened"]),
        "endsAt": _iso(ends),
    }
    return [alert]


def _pagerduty_event(channel: NotifyChannel, payload: Mapping[str, Any]) -> dict[str, Any] | None:
    if payload["event"] == "update":
        return None
    event: dict[str, Any] = {
        "routing_key": channel.secret(),
        "event_action": payload["event"],
        "dedup_key": payload["dedup_key"],
    }
    if payload["event"] == "trigger":
        event["payload"] = {
            "summary": headline(payload),
            "source": payload["name"] or "clerestory",
            "severity": payload["severity"],
            "timestamp": _iso(payload["at"]),
            "component": payload["subject"],
            "class": payload["kind"],
            "custom_details": dict(payload["details"]),
        }
    return event


def _post(channel: NotifyChannel, key: str, body: Any) -> None:
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {"content-type": "application/json", "user-agent": "clerestory", "idempotency-key": key}
    if channel.kind == "webhook":
        headers |= {"webhook-id": key, "webhook-timestamp": str(now := int(time.time()))}
        if secret := channel.secret():
            headers["webhook-signature"] = sign(secret, key, now, content)
    try:
        # httpx limits the time of each read; a server that sends a byte now and then would take for ever.
        status, wait, location = asyncio.run(
            asyncio.wait_for(_request(channel, headers, content), channel.timeout_seconds)
        )
    except TimeoutError:
        raise DeliveryError(f"no answer within {channel.timeout_seconds:g} s") from None
    except (httpx.HTTPError, OSError) as error:
        raise DeliveryError(f"cannot be reached: {type(error).__name__} {str(error)[:200]}".rstrip()) from None
    if 300 <= status < 400:
        raise DeliveryError(f"answered {status}, a redirect to {location or 'another address'}, which is not followed")
    if not 200 <= status < 300:
        raise DeliveryError(f"answered HTTP {status}", wait)


async def _request(channel: NotifyChannel, headers: dict[str, str], content: bytes) -> tuple[int, float, str]:
    parts = urlsplit(channel.address)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    address = await asyncio.to_thread(_permitted_address, host, port, channel.allow_private)
    # The connection goes to the address that was checked: a second look-up of the name could give another one.
    numeric = f"[{address}]" if ":" in address else address
    url = parts._replace(netloc=f"{numeric}:{port}", fragment="").geturl()
    shown = host if parts.port is None else f"{host}:{port}"
    context = ssl.create_default_context(cafile=channel.ca_file or None)
    client = httpx.AsyncClient(verify=context, trust_env=False, follow_redirects=False, timeout=channel.timeout_seconds)
    async with client:
        request = client.build_request("POST", url, headers={**headers, "host": shown}, content=content)
        request.extensions["sni_hostname"] = host
        response = await client.send(request, stream=True)
        try:
            return response.status_code, _retry_after(response), _host_of(response.headers.get("location", ""))
        finally:
            await response.aclose()


def _permitted_address(host: str, port: int, allow_private: bool) -> str:
    """One address of a host, if all of them may be reached."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DeliveryError(f"the name {host} cannot be resolved: {error}") from None
    addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
    for each in addresses:
        if not allow_private and not _is_public(each):
            raise DeliveryError(
                f"{host} is {each}, an address of this computer or of a private network; "
                "to allow it, set allow_private = true for the channel"
            )
    return addresses[0]


def _is_public(address: str) -> bool:
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):  # an IPv4 address written as IPv6
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    return ip.is_global and not ip.is_multicast


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 6 else 0.0


def _host_of(location: str) -> str:
    try:
        return visible(urlsplit(location).hostname or "")[:100]
    except ValueError:
        return ""


def _send_email(channel: NotifyChannel, key: str, payload: Mapping[str, Any]) -> None:
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = headline(payload), channel.sender, ", ".join(channel.recipients)
    domain = channel.sender.rpartition("@")[2]
    # The same id at each attempt, and one thread for each incident.
    mail["Message-ID"] = f"<{digest(key)[:32]}@{domain}>"
    mail["References"] = f"<{payload['dedup_key']}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message(payload))
    context = ssl.create_default_context(cafile=channel.ca_file or None)
    try:
        if channel.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                channel.host, channel.port, timeout=channel.timeout_seconds, context=context
            )
        else:
            server = smtplib.SMTP(channel.host, channel.port, timeout=channel.timeout_seconds)
        try:
            if channel.security == "starttls":
                server.starttls(context=context)  # raises where the server does not offer it
            if channel.username:
                server.login(channel.username, channel.secret())
            refused = server.send_message(mail)
        except BaseException:
            server.close()  # not QUIT: after a failed handshake nobody would answer it
            raise
        with suppress(smtplib.SMTPException, OSError):  # the mail is accepted, whatever comes of the farewell
            server.quit()
    except smtplib.SMTPAuthenticationError as error:
        raise DeliveryError(f"the mail server refuses the login ({error.smtp_code})") from None
    except smtplib.SMTPResponseException as error:
        reply = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        raise DeliveryError(f"the mail server answered {error.smtp_code} {visible(reply)[:200]}") from None
    except (smtplib.SMTPException, OSError) as error:
        raise DeliveryError(f"the mail server cannot be used: {visible(str(error))[:200]}") from None
    if refused:  # others have it: another attempt would send it to them again, so it counts as delivered
        return


def _send_apprise(channel: NotifyChannel, payload: Mapping[str, Any]) -> None:
    try:
        import apprise  # here, because it is an extra
    except ImportError:
        raise MissingExtra("channels of kind apprise need apprise", "run: pip install 'clerestory[notify]'") from None
    service = apprise.Apprise()
    if not service.add(channel.secret()):
        raise DeliveryError("apprise does not know the form of this URL")
    kinds = {"resolve": "success", "acknowledge": "info", "update": "info", RELEASE_NOTICE: "info"}
    kind = kinds.get(payload["event"], "failure")
    if not service.notify(title=headline(payload), body=message(payload), notify_type=kind):
        raise DeliveryError("apprise could not deliver it")


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
