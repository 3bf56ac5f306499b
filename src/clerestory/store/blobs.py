"""Content-addressed files: the name of a blob is the SHA-256 of its bytes."""

from __future__ import annotations

from pathlib import Path

from clerestory.core.digest import digest_bytes, digest_file, short
from clerestory.core.errors import IntegrityError, NotFound
from clerestory.core.evidence import Finding
from clerestory.store.files import disk_errors_told, make_folder, write_atomic

RESTORE = "restore the file from a copy of the store, or make the evidence again"


class Blobs:
    """Bytes kept in ``<folder>/aa/bb/<sha256>``, where ``aa`` and ``bb`` are the first digits of the digest.

    Args:
        folder: where they are kept.
        workplace: where unfinished files live until they are renamed into place.
    """

    def __init__(self, folder: Path, workplace: Path) -> None:
        self.folder = folder
        self._workplace = workplace

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        return self.folder / digest[:2] / digest[2:4] / digest

    def has(self, digest: str) -> bool:
        """Whether there is such a blob; its bytes are not checked."""
        return bool(digest) and self.path(digest).is_file()

    def put(self, content: bytes) -> str:
        """Keep ``content`` and return its SHA-256; it is on the disk when this returns.

        A blob that is already there but damaged is written anew.

        Raises:
            InputError: the disk does not take it.
        """
        digest = digest_bytes(content)
        target = self.path(digest)
        with disk_errors_told(self.folder):
            if not (target.is_file() and target.read_bytes() == content):
                make_folder(target.parent)
                write_atomic(target, content, self._workplace)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of a blob, checked against its digest.

        Raises:
            NotFound: there is no such blob.
            IntegrityError: the bytes are not those that were put; names the file.
        """
        path = self.path(digest)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise NotFound(f"there is no stored file {short(digest)} at {path}", RESTORE) from error
        if digest_bytes(content) != digest:
            raise IntegrityError(f"{path} is damaged: its bytes are not those of its name", RESTORE)
        return content

    def verify(self, digest: str, what: str) -> list[Finding]:
        """What is wrong with one blob; ``what`` says what it is, such as ``the rows of evidence 0123456789ab``."""
        path = self.path(digest)
        if not path.is_file():
            return [Finding("CLR-S002", "error", "fail", str(path), f"{what} is missing", RESTORE)]
        if digest_file(path) != digest:
            return [Finding("CLR-S001", "error", "fail", str(path), f"{what} is damaged", RESTORE)]
        return []
