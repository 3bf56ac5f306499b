"""Identity: canonical JSON (RFC 8785) and SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import rfc8785

from clerestory.core.codec import encode


def canonical(value: Any) -> bytes:
    """The RFC 8785 bytes of a data class or of plain JSON data; equal values give equal bytes on any machine."""
    return rfc8785.dumps(encode(value))


def digest(value: Any) -> str:
    """SHA-256 (64 hex characters) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical(value)).hexdigest()


def digest_bytes(content: bytes) -> str:
    """SHA-256 (64 hex characters) of raw bytes."""
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 (64 hex characters) of a file, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(folder: Path, names: Collection[str] | None = None) -> tuple[str, dict[str, str]]:
    """The digest of a folder and of each file in it: ``(digest, {relative posix path: SHA-256})``.

    The folder's digest is that of the mapping, so it depends on names and bytes only.

    Args:
        folder: the folder.
        names: the relative posix paths of the files that count; all files if None.
    """
    files = {path.relative_to(folder).as_posix(): digest_file(path) for path in files_below(folder, names)}
    return digest(files), files


def files_below(folder: Path, names: Collection[str] | None = None) -> list[Path]:
    """The files of a folder and its subfolders, sorted; only those with these relative posix paths if given."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in files if names is None or path.relative_to(folder).as_posix() in names]


def short(hex_digest: str) -> str:
    """The first twelve characters, for people."""
    return hex_digest[:12]
