"""Signed statements of how long the journal is and what its last hash is, kept outside the database.

Whoever can write the database can rewrite the whole chain; a copy of these small files (and of the public key) in
another place shows it. Each is a JSON file signed with Ed25519 over its canonical JSON without the signature.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from clerestory.core.codec import decode
from clerestory.core.digest import canonical
from clerestory.core.errors import ConfigError
from clerestory.core.evidence import Finding
from clerestory.store.files import disk_errors_told, locked, make_folder, write_atomic

_COMPARE = "compare the journal with a copy of the store; do not trust this one"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed head of the journal.

    Attributes:
        length: how many records the chain had.
        head: the hash of the last one.
        when: ISO 8601, UTC.
        key: the public key, 64 hex characters.
        signature: Ed25519 over the canonical JSON of the four fields above, 128 hex characters.
    """

    length: int
    head: str
    when: str
    key: str
    signature: str = ""

    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        return canonical({"length": self.length, "head": self.head, "when": self.when, "key": self.key})

    def holds(self) -> bool:
        """Whether the signature fits the content and the key it names."""
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.key))
            key.verify(bytes.fromhex(self.signature), self.signed_bytes())
        except (ValueError, InvalidSignature):
            return False
        return True


class Checkpoints:
    """The checkpoints of one store and the key that signs them.

    Args:
        folder: where the checkpoints are, one file for each.
        key_file: the private key, made on first use and readable by its owner only.
        workplace: where unfinished files live until they are renamed into place.
    """

    def __init__(self, folder: Path, key_file: Path, workplace: Path) -> None:
        self.folder = folder
        self.key_file = key_file
        self._workplace = workplace

    def write(self, length: int, head: str, when: str) -> Checkpoint:
        """Sign and keep a head of the journal."""
        with disk_errors_told(self.folder):
            key = self._key()
            unsigned = Checkpoint(length, head, when, _public(key))
            signed = Checkpoint(length, head, when, unsigned.key, key.sign(unsigned.signed_bytes()).hex())
            make_folder(self.folder)
            write_atomic(self.folder / f"{length:010d}.json", canonical(signed), self._workplace)
        return signed

    def files(self) -> list[Path]:
        """The checkpoints there are, oldest first."""
        return sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []

    def verify(self, files: Sequence[Path], hashes: Sequence[str], complete: bool = True) -> list[Finding]:
        """What some checkpoints say against a chain.

        Args:
            files: the checkpoints.
            hashes: ``hashes[n]`` is the hash of record n, ``hashes[0]`` that of the empty chain.
            complete: whether ``hashes`` covers the whole journal; heads beyond its end are compared only then.
        """
        if not files:
            return []
        try:
            own = _public(Ed25519PrivateKey.from_private_bytes(self.key_file.read_bytes()))
        except (OSError, ValueError):
            message = "the key that signs the journal is missing or damaged"
            return [Finding("CLR-S002", "error", "fail", str(self.key_file), message, _COMPARE)]
        return [f for path in files if (f := _examine(path, own, hashes, complete)) is not None]

    def _key(self) -> Ed25519PrivateKey:
        if not self.key_file.exists():
            make_folder(self.key_file.parent)
            with locked(self.key_file.with_name(self.key_file.name + ".lock")):
                if not self.key_file.exists():
                    new = Ed25519PrivateKey.generate().private_bytes_raw()
                    write_atomic(self.key_file, new, self._workplace, mode=0o600)
        return Ed25519PrivateKey.from_private_bytes(self.key_file.read_bytes())


def _public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def _examine(path: Path, own: str, hashes: Sequence[str], complete: bool) -> Finding | None:
    try:
        point = decode(Checkpoint, json.loads(path.read_bytes()))
    except (ValueError, ConfigError):
        return Finding("CLR-S001", "error", "fail", str(path), "the checkpoint is damaged", _COMPARE)
    if not point.holds():
        return Finding("CLR-S001", "error", "fail", str(path), "the checkpoint's signature is wrong", _COMPARE)
    if point.key != own:
        return Finding("CLR-S004", "error", "fail", str(path), "the checkpoint was signed by another key", _COMPARE)
    if point.length >= len(hashes):
        if not complete:
            return None
        gone = f"the journal had {point.length} records on {point.when} and has {len(hashes) - 1} now"
        return Finding("CLR-S004", "error", "fail", str(path), gone, _COMPARE)
    if hashes[point.length] != point.head:
        other = f"record {point.length} of the journal is not the one that was signed on {point.when}"
        return Finding("CLR-S004", "error", "fail", str(path), other, _COMPARE)
    return None
