"""The channels of notification: tables ``[[notify]]`` of ``serve.toml``. Secrets are never in the file itself."""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from clerestory.core.codec import decode
from clerestory.core.errors import ConfigError, SettingError
from clerestory.core.files import expand_user, read_problem
from clerestory.core.settings import Range, check_settings
from clerestory.store.operations.incidents import SEVERITIES, AlertKind, Incident, IncidentSeverity
from clerestory.store.operations.release_notices import NoticeKind

Kind = Literal["webhook", "email", "alertmanager", "pagerduty", "apprise"]
SeverityName = Literal["critical", "error", "warning", "info"]
SERVE_FILE = "serve.toml"
PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_WITH_URL = ("webhook", "alertmanager", "pagerduty")
_WITH_SECRET = {
    "pagerduty": "the routing key of the integration",
    "apprise": "the URL of the service, which contains its token",
}


@dataclass(frozen=True, slots=True)
class NotifyChannel:
    """Where notifications of incidents go.

    Attributes:
        name: names the channel in the policy of incidents and in the outbox.
        kind: webhook, email, alertmanager, pagerduty, or apprise for every other service.
        url: the address of a webhook, or of an Alertmanager such as http://127.0.0.1:9093.
        secret_env: the environment variable with the secret: it signs a webhook, is the password of the mail server,
            the routing key of PagerDuty or the URL of apprise.
        secret_file: a file with the secret instead.
        at_least: the lowest severity that is notified.
        kinds: only alerts of these kinds, such as drift; all if empty.
        models: only incidents and releases of these model names; all if empty.
        releases: which changes of releases are sent besides incidents: promotion, rollback, canary; none by default.
        timeout_seconds: the whole time of one attempt.
        allow_private: whether the address may be one of this computer or of a private network, and without TLS.
        ca_file: the certificates that sign the server's, as PEM; those of the system if empty.
        host: the mail server.
        port: of the mail server.
        security: how the connection to the mail server is encrypted; none only with allow_private.
        username: of the mail server; none if empty.
        sender: the address that mails come from.
        recipients: the addresses that mails go to.
    """

    name: str
    kind: Kind
    url: str = ""
    secret_env: str = ""
    secret_file: str = ""
    at_least: SeverityName = "info"
    kinds: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    releases: tuple[NoticeKind, ...] = ()
    timeout_seconds: Annotated[float, Range(0.1, 50)] = 10.0  # below the claim of a row, which runs out after 60 s
    allow_private: bool = False
    ca_file: str = ""
    host: str = ""
    port: Annotated[int, Range(1, 65_535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_settings(self)
        if not _NAME.fullmatch(self.name):
            raise SettingError("name", f"must be short and in lower case, not {self.name!r}", "such as on-call")
        known = {kind.value for kind in AlertKind}
        for kind in self.kinds:
            if kind not in known:
                raise SettingError("kinds", f"has {kind!r}", f"the kinds are {', '.join(sorted(known))}")
        if self.releases and self.kind in ("alertmanager", "pagerduty"):
            raise SettingError(
                "releases", f"cannot be set: {self.kind} is for incidents", "use another kind of channel"
            )
        if self.secret_env and self.secret_file:
            raise SettingError("secret_file", "cannot be set beside secret_env", "set one of the two")
        if self.kind in _WITH_SECRET and not (self.secret_env or self.secret_file):
            raise SettingError("secret_env", f"is missing: {self.kind} needs {_WITH_SECRET[self.kind]}")
        if self.kind == "email":
            self._check_email()
        elif self.kind in _WITH_URL:
            self._check_url()

    @property
    def address(self) -> str:
        """The URL that a notification is sent to."""
        if self.kind == "alertmanager":
            return f"{self.url.rstrip('/')}/api/v2/alerts"
        return self.url or (PAGERDUTY_URL if self.kind == "pagerduty" else "")

    def secret(self) -> str:
        """The secret, read anew for each use, so that it can be rotated; empty without one.

        Raises:
            ConfigError: the variable is not set, or the file cannot be read.
        """
        if self.secret_env:
            value = os.environ.get(self.secret_env, "").strip()
            if not value:
                raise ConfigError(
                    f"the environment variable {self.secret_env} of the channel {self.name} is not set", "set it"
                )
            return value
        if not self.secret_file:
            return ""
        try:
            return expand_user(self.secret_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = read_problem(error) if isinstance(error, OSError) else "it is not text"
            raise ConfigError(
                f"the secret of the channel {self.name} cannot be read: {reason}", f"check {self.secret_file}"
            ) from error

    def accepts(self, incident: Incident) -> bool:
        """Whether this channel is for an incident."""
        lowest = SEVERITIES.index(IncidentSeverity(self.at_least))
        return (
            SEVERITIES.index(incident.severity) <= lowest
            and (not self.kinds or incident.kind.value in self.kinds)
            and (not self.models or incident.name in self.models)
        )

    def accepts_release(self, kind: str, name: str) -> bool:
        """Whether this channel is for a change of a release.

        Args:
            kind: promotion, rollback or canary.
            name: the model name.
        """
        return kind in self.releases and (not self.models or name in self.models)

    def _check_url(self) -> None:
        if not self.address:
            raise SettingError("url", "is missing", "give it, such as https://example.org/hooks/clerestory")
        try:
            parts = urlsplit(self.address)
            has_port = parts.port is None or parts.port > 0
        except ValueError:
            raise SettingError("url", "is not a URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or not has_port:
            raise SettingError("url", "is not the URL of a web server", "it begins with https://")
        if parts.username or parts.password:
            raise SettingError("url", "contains a password", "use secret_env or secret_file")
        if parts.scheme == "http" and not self.allow_private:
            raise SettingError("url", "is without TLS", "use https://, or set allow_private = true in your own network")

    def _check_email(self) -> None:
        for setting in ("host", "sender", "recipients"):
            if not getattr(self, setting):
                raise SettingError(setting, "is missing: an e-mail needs it")
        for address in (self.sender, *self.recipients):
            if not re.fullmatch(r"[^@\s,<>]+@[^@\s,<>]+", address):
                raise SettingError("recipients", f"has {address!r}, which is not an address")
        if self.security == "none" and not self.allow_private:
            raise SettingError("security", "turns encryption off", "use starttls or tls, or set allow_private = true")


def check_channels(channels: tuple[NotifyChannel, ...]) -> None:
    """Raise ``ConfigError`` if two channels have the same name."""
    counts = Counter(channel.name for channel in channels)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ConfigError(f"two channels of notification are called {twice[0]!r}", "give each a name of its own")


def load_channels(file: Path) -> tuple[NotifyChannel, ...]:
    """The tables ``[[notify]]`` of a file of server settings; none if there is no such file.

    Raises:
        ConfigError: the file cannot be read, or a channel is invalid; names the place.
    """
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {read_problem(error)}", "allow reading it") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}", "correct the file") from error
    tables = data.get("notify", [])
    if not isinstance(tables, list):
        raise ConfigError(f"{file}: notify is not a list of tables", "write [[notify]] with two brackets")
    channels = tuple(decode(NotifyChannel, table, f"{file}: notify {i}") for i, table in enumerate(tables, 1))
    check_channels(channels)
    return channels
