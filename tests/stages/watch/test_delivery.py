"""Delivery to real servers: signed, in order, at least once, and nobody waits for a receiver that hangs."""

from __future__ import annotations

import base64
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult
from tests.support.receivers import Received, WebReceiver, make_certificate, web_receiver

from clerestory.core.codec import Tags
from clerestory.core.errors import ConfigError, SettingError
from clerestory.stages.watch.incident_policy import IncidentPolicy, IncidentRule, load_incident_policy
from clerestory.stages.watch.notify.config import NotifyChannel, load_channels
from clerestory.stages.watch.notify.delivery import Deliverer, backoff
from clerestory.stages.watch.notify.senders import DeliveryError, send, sign
from clerestory.store import Store, open_store
from clerestory.store.operations.incidents import (
    Alert,
    AlertKind,
    IncidentSeverity,
    IncidentState,
    incident,
    open_or_update,
    transition,
)
from clerestory.store.operations.outbox import MAX_RETRY_S, OutboxState, outbox_rows
from clerestory.store.operations.silences import end_silence, silence

DRIFT = Alert(AlertKind.DRIFT, "inputs of icons have changed", "icons", "style=openmoji", details=Tags(distance="0.5"))
WORKER = """
import sys
from pathlib import Path
from clerestory.stages.watch.incident_policy import load_incident_policy
from clerestory.stages.watch.notify.config import load_channels
from clerestory.stages.watch.notify.delivery import Deliverer
from clerestory.store import open_store
import clerestory.store.operations.outbox as outbox
outbox.LEASE_S = 1.0
with open_store(sys.argv[1]) as store:
    deliverer = Deliverer(store, load_channels(Path(sys.argv[1]) / "serve.toml"), load_incident_policy())
    deliverer.start()
    print("ready", flush=True)
    sys.stdin.read()
    deliverer.close()
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def receiver() -> Iterator[WebReceiver]:
    with web_receiver() as running:
        yield running


def webhook(receiver: WebReceiver, name: str = "pager", **settings: object) -> NotifyChannel:
    return NotifyChannel(name, "webhook", f"{receiver.url}/hook", allow_private=True, **settings)  # type: ignore[arg-type]


def deliverer(store: Store, *channels: NotifyChannel, policy: IncidentPolicy | None = None) -> Deliverer:
    return Deliverer(store, channels, policy or load_incident_policy(), wait=lambda attempts: 0.05)


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def waiting(store: Store) -> int:
    with store.database.reading() as connection:
        return len(outbox_rows(connection, OutboxState.WAITING))


def errors_of(store: Store) -> dict[str, str]:
    with store.database.reading() as connection:
        return {row.channel: row.error for row in outbox_rows(connection) if row.error}


def test_a_webhook_is_signed_and_carries_the_key_of_its_notification(
    store: Store, receiver: WebReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "whsec_" + base64.b64encode(b"k" * 32).decode()
    monkeypatch.setenv("HOOK_SECRET", secret)
    open_or_update(store, DRIFT)
    assert deliverer(store, webhook(receiver, secret_env="HOOK_SECRET")).once() == (1, 0)
    (request,) = receiver.received
    headers = request.headers
    expected = sign(secret, headers["webhook-id"], int(headers["webhook-timestamp"]), request.body)
    assert headers["webhook-signature"] == expected
    assert headers["idempotency-key"] == headers["webhook-id"]
    body = request.json
    assert (body["event"], body["severity"], body["runbook"]) == ("trigger", "warning", "drift")
    assert incident(store, 1).severity is IncidentSeverity.WARNING  # as the policy says
    assert secret not in (store.home / "store.db").read_bytes().decode("latin-1")


def test_the_notifications_of_an_incident_share_a_key_and_keep_their_order(store: Store, receiver: WebReceiver) -> None:
    failures = iter([500, 503, 500])
    receiver.answer = lambda request: next(failures, 200)
    open_or_update(store, DRIFT)
    for state in (IncidentState.ACKNOWLEDGED, IncidentState.MITIGATED, IncidentState.RESOLVED):
        transition(store, 1, state, "Ada", "a test")
    running = deliverer(store, webhook(receiver))
    running.start()
    try:
        receiver.wait_for(7)
    finally:
        running.close()
    bodies = [request.json for request in receiver.received]
    assert [body["event"] for body in bodies] == ["trigger"] * 4 + ["acknowledge", "update", "resolve"]
    assert len({body["dedup_key"] for body in bodies}) == 1
    assert len({request.headers["webhook-id"] for request in receiver.received}) == 4


def test_a_webhook_that_hangs_or_fails_holds_up_nobody_else(store: Store, receiver: WebReceiver) -> None:
    release = threading.Event()

    def hang(request: Received) -> int:
        release.wait(30)
        return 200

    with web_receiver() as hanging, web_receiver() as failing:
        hanging.answer, failing.answer = hang, lambda request: 500
        running = deliverer(
            store,
            webhook(hanging, "hanging", timeout_seconds=0.3),
            webhook(failing, "failing"),
            NotifyChannel("nobody", "webhook", "http://127.0.0.1:9/", allow_private=True),
            webhook(receiver, "good"),
        )
        running.start()
        try:
            for i in range(5):
                open_or_update(store, replace(DRIFT, subject=f"style={i}"))
            receiver.wait_for(5)
            wait_for(lambda: len(failing.received) > 3)
            wait_for(lambda: {"failing", "hanging"} <= set(errors_of(store)))
            errors = errors_of(store)
            wait_for(lambda: waiting(store) == 15)  # nothing is lost
        finally:
            release.set()
            running.close(5)
    assert errors["failing"] == "answered HTTP 500"
    assert "within 0.3 s" in errors["hanging"]


def test_nothing_is_lost_when_servers_are_killed_while_they_send(store: Store, receiver: WebReceiver) -> None:
    slow = threading.Event()

    def answer(request: Received) -> int:
        slow.wait(0.05)
        return 200

    receiver.answer = answer
    settings = f'[[notify]]\nname = "pager"\nkind = "webhook"\nurl = "{receiver.url}/"\nallow_private = true\n'
    (store.home / "serve.toml").write_text(settings, encoding="utf-8")
    for i in range(60):
        open_or_update(store, replace(DRIFT, subject=f"style={i}"))

    def begin() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WORKER, str(store.home)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    servers = [begin(), begin()]
    try:
        for killed in range(3):
            receiver.wait_for((killed + 1) * 8)
            os.kill(servers[0].pid, signal.SIGKILL)
            servers.pop(0).communicate()
            servers.append(begin())
        wait_for(lambda: waiting(store) == 0, 60)
    finally:
        for server in servers:
            server.communicate("")
    keys = {request.headers["webhook-id"] for request in receiver.received}
    assert len(keys) == 60
    assert len(receiver.received) <= 60 + 3 + 1  # at least once: a killed attempt is repeated, no other


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://localhost:1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data",
        "https://0.0.0.0/",
        "https://2130706433/",
    ],
)
def test_private_addresses_are_refused_unless_they_are_allowed(url: str) -> None:
    with pytest.raises(DeliveryError, match=r"private network|resolved"):
        send(NotifyChannel("pager", "webhook", url), "key", PAYLOAD)


def test_a_redirect_is_not_followed(receiver: WebReceiver) -> None:
    with web_receiver() as other:
        receiver.answer = lambda request: (307, {"location": f"{other.url}/stolen"})
        with pytest.raises(DeliveryError, match="redirect to 127.0.0.1"):
            send(webhook(receiver), "key", PAYLOAD)
        assert other.received == []


def test_certificates_are_verified(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "server.pem")
    with web_receiver(certificate) as receiver:
        channel = webhook(receiver)
        with pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY_FAILED"):
            send(channel, "key", PAYLOAD)
        send(replace(channel, ca_file=str(certificate)), "key", PAYLOAD)
        assert len(receiver.received) == 1


def test_a_receiver_that_sends_a_byte_now_and_then_is_given_up(tmp_path: Path) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip() -> None:
        connection, _ = listening.accept()
        with connection:
            while not stop.wait(0.05):
                try:
                    connection.sendall(b"H")
                except OSError:
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    try:
        with pytest.raises(DeliveryError, match="within 0.5 s|reached"):
            send(NotifyChannel("slow", "webhook", url, allow_private=True, timeout_seconds=0.5), "key", PAYLOAD)
    finally:
        stop.set()
        thread.join()
        listening.close()


def test_pagerduty_and_alertmanager_get_what_they_understand(
    store: Store, receiver: WebReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUTING_KEY", "r" * 32)
    pager = NotifyChannel("pd", "pagerduty", f"{receiver.url}/v2/enqueue", "ROUTING_KEY", allow_private=True)
    with web_receiver() as alertmanager:
        manager = NotifyChannel("am", "alertmanager", alertmanager.url, allow_private=True)
        open_or_update(store, DRIFT)
        for state in (IncidentState.ACKNOWLEDGED, IncidentState.MITIGATED, IncidentState.RESOLVED):
            transition(store, 1, state, "Ada", "a test")
        deliverer(store, pager, manager).once()
        events = [request.json for request in receiver.received]
        assert [event["event_action"] for event in events] == ["trigger", "acknowledge", "resolve"]
        assert len({event["dedup_key"] for event in events}) == 1
        assert events[0]["payload"]["severity"] == "warning"
        alerts = [request.json[0] for request in alertmanager.received]
        assert {request.path for request in alertmanager.received} == {"/api/v2/alerts"}
        assert len({str(alert["labels"]) for alert in alerts}) == 1
        assert alerts[0]["endsAt"] > alerts[-1]["endsAt"]
    assert waiting(store) == 0


def test_a_silence_mutes_and_what_is_still_open_is_heard_afterwards(store: Store, receiver: WebReceiver) -> None:
    quiet = silence(store, Tags(kind="drift"), 1, "Ada", "a campaign")
    open_or_update(store, DRIFT)
    open_or_update(store, replace(DRIFT, subject="style=noto"))
    transition(store, 2, IncidentState.RESOLVED, "Ada", "over")
    running = deliverer(store, webhook(receiver))
    assert running.once() == (0, 0)
    assert incident(store, 1).state is IncidentState.OPEN  # a silence hides nothing
    end_silence(store, quiet.id, "Ada", "the campaign is over")
    assert running.once() == (1, 0)
    assert receiver.received[0].json["incident"] == 1
    with store.database.reading() as connection:
        assert {row.state for row in outbox_rows(connection, stream="incident/2")} == {OutboxState.DROPPED}


def test_the_policy_chooses_channels_and_acts_once(store: Store, receiver: WebReceiver) -> None:
    acted: list[tuple[int, str]] = []
    policy = IncidentPolicy(on=(IncidentRule("drift", "icons", "style=*", "critical", "drift", ("b",), "rollback"),))
    channels = (webhook(receiver, "a"), webhook(receiver, "b"))
    running = Deliverer(store, channels, policy, lambda each, action: acted.append((each.number, action)))
    open_or_update(store, DRIFT)
    open_or_update(store, replace(DRIFT, kind=AlertKind.DISK))
    running.once()
    running.once()
    assert acted == [(1, "rollback")]
    assert len(receiver.received) == 3  # drift to b; the disk, for which there is no rule, to both
    assert incident(store, 1).severity is IncidentSeverity.CRITICAL


def test_a_channel_takes_what_is_bad_enough(store: Store, receiver: WebReceiver) -> None:
    channel = webhook(receiver, at_least="error", models=("icons",))
    open_or_update(store, DRIFT)  # a warning, by the policy
    open_or_update(store, replace(DRIFT, kind=AlertKind.INTEGRITY))
    open_or_update(store, replace(DRIFT, kind=AlertKind.INTEGRITY, name="photos"))
    assert deliverer(store, channel).once() == (1, 0)


class Mailbox:
    def __init__(self) -> None:
        self.mails: list[tuple[str, bytes]] = []

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        self.mails.append((str(envelope.rcpt_tos), envelope.content))  # type: ignore[attr-defined]
        return "250 OK"


class StartTls(Controller):
    def factory(self) -> SMTP:
        def check(*given: object) -> AuthResult:
            login = given[-1]
            return AuthResult(success=(login.login, login.password) == (b"clerestory", b"hunter2"), handled=False)  # type: ignore[attr-defined]

        return SMTP(
            self.handler, tls_context=self.context, require_starttls=True, authenticator=check, auth_required=True
        )


def test_mails_go_to_a_real_mail_server_with_starttls(store: Store, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "mail.pem", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    mailbox = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = StartTls(mailbox, hostname="127.0.0.1", port=port, ready_timeout=30)
    controller.context = context  # type: ignore[attr-defined]
    controller.start()
    try:
        password = tmp_path / "password"
        password.write_text("hunter2\n", encoding="utf-8")
        channel = NotifyChannel(
            "mail",
            "email",
            host="localhost",
            port=port,
            username="clerestory",
            secret_file=str(password),
            sender="watch@example.org",
            recipients=("ada@example.org", "grace@example.org"),
            ca_file=str(certificate),
        )
        open_or_update(store, replace(DRIFT, title="inputs\r\nBcc: all@example.org\r\n\r\nhave changed"))
        transition(store, 1, IncidentState.RESOLVED, "Ada", "over")
        assert deliverer(store, channel).once() == (2, 0)
        with pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY_FAILED"):
            send(replace(channel, ca_file=""), "key", PAYLOAD)
        password.write_text("wrong", encoding="utf-8")
        with pytest.raises(DeliveryError, match="refuses the login"):
            send(channel, "key", PAYLOAD)
    finally:
        controller.stop(no_assert=True)
    first, second = (content.decode() for _, content in mailbox.mails)
    assert "\nBcc:" not in first
    thread = [line for line in first.splitlines() if line.startswith("References:")]
    assert thread == [line for line in second.splitlines() if line.startswith("References:")]
    assert "clerestory watch incidents show 1" in first


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what apprise imports
def test_apprise_serves_every_other_service(
    store: Store, receiver: WebReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("apprise")
    monkeypatch.setenv("SERVICE", receiver.url.replace("http://", "json://"))
    open_or_update(store, DRIFT)
    assert deliverer(store, NotifyChannel("chat", "apprise", secret_env="SERVICE")).once() == (1, 0)
    assert "incident 1 opened" in receiver.received[0].json["title"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("notify = 3", "not a list of tables"),
        ("[[notify", "not valid TOML"),
        ('[[notify]]\nname = "a"\nkind = "telegraph"', "must be"),
        ('[[notify]]\nname = "a"\nkind = "webhook"', "url is missing"),
        ('[[notify]]\nname = "a"\nkind = "webhook"\nurl = "http://example.org/"', "without TLS"),
        ('[[notify]]\nname = "a"\nkind = "webhook"\nurl = "https://u:p@example.org/"', "password"),
        ('[[notify]]\nname = "a"\nkind = "webhook"\nurl = "https://example.org:x/"', "not a URL"),
        ('[[notify]]\nname = "a"\nkind = "pagerduty"', "routing key"),
        ('[[notify]]\nname = "a"\nkind = "email"\nhost = "h"\nsender = "a@b"\nrecipients = ["a,b"]', "not an address"),
        ('[[notify]]\nname = "a"\nkind = "webhook"\nurl = "https://e.org"\nsecert_env = "X"', "secert_env"),
        ('[[notify]]\nname = "a"\nkind = "webhook"\nurl = "https://e.org"\n' * 2, "two channels"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_channels(file)


def test_a_secret_that_is_missing_is_named_and_not_shown(store: Store, receiver: WebReceiver) -> None:
    with pytest.raises(ConfigError, match="NO_SUCH_SECRET"):
        send(webhook(receiver, secret_env="NO_SUCH_SECRET"), "key", PAYLOAD)
    with pytest.raises(SettingError, match="one of the two"):
        webhook(receiver, secret_env="A", secret_file="b")


def test_pauses_grow_to_fifteen_minutes() -> None:
    assert all(0 < backoff(1) <= 2 for _ in range(20))
    assert all(MAX_RETRY_S / 2 <= backoff(n) <= MAX_RETRY_S for n in (12, 100, 10_000))


PAYLOAD = {
    "event": "trigger",
    "incident": 1,
    "dedup_key": "d",
    "kind": "drift",
    "severity": "error",
    "state": "open",
    "title": "inputs have changed",
    "name": "icons",
    "subject": "",
    "details": {},
    "change": "incident_opened",
    "who": "clerestory",
    "why": "a test",
    "at": 1_700_000_000.0,
    "opened": 1_700_000_000.0,
    "occurrences": 1,
}
