"""Content-addressed files: the name of a blob is the SHA-256 of its bytes."""

from __future__ import annotations

from pathlib import Path

from clerestory.core.digest import digest_bytes, digest_file, short
from clerestory.core.errors import IntegrityError, NotFound
from clerestory.core.evidence import Finding
from clerestory.core.files import make_folder, translate_disk_errors, write_atomic
from clerestory.store.findings import DAMAGED, MISSING, StoreFault

RESTORE = "restore the file from a backup of the store, or produce the evidence again"


class Blobs:
    """Bytes stored in ``<folder>/aa/bb/<sha256>``, where ``aa`` and ``bb`` are the first digits of the digest.

    Args:
        folder: the folder of the files.
        temporary_folder: holds unfinished files until they are renamed into place.
    """

    def __init__(self, folder: Path, temporary_folder: Path) -> None:
        self.folder = folder
        self._temporary_folder = temporary_folder

    def path(self, digest: str) -> Path:
        """The path of the blob, whether or not it exists."""
        return self.folder / digest[:2] / digest[2:4] / digest

    def has(self, digest: str) -> bool:
        """Whether the blob exists; its bytes are not checked."""
        return bool(digest) and self.path(digest).is_file()

    def put(self, content: bytes) -> str:
        """Store ``content`` and return its SHA-256; it is on the disk when this returns.

        A damaged copy of the same blob is replaced.

        Raises:
            InputError: the file cannot be written.
        """
        digest = digest_bytes(content)
        target = self.path(digest)
        with translate_disk_errors(self.folder):
            if not (target.is_file() and target.read_bytes() == content):
                make_folder(target.parent)
                write_atomic(target, content, self._temporary_folder)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of a blob, checked against its digest.

        Raises:
            NotFound: the blob does not exist.
            IntegrityError: the bytes do not match the digest; names the file.
        """
        path = self.path(digest)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise NotFound(f"the stored file {short(digest)} does not exist at {path}", RESTORE) from error
        if digest_bytes(content) != digest:
            raise IntegrityError(f"{path} is damaged: its content does not match its name", RESTORE)
        return content

    def verify(self, digest: str, label: str) -> list[Finding]:
        """Check one blob; empty when it is intact.

        Args:
            digest: the blob.
            label: how the findings name it, such as ``the rows of evidence 0123456789ab``.
        """
        path = self.path(digest)
        if not path.is_file():
            return [MISSING.finding(str(path), f"{label} is missing", fix=RESTORE, label=label)]
        if digest_file(path) != digest:
            message = f"{label} is damaged"
            return [DAMAGED.finding(str(path), message, fix=RESTORE, reason=StoreFault.DIGEST_MISMATCH, label=label)]
        return []
