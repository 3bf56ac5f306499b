"""People whose approvals can be verified: a TOML file with the public key of each, and signatures of journal records.

```toml
[[approvers]]
name = "Bob"
key = "bob.pub"          # of `clerestory key make`; a path beside this file
role = "head of quality"
```

The file is ``approvers.toml`` in the folder of the store, or the one that ``CLERESTORY_APPROVERS`` names. Whoever may
write it decides whose signatures count, so an organisation keeps it where only its owner can.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature

from clerestory.core.codec import decode
from clerestory.core.digest import canonical, short
from clerestory.core.errors import ConfigError, InputError, NotFound, closest
from clerestory.core.files import expand_user, read_problem
from clerestory.core.release import Event
from clerestory.store.signing.keys import PublicKey, SigningKey, read_public_key
from clerestory.store.signing.statements import read_signing_key

FILE, VARIABLE = "approvers.toml", "CLERESTORY_APPROVERS"
FORMAT = "clerestory-approval/1"
IDENTITY, VERIFIED, STATED = "identity", "verified", "stated"


@dataclass(frozen=True, slots=True)
class ApproverEntry:
    """One person of the file: ``key`` is the path of the public key, relative to the file."""

    name: str
    key: str
    role: str = ""


@dataclass(frozen=True, slots=True)
class _Content:
    approvers: tuple[ApproverEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Approver:
    """A person with a registered public key."""

    name: str
    key: PublicKey
    role: str = ""


@dataclass(frozen=True, slots=True)
class Signer:
    """A person with the private key that is registered for this name."""

    name: str
    key: SigningKey


def approvers_file(home: Path) -> Path:
    """Where the people are registered."""
    named = os.environ.get(VARIABLE)
    return expand_user(named) if named else home / FILE


def read_approvers(home: Path) -> tuple[Approver, ...]:
    """The registered people; empty without a file.

    Raises:
        ConfigError: the file cannot be read, names a person or a key twice, or a key that is missing or unusable.
    """
    path = approvers_file(home)
    if not path.exists() and not os.environ.get(VARIABLE):
        return ()
    try:
        content = decode(_Content, tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except OSError as error:
        raise ConfigError(
            f"the approvers {path} cannot be read: {read_problem(error)}", f"correct {VARIABLE}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the approvers {path} are not valid TOML: {error}", "correct the file") from error
    found: list[Approver] = []
    for entry in content.approvers:
        try:
            key = read_public_key(path.parent / expand_user(entry.key))
        except (InputError, NotFound) as error:
            raise ConfigError(f"{path}: the key of {entry.name}: {error.message}", error.fix) from error
        twice = next((each for each in found if each.name == entry.name or each.key.id == key.id), None)
        if twice is not None:
            what = "name" if twice.name == entry.name else "key"
            raise ConfigError(
                f"{path}: {entry.name} and {twice.name} have the same {what}", "register each person once"
            )
        found.append(Approver(entry.name, key, entry.role))
    return tuple(found)


def signer_of(home: Path, key: Path, who: str = "") -> Signer:
    """The registered person whose private key a file holds.

    Raises:
        InputError: the key cannot be used, is revoked or replaced, is not registered, or is registered for another
            person than ``who``.
    """
    signing = read_signing_key(key)
    people = read_approvers(home)
    found = next((each for each in people if each.key.id == signing.public.id), None)
    if found is None:
        raise InputError(
            f"the key {key} ({short(signing.public.id)}) is not registered in {approvers_file(home)}",
            "register its public key there: [[approvers]] with name, key and role",
        )
    if who and who != found.name:
        raise InputError(
            f"the key {key} is registered for {found.name} and not for {who}",
            f"leave out --who, or write --who {found.name!r}",
            closest(who, [each.name for each in people]),
        )
    return Signer(found.name, signing)


def identity_details(event: Event, signer: Signer | None) -> dict[str, str]:
    """The details that say how the person of an event is known; signed if there is a signer."""
    if signer is None:
        return {IDENTITY: STATED}
    signature = signer.key.private.sign(_signed_bytes(event)).hex()
    return {IDENTITY: VERIFIED, "key": signer.key.public.id, "signature": signature}


def is_signed_by(event: Event, people: Sequence[Approver]) -> bool:
    """Whether an event carries a valid signature with the key that is registered for its person."""
    person = next((each for each in people if each.key.id == event.details.get("key")), None)
    if person is None or person.name != event.who:
        return False
    try:
        person.key.key.verify(bytes.fromhex(event.details.get("signature", "")), _signed_bytes(event))
    except (ValueError, InvalidSignature):
        return False
    return True


def _signed_bytes(event: Event) -> bytes:
    """What a signature covers: the act, the person, the reason, the time, and the digest of the release."""
    return canonical(
        {
            "format": FORMAT,
            "kind": event.kind,
            "subject": event.subject,
            "release": event.details.get("release", ""),
            "who": event.who,
            "why": event.why,
            "when": event.when,
        }
    )
