"""Keyed hashes of what a request contains: equal values are recognised as equal, and nobody without the key can guess.

A plain hash of a short text or of a user id is found by hashing all candidates. The key lies in a file of the store
that only its owner reads; it is in no database, no bundle and no report. Without it the hashes say nothing any more.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from clerestory.core.files import make_folder, sync_folder, temporary_path, translate_disk_errors, write_file

LOG_KEY = Path("keys") / "request-log.key"
KEY_BYTES = 32


class KeyedHash:
    """HMAC-SHA256 with the key of one store.

    Args:
        files: the folder with the files of the store; the key is made in it when it is needed for the first time.

    Raises:
        NotWritable: there is no key yet, and none can be written.
    """

    def __init__(self, files: Path) -> None:
        self._key = _key(files / LOG_KEY)

    def of(self, kind: str, *parts: str | bytes) -> str:
        """The hash of the parts in hexadecimal digits; equal parts of another kind have another hash.

        Args:
            kind: what is hashed: ``subject``, ``input``, ``caption``.
            parts: texts or bytes; their limits count, so that ("ab", "c") differs from ("a", "bc").
        """
        return self.of_all(kind, parts)

    def of_all(self, kind: str, parts: Iterable[str | bytes]) -> str:
        """``of`` for any number of parts, which are read one after another."""
        hasher = hmac.new(self._key, kind.encode(), hashlib.sha256)
        for part in parts:
            content = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            hasher.update(len(content).to_bytes(8, "big") + content)
        return hasher.hexdigest()

    def of_subject(self, user: str) -> str:
        """The hash of a user id as the request log has it; empty for an empty one."""
        return self.of("subject", user) if user else ""

    def of_caption(self, text: str) -> str:
        """The hash of a caption without case and repeated blanks, so that a corrected one can be compared with it."""
        return self.of("caption", " ".join(text.split()).casefold()) if text.strip() else ""


def _key(path: Path) -> bytes:
    with translate_disk_errors(path.parent):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            pass
        make_folder(path.parent)
        temporary = temporary_path(path.parent, path.name)
        write_file(temporary, secrets.token_bytes(KEY_BYTES), mode=0o600)
        try:
            os.link(temporary, path)  # not a rename: of two processes the first one wins, and both use its key
        except FileExistsError:
            pass
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
        return path.read_bytes()
