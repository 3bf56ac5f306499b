"""The store: everything Clerestory keeps, in one folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from sqlalchemy import URL

from clerestory.core.codec import Tags, decode
from clerestory.core.digest import canonical, digest, short
from clerestory.core.errors import ConfigError, InputError, IntegrityError, NotFound, not_found
from clerestory.core.evidence import Evidence, Finding
from clerestory.core.provenance import now
from clerestory.core.release import Alias, Decision, Event, Release
from clerestory.store import catalog, registry
from clerestory.store.answer_cache import Memo
from clerestory.store.blobs import Blobs
from clerestory.store.catalog import DatasetRow
from clerestory.store.checkpoints import Checkpoints
from clerestory.store.database import Database
from clerestory.store.files import disk_errors_told, make_folder, sweep
from clerestory.store.journal import Journal
from clerestory.store.model_store import Folders
from clerestory.store.registry import Move, Resolved
from clerestory.store.registry_check import GATED, check_registry, movement

FOLDER = ".clerestory"


def open_store(home: Path | str | None = None, url: str | None = None) -> Store:
    """Open the store, creating it when it is not there; any number of processes may do so at once.

    Args:
        home: its folder; ``CLERESTORY_HOME`` or ``./.clerestory`` when None.
        url: its database; ``CLERESTORY_DB`` or the SQLite file ``store.db`` in its folder when None.

    Raises:
        InputError: the folder cannot be written, or the url is of no use.
        IntegrityError: the database file is damaged.
    """
    folder = Path(home or os.environ.get("CLERESTORY_HOME") or FOLDER).expanduser().absolute()
    return Store(folder, url or os.environ.get("CLERESTORY_DB") or None)


class Store:
    """Blobs, models, evidence, releases, aliases and the journal of what happened. Use ``open_store``.

    Attributes:
        home: the folder all of it is in (the database too, unless it was given a url).
        blobs: content-addressed files.
        journal: what happened, in order.
        runs: scratch folders of work that can be resumed.
        memo: what models answered, kept by the content of the question.
    """

    def __init__(self, home: Path, url: str | None = None) -> None:
        self.home = home
        self.runs = home / "runs"
        workplace = home / "tmp"
        with disk_errors_told(home):
            for folder in (workplace, self.runs, home / "blobs", home / "models"):
                make_folder(folder)
            sweep(workplace)
            file = URL.create("sqlite", database=str(home / "store.db"))
            self.database = Database(url or file.render_as_string(), workplace)
        self.blobs = Blobs(home / "blobs", workplace)
        self.journal = Journal(
            self.database, Checkpoints(home / "checkpoints", home / "keys" / "journal.ed25519", workplace)
        )
        self.memo = Memo(home / "memo.db")
        self._models = Folders(home / "models", workplace, self.database)

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Evidence and what is derived.

    def put_evidence(self, evidence: Evidence) -> str:
        """Keep a piece of evidence and return its id; putting it again changes nothing.

        Raises:
            IntegrityError: its rows or artifacts are not in the store.
        """
        for name, blob in _attached(evidence):
            if not self.blobs.has(blob):
                raise IntegrityError(f"the {name} of this evidence ({short(blob)}) are not stored", "put them in first")
        digest = self.blobs.put(canonical(evidence))
        with self.database.writing() as connection:
            catalog.add_evidence(connection, evidence, digest)
        return digest

    def evidence(self, id: str) -> Evidence:
        """One piece of evidence, by its id or a beginning of it that is unique and at least eight characters long.

        Raises:
            NotFound: there is none.
            IntegrityError: its file is damaged; names it.
        """
        with self.database.reading() as connection:
            digest = catalog.by_prefix("evidence", id, catalog.evidence_ids(connection))
        return self._read_evidence(digest)

    def find_evidence(
        self, kind: str, model: str = "", data: str = "", code: str = "", config: str = "", environment: str = ""
    ) -> list[Evidence]:
        """The evidence of one kind whose subject has these digests (an empty one matches any), newest first."""
        wanted = {"model": model, "data": data, "code": code, "config": config, "environment": environment}
        with self.database.reading() as connection:
            ids = catalog.find_evidence(connection, kind, wanted)
        return [self._read_evidence(each) for each in ids]

    def verify_evidence(self, id: str) -> list[Finding]:
        """Every file of one piece of evidence that is damaged or missing: its JSON, its rows, its artifacts."""
        label = f"evidence {short(id)}"
        findings = self.blobs.verify(id, label)
        if not findings:
            for name, blob in _attached(self._read_evidence(id)):
                findings += self.blobs.verify(blob, f"{name} of {label}")
        return findings

    def remember(self, key: str, digest: str) -> None:
        """Note which blob holds a derived thing, such as ``embeddings/<model>/<data>``."""
        with self.database.writing() as connection:
            catalog.remember(connection, key, digest)

    def recall(self, key: str) -> str | None:
        """The blob noted for a derived thing; None when none was, or when it is gone."""
        with self.database.reading() as connection:
            digest = catalog.recall(connection, key)
        return digest if digest and self.blobs.has(digest) else None

    # Models and data sets.

    def put_model(self, folder: Path | str) -> str:
        """Copy a model folder into the store and return its digest; putting it again changes nothing.

        Raises:
            InputError: not a folder, empty, or with pickled weights in it.
        """
        return self._models.put(Path(folder))

    def model_folder(self, digest: str) -> Path:
        """Where the files of a model are.

        Raises:
            NotFound: the store has no such model.
        """
        return self._models.place(digest)

    def model_files(self, digest: str) -> dict[str, str]:
        """The files of a model: relative posix path → SHA-256."""
        return self._models.files(digest)

    def verify_model(self, digest: str) -> list[Finding]:
        """Every file of a model that is damaged, missing or unexpected."""
        return self._models.verify(digest)

    def put_dataset(self, name: str, spec: str, digest: str, size: int, event: Event) -> None:
        """List a data set as the newest of its name, together with its journal record.

        Nothing is written when the newest of this name has the same spec and digest.
        """
        with self.database.writing() as connection:
            if catalog.add_dataset(connection, DatasetRow(name, spec, digest, size, event.when)):
                self.journal.write(connection, event)

    def datasets(self) -> list[DatasetRow]:
        """The newest data set of every name, by name."""
        with self.database.reading() as connection:
            return catalog.all_datasets(connection)

    def dataset(self, name: str) -> DatasetRow:
        """The newest data set of one name.

        Raises:
            NotFound: there is none; carries the closest names.
        """
        rows = {row.name: row for row in self.datasets()}
        if name not in rows:
            raise not_found("data set", name, rows)
        return rows[name]

    # Releases and aliases.

    def add_release(
        self,
        name: str,
        model: str,
        evidence: Sequence[str],
        decision: Decision,
        who: str,
        why: str,
        notes: Tags | None = None,
    ) -> Release:
        """Number a decision within its line, together with its journal record.

        The record (kind ``gated``) holds the release's digest, so that the chain covers the whole release.

        Raises:
            NotFound: the model or a piece of evidence is not in the store.
        """
        registry.check_name("a line of models", name)
        self._models.files(model)
        with self.database.writing() as connection:
            known = set(catalog.evidence_ids(connection))
            for each in evidence:
                catalog.by_prefix("evidence", each, known)
            parent = registry.alias_state(connection, name, "live").number
            number = registry.next_number(connection, name)
            release = Release(name, number, model, tuple(evidence), decision, parent, who, why, now(), notes or Tags())
            registry.add(connection, release)
            details = Tags(verdict=decision.verdict, model=model, release=digest(release))
            self.journal.write(connection, Event(GATED, release.ref, who, why, release.when, details))
        self.journal.checkpoint(now())
        return release

    def release(self, name: str, number: int) -> Release:
        """One release.

        Raises:
            NotFound: there is none; carries the closest names.
        """
        with self.database.reading() as connection:
            return registry.one_release(connection, name, number)

    def releases(self, name: str | None = None) -> list[Release]:
        """The releases of one line or of all, newest first."""
        with self.database.reading() as connection:
            return registry.all_releases(connection, name)

    def alias(self, name: str, alias: str) -> Alias | None:
        """Where an alias points; None when it points at nothing."""
        with self.database.reading() as connection:
            state = registry.alias_state(connection, name, alias)
        return state if state.number != registry.NOWHERE else None

    def aliases(self, name: str | None = None) -> list[Alias]:
        """The aliases of one line or of all that point at a release."""
        with self.database.reading() as connection:
            return registry.all_aliases(connection, name)

    def move_alias(self, name: str, alias: str, number: int, expected_generation: int, event: Event) -> Alias:
        """Move one alias by compare-and-swap, together with its journal record.

        Args:
            name: the line of models.
            alias: ``live``, ``candidate``, ….
            number: the release it shall point at.
            expected_generation: the generation the mover saw; 0 when the alias did not exist.
            event: what goes into the journal; where the alias went is added to its details.

        Raises:
            Conflict: somebody else moved it first; nothing has changed.
            NotFound: there is no such release.
        """
        return self.move_aliases(name, [Move(alias, number, expected_generation)], event)[0]

    def move_aliases(self, name: str, moves: Sequence[Move], event: Event) -> list[Alias]:
        """Move several aliases of one line and write one journal record, all or nothing.

        Raises:
            Conflict: one of them was moved by somebody else; nothing has changed.
            NotFound: there is no such release.
        """
        with self.database.writing() as connection:
            moved = registry.move(connection, name, moves)
            went = {key: value for each in moved for key, value in movement(each).items()}
            self.journal.write(connection, replace(event, details=Tags(event.details, **went)))
        self.journal.checkpoint(now())
        return moved

    def resolve(self, ref: str) -> Resolved:
        """What ``icons@3``, ``icons@live``, ``icons`` (its live release), or a model's digest stands for.

        Raises:
            NotFound: nothing has this name; carries the closest ones.
            InputError: several models have a digest that begins so.
        """
        models = self._models.digests()
        name, at, what = ref.partition("@")
        with self.database.reading() as connection:
            if at or name in registry.lines(connection):
                release = registry.resolve_release(connection, name, what or "live", [short(each) for each in models])
                return Resolved(release.model, release)
            try:
                return Resolved(catalog.by_prefix("model", ref, models), None)
            except NotFound as error:
                raise registry.unknown_reference(connection, ref, [short(each) for each in models]) from error

    def verify_registry(self, name: str) -> list[Finding]:
        """Every release and alias of one line that is not what the journal says it is."""
        return check_registry(self.database, self.journal, name)

    def _read_evidence(self, digest: str) -> Evidence:
        try:
            return decode(Evidence, json.loads(self.blobs.get(digest)))
        except (ConfigError, ValueError) as error:
            raise InputError(
                f"the evidence {short(digest)} was made by another version of Clerestory: {error}", "make it again"
            ) from error


def _attached(evidence: Evidence) -> list[tuple[str, str]]:
    """The blobs a piece of evidence refers to, by what they are."""
    rows = [("rows", evidence.rows)] if evidence.rows else []
    return rows + list(evidence.artifacts.items())
