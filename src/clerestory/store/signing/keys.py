"""Signing keys: Ed25519, one file each, at a path of the user's choice; never in the store.

A private key is a PKCS #8 file (PEM) that its owner alone may read; beside it lies ``<name>.pub`` with the public key.
Lines before the PEM block say when it was made and whose it is, as RFC 7468 allows; OpenSSL reads both files.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from clerestory.core.errors import InputError, NotFound
from clerestory.core.files import read_problem, translate_disk_errors, write_atomic
from clerestory.core.outputs import CHOOSE_FOLDER, check_output, write_output
from clerestory.core.provenance import now
from clerestory.core.text import valid_unicode, visible
from clerestory.store.signing.verify_bundle import UnusableKey, key_id, load_public_key

SUFFIX = ".pub"
MAX_KEY_BYTES = 2**16
_PRIVATE = b"PRIVATE KEY-----"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_FIELD = re.compile(r"^(Created|Owner): (.*)$", re.MULTILINE)
_MAKE = "make one with: clerestory key make PATH"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of a key.

    Attributes:
        id: its fingerprint, SHA-256 of the key in DER, 64 hex characters.
        key: the key itself.
        created: when it was made, ISO 8601 in UTC; empty if the file does not say.
        owner: whose it is, as its maker stated; not verified.
    """

    id: str
    key: Ed25519PublicKey
    created: str = ""
    owner: str = ""

    def pem(self) -> str:
        """The content of its file."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        block = self.key.public_bytes(serialization.Encoding.PEM, form).decode()
        return _fields(self.created, self.owner) + block


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key that was read from a file.

    Attributes:
        path: of the file.
        private: the key.
        public: its public half.
    """

    path: Path
    private: Ed25519PrivateKey
    public: PublicKey


def public_path(path: Path) -> Path:
    """Where the public key of a private one lies."""
    return path.with_name(path.name + SUFFIX)


def make_key(path: Path, owner: str = "", *, home: Path | None = None) -> SigningKey:
    """Make a key: the private one at ``path``, for its owner alone, and the public one beside it.

    A missing folder is made, and its owner alone may enter it.

    Args:
        path: a new file.
        owner: whose key it is, for people; one line.
        home: the folder of the store, in which no private key may lie.

    Raises:
        InputError: a file exists, the folder is inside the store, or nothing can be written there.
    """
    _refuse_in_store(path, home)
    if visible(owner) != owner or len(owner) > 200:
        raise InputError("the owner of a key is one line of at most 200 characters", "shorten it")
    if not path.parent.exists():
        with translate_disk_errors(path.parent, CHOOSE_FOLDER):
            path.parent.mkdir(mode=0o700, parents=True)
    for each in (path, public_path(path)):
        check_output(each)
    private = Ed25519PrivateKey.generate()
    public = PublicKey(key_id(private.public_key()), private.public_key(), now(), valid_unicode(owner))
    block = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with translate_disk_errors(path.parent, CHOOSE_FOLDER):
        write_atomic(path, _fields(public.created, public.owner).encode() + block, mode=0o600)
    write_output(public_path(path), public.pem().encode())
    return SigningKey(path, private, public)


def read_key(path: Path, *, home: Path | None = None) -> SigningKey:
    """Read a private key.

    Args:
        path: of the file.
        home: the folder of the store, in which no private key may lie.

    Raises:
        NotFound: there is no such file.
        InputError: others may read the file, it is not an unencrypted Ed25519 key, or it is in the store.
    """
    content = _read(path)
    _refuse_in_store(path, home)
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & _OTHERS and _PRIVATE in content:
        raise InputError(
            f"the key file {path} is open to other users of this computer (mode {mode:o})",
            f"allow only yourself: chmod 600 {quote(str(path))}; if others may have copied it, revoke the key",
        )
    try:
        private = serialization.load_pem_private_key(content, None)
    except TypeError as error:
        raise InputError(f"the key file {path} is encrypted", "decrypt it: openssl pkey -in KEY -out NEW") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        what = "a public key" if b"PUBLIC KEY" in content else "not a private key (PEM, PKCS #8)"
        raise InputError(f"{path} is {what}", f"name the private key, or {_MAKE}") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise InputError(f"{path} is not an Ed25519 key", _MAKE)
    fields = _read_fields(content)
    key = private.public_key()
    return SigningKey(path, private, PublicKey(key_id(key), key, fields.get("Created", ""), fields.get("Owner", "")))


def read_public_key(path: Path) -> PublicKey:
    """Read a public key.

    Raises:
        NotFound: there is no such file.
        InputError: it is not an Ed25519 public key.
    """
    content = _read(path, "get the public key (the .pub file) from its owner, and check the path")
    try:
        key = load_public_key(content, str(path))
    except UnusableKey as error:
        raise InputError(str(error), "name the .pub file that the owner of the key handed out") from error
    fields = _read_fields(content)
    return PublicKey(key_id(key), key, fields.get("Created", ""), fields.get("Owner", ""))


def is_private(path: Path) -> bool:
    """Whether a file holds a private key.

    Raises:
        NotFound: there is no such file.
        InputError: it cannot be read.
    """
    return _PRIVATE in _read(path)


def keys_in(folder: Path) -> list[Path]:
    """The files of a folder that hold a private or a public key; a pair counts once, as its private key."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", "name the folder of the keys")
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and _has_key(path)]
    pairs = {public_path(path) for path in found if path.suffix != SUFFIX}
    return [path for path in found if path not in pairs]


def check_clock(earliest: Sequence[tuple[str, str]], when: str) -> None:
    """Check that a time to be signed is not before times that are already recorded.

    Args:
        earliest: what was recorded, as "the last record of the journal", and its time.
        when: the time to be signed.

    Raises:
        InputError: it is earlier; names both times.
    """
    for what, time in earliest:
        if time > when:
            raise InputError(
                f"the clock says {when}, which is before {what} ({time})", "set the clock of this computer right"
            )


def _refuse_in_store(path: Path, home: Path | None) -> None:
    if home is not None and path.resolve().is_relative_to(home.resolve()):
        raise InputError(f"{path} is inside the store {home}, which may be shared", "choose a path outside of it")


def _read(path: Path, fix: str = _MAKE) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_KEY_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no key file {path}", fix) from error
    except OSError as error:
        raise InputError(f"the key file {path} cannot be read: {read_problem(error)}", fix) from error
    if len(content) > MAX_KEY_BYTES:
        raise InputError(f"{path} is too large for a key file", "name the file of a key")
    return content


def _has_key(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(MAX_KEY_BYTES)
    except OSError:
        return False
    return b"-----BEGIN PRIVATE KEY-----" in start or b"-----BEGIN PUBLIC KEY-----" in start


def _fields(created: str, owner: str) -> str:
    lines = [f"Created: {created}"] if created else []
    lines += [f"Owner: {owner}"] if owner else []
    return "".join(f"{line}\n" for line in lines)


def _read_fields(content: bytes) -> dict[str, str]:
    head = content.partition(b"-----BEGIN")[0].decode("utf-8", errors="replace")
    return {name: visible(value.strip()) for name, value in _FIELD.findall(head)}
