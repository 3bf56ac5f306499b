"""Model folders: ``models/<digest>/`` in Hugging Face's layout, each with a manifest of its files in the database."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from sqlalchemy import select

from clerestory.core.digest import digest, digest_file, digest_folder, short
from clerestory.core.errors import InputError, IntegrityError, not_found
from clerestory.core.evidence import Finding
from clerestory.core.provenance import now
from clerestory.store.database import Database
from clerestory.store.files import copy_folder, disk_errors_told, make_folder, sync_folder, temporary_path
from clerestory.store.schema import models as table

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_RESTORE = "restore the folder from a copy of the store, or put the model in again"


class Folders:
    """The models of one store.

    Args:
        folder: where they are kept.
        workplace: where a copy is made before it is renamed into place.
        database: where the manifests are.
    """

    def __init__(self, folder: Path, workplace: Path, database: Database) -> None:
        self.folder = folder
        self._workplace = workplace
        self._database = database

    def put(self, source: Path) -> str:
        """Copy a model folder into the store and return its digest; putting it again changes nothing.

        A stored copy that was damaged is replaced.

        Raises:
            InputError: not a folder, nothing in it, pickled weights in it, or the disk does not take it.
        """
        _check_source(source)
        copy = temporary_path(self._workplace)
        try:
            with disk_errors_told(self.folder):
                copy_folder(source, copy)
                # What was copied is what is named: the source may change while it is read.
                model, files = digest_folder(copy)
                self._appear(copy, model, files)
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        manifest = json.dumps(files, sort_keys=True)
        with self._database.writing() as connection:
            if connection.execute(select(table.c.digest).where(table.c.digest == model)).first() is None:
                connection.execute(table.insert().values(digest=model, manifest=manifest, added=now()))
        return model

    def _appear(self, copy: Path, model: str, files: dict[str, str]) -> None:
        target = self.folder / model
        make_folder(self.folder)
        if target.exists():
            if not _compare(target, files):
                return
            target.rename(temporary_path(self._workplace))
        try:
            copy.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            return  # another process put the same model a moment ago
        sync_folder(self.folder)

    def place(self, model: str) -> Path:
        """The folder of a model.

        Raises:
            NotFound: the store has no such model.
        """
        self.files(model)
        return self.folder / model

    def files(self, model: str) -> dict[str, str]:
        """The manifest of a model: relative posix path → SHA-256.

        Raises:
            NotFound: the store has no such model.
            IntegrityError: the manifest is not the one the digest was made from.
        """
        with self._database.reading() as connection:
            text = connection.execute(select(table.c.manifest).where(table.c.digest == model)).scalar()
        if text is None:
            raise not_found("model", short(model), [short(known) for known in self.digests()])
        files: dict[str, str] = json.loads(text)
        if digest(files) != model:
            raise IntegrityError(f"the list of files of model {short(model)} in the database was changed", _RESTORE)
        return files

    def digests(self) -> list[str]:
        """The digests of all models, sorted."""
        with self._database.reading() as connection:
            return list(connection.execute(select(table.c.digest).order_by(table.c.digest)).scalars())

    def verify(self, model: str) -> list[Finding]:
        """Every file of a model that is damaged, missing or not part of it."""
        try:
            files = self.files(model)
        except IntegrityError as error:
            return [Finding("CLR-S001", "error", "fail", self._database.place, error.message, _RESTORE)]
        return _compare(self.folder / model, files)


def _compare(folder: Path, files: dict[str, str]) -> list[Finding]:
    findings = []
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            findings.append(Finding("CLR-S002", "error", "fail", str(path), f"the model's {name} is missing", _RESTORE))
        elif digest_file(path) != expected:
            findings.append(Finding("CLR-S001", "error", "fail", str(path), f"the model's {name} is damaged", _RESTORE))
    present = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if not path.is_dir()}
    for name in present.keys() - files.keys():
        message = f"{name} is not part of the model"
        findings.append(Finding("CLR-S003", "error", "fail", str(folder / name), message, "move it out of the store"))
    return findings


def _check_source(source: Path) -> None:
    if not source.is_dir():
        raise InputError(f"{source} is not a folder", "name a folder with config.json and model.safetensors")
    files = [path for path in source.rglob("*") if path.is_file()]
    if not files:
        raise InputError(f"the folder {source} is empty", "name a folder with config.json and model.safetensors")
    for path in files:
        if path.suffix in PICKLES:
            raise InputError(
                f"{path} may hold pickled code, which is never loaded", "convert the weights to safetensors first"
            )
