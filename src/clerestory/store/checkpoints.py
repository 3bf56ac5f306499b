"""Signed statements of the journal's length and last hash, stored outside the database.

Anyone who can write the database can rewrite the whole chain; a copy of these small files (and of the public key)
elsewhere reveals it. Each is a JSON file signed with Ed25519 over its canonical JSON without the signature.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from clerestory.core.codec import decode
from clerestory.core.digest import canonical
from clerestory.core.errors import ConfigError
from clerestory.core.evidence import Finding
from clerestory.core.files import file_lock, make_folder, translate_disk_errors, write_atomic
from clerestory.store.findings import DAMAGED, JOURNAL_BROKEN, MISSING, StoreFault

_COMPARE = "compare the journal with a backup of the store; do not trust this copy"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed head of the journal.

    Attributes:
        length: the number of records in the chain.
        head: the hash of the last record.
        when: the time, ISO 8601 in UTC.
        key: the public key, 64 hex characters.
        signature: Ed25519 over the canonical JSON of the four fields above, 128 hex characters.
    """

    length: int
    head: str
    when: str
    key: str
    signature: str = ""

    def signed_bytes(self) -> bytes:
        """The bytes that the signature covers."""
        return canonical({"length": self.length, "head": self.head, "when": self.when, "key": self.key})

    def signature_is_valid(self) -> bool:
        """Whether the signature matches the content and the public key."""
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.key))
            key.verify(bytes.fromhex(self.signature), self.signed_bytes())
        except (ValueError, InvalidSignature):
            return False
        return True


class Checkpoints:
    """The checkpoints of one store and the key that signs them.

    Args:
        folder: the folder of the checkpoints, one file each.
        key_file: the private key, created on first use and readable by its owner only.
        temporary_folder: holds unfinished files until they are renamed into place.
    """

    def __init__(self, folder: Path, key_file: Path, temporary_folder: Path) -> None:
        self.folder = folder
        self.key_file = key_file
        self._temporary_folder = temporary_folder

    def write(self, length: int, head: str, when: str) -> Checkpoint:
        """Sign and store a head of the journal."""
        with translate_disk_errors(self.folder):
            key = self._key()
            unsigned = Checkpoint(length, head, when, _public(key))
            signed = Checkpoint(length, head, when, unsigned.key, key.sign(unsigned.signed_bytes()).hex())
            make_folder(self.folder)
            write_atomic(self.folder / f"{length:010d}.json", canonical(signed), self._temporary_folder)
        return signed

    def files(self) -> list[Path]:
        """The checkpoint files, oldest first."""
        return sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []

    def lengths(self, files: Sequence[Path]) -> set[int]:
        """The records whose hashes ``verify`` needs; unreadable checkpoints are left to it."""
        return {point.length for path in files if (point := _read(path)) is not None}

    def verify(
        self, files: Sequence[Path], hashes: Mapping[int, str], length: int, complete: bool = True
    ) -> list[Finding]:
        """Compare checkpoints with a chain; empty when all of them match.

        Args:
            files: the checkpoints.
            hashes: the hash of each record that a checkpoint names, by number; of 0, that of the empty chain.
            length: the number of records that are known.
            complete: whether that is the whole journal; heads beyond its end are compared only then.
        """
        if not files:
            return []
        try:
            own_key = _public(Ed25519PrivateKey.from_private_bytes(self.key_file.read_bytes()))
        except (OSError, ValueError):
            message = "the key that signs the journal is missing or damaged"
            return [MISSING.finding(str(self.key_file), message, fix=_COMPARE, reason=StoreFault.KEY_UNUSABLE)]
        return [f for path in files if (f := _verify_one(path, own_key, hashes, length, complete)) is not None]

    def _key(self) -> Ed25519PrivateKey:
        if not self.key_file.exists():
            make_folder(self.key_file.parent)
            with file_lock(self.key_file.with_name(self.key_file.name + ".lock")):
                if not self.key_file.exists():
                    new = Ed25519PrivateKey.generate().private_bytes_raw()
                    write_atomic(self.key_file, new, self._temporary_folder, mode=0o600)
        return Ed25519PrivateKey.from_private_bytes(self.key_file.read_bytes())


def _public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def length_of(path: Path) -> int:
    """The number of records that a checkpoint's file is named after; 0 for another name."""
    return int(path.stem) if path.stem.isascii() and path.stem.isdigit() else 0


def _read(path: Path) -> Checkpoint | None:
    try:
        return decode(Checkpoint, json.loads(path.read_bytes()))
    except (ValueError, ConfigError):
        return None


def _verify_one(path: Path, own_key: str, hashes: Mapping[int, str], length: int, complete: bool) -> Finding | None:
    where = str(path)
    if (point := _read(path)) is None:
        message = "the checkpoint is damaged"
        return DAMAGED.finding(where, message, fix=_COMPARE, reason=StoreFault.CHECKPOINT_UNREADABLE)
    if not point.signature_is_valid():
        message = "the signature of the checkpoint is invalid"
        return DAMAGED.finding(where, message, fix=_COMPARE, reason=StoreFault.INVALID_SIGNATURE)
    if point.key != own_key:
        message = "the checkpoint was signed by another key"
        return JOURNAL_BROKEN.finding(where, message, fix=_COMPARE, reason=StoreFault.DIFFERENT_KEY, key=point.key)
    if point.length > length:
        if not complete:
            return None
        now = length
        return JOURNAL_BROKEN.finding(
            where,
            f"the journal had {point.length} records on {point.when} and has {now} now",
            fix=_COMPARE,
            reason=StoreFault.RECORDS_TRUNCATED,
            count=point.length - now,
            when=point.when,
        )
    if hashes.get(point.length) != point.head:
        return JOURNAL_BROKEN.finding(
            where,
            f"record {point.length} of the journal differs from the one signed on {point.when}",
            fix=_COMPARE,
            reason=StoreFault.HEAD_MISMATCH,
            record=point.length,
            when=point.when,
        )
    return None
