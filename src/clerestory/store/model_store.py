"""Model folders: ``models/<digest>/`` in Hugging Face layout, each with a manifest of its files in the database."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path

from sqlalchemy import select

from clerestory.core.digest import digest, digest_file, digest_folder, files_below, short
from clerestory.core.errors import InputError, IntegrityError, not_found
from clerestory.core.evidence import Finding
from clerestory.core.files import (
    PICKLE_SUFFIXES,
    copy_folder,
    make_folder,
    sync_folder,
    temporary_path,
    translate_disk_errors,
)
from clerestory.core.provenance import now
from clerestory.store.database import Database
from clerestory.store.findings import DAMAGED, MISSING, UNEXPECTED_FILE, StoreFault
from clerestory.store.schema import models as table

_RESTORE = "restore the folder from a backup of the store, or add the model again"


class ModelStore:
    """The models of one store.

    Args:
        folder: the folder of the model folders.
        temporary_folder: holds copies until they are renamed into place.
        database: holds the manifests.
    """

    def __init__(self, folder: Path, temporary_folder: Path, database: Database) -> None:
        self.folder = folder
        self._temporary_folder = temporary_folder
        self._database = database

    def put(self, source: Path, names: Collection[str] | None = None) -> str:
        """Copy a model folder into the store and return its digest; adding it again changes nothing.

        A damaged copy in the store is replaced.

        Args:
            source: the folder.
            names: the relative posix paths of the model's files; all files of the folder if None.

        Raises:
            InputError: ``source`` is not a folder, is empty, or contains pickled weights or a link to a file elsewhere,
                or the copy cannot be written.
        """
        _check_source(source, names)
        known, present = digest_folder(source, names)
        if known in self.digests() and not _compare(self.folder / known, present):
            return known
        copy = temporary_path(self._temporary_folder)
        try:
            with translate_disk_errors(self.folder):
                copy_folder(source, copy, names)
                # The digest is that of the copy: the source may change while it is read.
                model, files = digest_folder(copy)
                self._move_into_place(copy, model, files)
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        manifest = json.dumps(files, sort_keys=True)
        with self._database.writing() as connection:
            if connection.execute(select(table.c.digest).where(table.c.digest == model)).first() is None:
                connection.execute(table.insert().values(digest=model, manifest=manifest, added=now()))
        return model

    def _move_into_place(self, copy: Path, model: str, files: dict[str, str]) -> None:
        target = self.folder / model
        make_folder(self.folder)
        if target.exists():
            if not _compare(target, files):
                return
            target.rename(temporary_path(self._temporary_folder))
        try:
            copy.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            return  # another process added the same model a moment ago
        sync_folder(self.folder)

    def path(self, model: str) -> Path:
        """The folder of a model.

        Raises:
            NotFound: the store does not have this model.
        """
        self.files(model)
        return self.folder / model

    def files(self, model: str) -> dict[str, str]:
        """The manifest of a model: relative posix path → SHA-256.

        Raises:
            NotFound: the store does not have this model.
            IntegrityError: the manifest does not match the model's digest.
        """
        with self._database.reading() as connection:
            text = connection.execute(select(table.c.manifest).where(table.c.digest == model)).scalar()
        if text is None:
            raise not_found("model", short(model), [short(known) for known in self.digests()])
        files: dict[str, str] = json.loads(text)
        if digest(files) != model:
            raise IntegrityError(f"the manifest of model {short(model)} in the database was changed", _RESTORE)
        return files

    def digests(self) -> list[str]:
        """The digests of all models, sorted."""
        with self._database.reading() as connection:
            return sorted(connection.execute(select(table.c.digest)).scalars())

    def verify(self, model: str) -> list[Finding]:
        """Every file of a model that is damaged, missing or unexpected."""
        try:
            files = self.files(model)
        except IntegrityError as error:
            where, reason = self._database.location, StoreFault.MANIFEST_MISMATCH
            return [DAMAGED.finding(where, error.message, fix=_RESTORE, reason=reason, model=model)]
        return _compare(self.folder / model, files)


def _compare(folder: Path, files: dict[str, str]) -> list[Finding]:
    findings = []
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            findings.append(MISSING.finding(str(path), f"{name} of the model is missing", fix=_RESTORE, file=name))
        elif digest_file(path) != expected:
            message, reason = f"{name} of the model is damaged", StoreFault.DIGEST_MISMATCH
            findings.append(DAMAGED.finding(str(path), message, fix=_RESTORE, reason=reason, file=name))
    present = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if not path.is_dir()}
    for name in present.keys() - files.keys():
        message = f"{name} does not belong to the model"
        findings.append(UNEXPECTED_FILE.finding(str(folder / name), message, file=name))
    return findings


def _check_source(source: Path, names: Collection[str] | None) -> None:
    fix = "name a folder with config.json and model.safetensors"
    if not source.is_dir():
        raise InputError(f"{source} is not a folder", fix)
    for path in sorted(source.rglob("*")):
        counts = names is None or path.relative_to(source).as_posix() in names
        if counts and path.is_symlink() and not _stays_inside(path, source):
            raise InputError(
                f"{path} is a link to {path.resolve()}, which is outside the model folder",
                "copy the file into the folder, or remove the link",
            )
    files = files_below(source, names)
    if not files:
        raise InputError(f"the folder {source} is empty", fix)
    for path in files:
        if path.suffix in PICKLE_SUFFIXES:
            raise InputError(
                f"{path} may contain pickled code, which Clerestory never loads",
                "convert the weights to safetensors first",
            )


def _stays_inside(link: Path, source: Path) -> bool:
    """Whether a link leads to a file of its model: in the folder, or among the blobs of a Hugging Face cache."""
    root, target = source.resolve(), link.resolve()
    blobs = root.parent.parent / "blobs"  # of org/name, beside snapshots/<commit>
    return target.is_relative_to(root) or (root.parent.name == "snapshots" and target.parent == blobs)
