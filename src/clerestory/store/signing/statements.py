"""Signed statements: an in-toto statement (version 1) in a DSSE envelope, as canonical JSON (RFC 8785)."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clerestory.core.digest import canonical
from clerestory.core.errors import InputError
from clerestory.core.provenance import now
from clerestory.store.signing.keys import PublicKey, SigningKey, read_key
from clerestory.store.signing.verify_bundle import (
    MALFORMED,
    MAX_ENVELOPE,
    PRE_AUTHENTICATION,
    REVOCATION,
    ROTATION,
    STATEMENT_TYPE,
    NotVerified,
    check_not_future,
    envelope_bytes,
)

REVOCATION_REASONS = ("compromised", "lost", "replaced", "retired")
REVOCATION_FILE, ROTATION_FILE = ".revocation.json", ".rotation.json"  # the ends of the names of statements


@dataclass(frozen=True, slots=True)
class SignedFile:
    """A file that a statement is about.

    Attributes:
        name: its relative posix path.
        sha256: of its bytes, 64 hex characters.
        size: in bytes.
    """

    name: str
    sha256: str
    size: int


def sign_statement(
    kind: str, files: Sequence[SignedFile], predicate: Mapping[str, Any], keys: Sequence[SigningKey]
) -> bytes:
    """The envelope of a statement about files, signed with every key.

    Args:
        kind: the type of the predicate, a URI.
        files: the subjects.
        predicate: what is stated about them.
        keys: at least one.
    """
    subjects = [
        {"name": each.name, "digest": {"sha256": each.sha256}, "annotations": {"size": each.size}}
        for each in sorted(files, key=lambda each: each.name.encode())
    ]
    return _sign({"subject": subjects, "predicateType": kind, "predicate": predicate}, keys)


def sign_rotation(old: SigningKey, new: SigningKey, until: str, why: str) -> bytes:
    """A statement that a new key takes the place of an old one, signed by both, as for the root keys of TUF.

    Args:
        old: the key that others trust.
        new: the one that they are to trust from now on.
        until: the time, ISO 8601 in UTC, after which signatures of the old key are refused.
        why: the reason.
    """
    predicate = {"until": until, "why": why, "key": new.public.pem()}
    return _sign({**_about(old.public), "predicateType": ROTATION, "predicate": predicate}, [old, new])


def sign_revocation(revoked: PublicKey, signer: SigningKey, until: str, reason: str, why: str) -> bytes:
    """A statement that signatures of a key are refused after a time.

    Args:
        revoked: the key.
        signer: that key itself, or another one that is trusted.
        until: the last time, ISO 8601 in UTC, at which its signatures count.
        reason: one of ``REVOCATION_REASONS``.
        why: further words, for people.
    """
    predicate = {"until": until, "reason": reason, "why": why, "when": now()}
    return _sign({**_about(revoked), "predicateType": REVOCATION, "predicate": predicate}, [signer])


def read_signing_key(path: Path, *, home: Path | None = None) -> SigningKey:
    """Read a private key to sign with; refused if a statement in its folder says that it is revoked or replaced.

    The clock decides, not ``SOURCE_DATE_EPOCH``: a revoked key must not sign with a time in the past. The signature of
    the statement does not count here: only the owner can write to the folder of a private key, and if in doubt the key
    does not sign.

    Args:
        path: of the private key.
        home: the folder of the store, in which no private key may lie.

    Raises:
        NotFound: there is no such file.
        InputError: as ``read_key``; or the key is revoked or replaced, which names the statement.
    """
    key = read_key(path, home=home)
    latest = max(now(), signing_time())
    for statement, kind, until in _statements_beside(path, key.public.id):
        if latest > until:
            what = "was replaced by a new key" if kind == ROTATION else "is revoked"
            raise InputError(
                f"the key {path} {what} (statement {statement}): its signatures after {until} are refused",
                _use_another(statement, kind),
            )
    return key


def _statements_beside(path: Path, key: str) -> Iterator[tuple[Path, str, str]]:
    """The statements about a key in its folder: the file, its kind, and the last time at which signatures count."""
    for folder in dict.fromkeys((path.parent, path.resolve().parent)):
        for file in sorted(folder.glob("*.json")):
            if not file.name.endswith((REVOCATION_FILE, ROTATION_FILE)) or file.stat().st_size > MAX_ENVELOPE:
                continue
            try:
                statement = json.loads(base64.b64decode(json.loads(file.read_bytes())["payload"]))
                about, kind = statement["subject"][0]["digest"]["sha256"], statement["predicateType"]
                until = str(statement["predicate"]["until"])
            except (*MALFORMED, OSError):
                continue  # not a statement about keys
            if about == key and kind in (ROTATION, REVOCATION):
                yield file, kind, until


def _use_another(statement: Path, kind: str) -> str:
    """The remedy for a key that no longer signs."""
    new = statement.with_name(statement.name.removesuffix(ROTATION_FILE))
    if kind == ROTATION and new.is_file():
        return f"sign with the new key {new}"
    return "sign with another key, such as one that replaced it, or make one with: clerestory key make PATH"


def signing_time() -> str:
    """The time to sign: now, or ``SOURCE_DATE_EPOCH`` (reproducible-builds.org) if it is set.

    Raises:
        InputError: the variable is not a number of seconds, or a time in the future.
    """
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    if not seconds:
        return now()
    try:
        chosen = datetime.fromtimestamp(int(seconds), UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(
            f"SOURCE_DATE_EPOCH is {seconds!r}, not a number of seconds since 1970", "correct it, or unset it"
        ) from error
    try:
        check_not_future(chosen)
    except NotVerified as error:  # nobody could verify it
        fix = "choose a time in the past, or unset it; if the clock is wrong, set it right"
        raise InputError(f"SOURCE_DATE_EPOCH is {chosen}, which is in the future", fix) from error
    return chosen


def statement_time(text: str) -> str:
    """A time that a person wrote, in UTC and to the second; a date alone is its last second.

    Raises:
        InputError: it is not a time of ISO 8601, or has no time zone.
    """
    try:
        time = datetime.fromisoformat(text if "T" in text else f"{text}T23:59:59+00:00")
        if time.tzinfo is None:
            raise ValueError
        return time.astimezone(UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError) as error:
        fix = "write a date, such as 2026-05-31, or a time with its zone, such as 2026-05-31T12:00:00+00:00"
        raise InputError(f"{text!r} is not a time", fix) from error


def _about(key: PublicKey) -> dict[str, Any]:
    return {"subject": [{"name": "key", "digest": {"sha256": key.id}}]}


def _sign(statement: Mapping[str, Any], keys: Sequence[SigningKey]) -> bytes:
    payload = canonical({"_type": STATEMENT_TYPE, **statement})
    signed = PRE_AUTHENTICATION % (len(payload), payload)
    return envelope_bytes(payload, {key.public.id: key.private.sign(signed) for key in keys})
