"""The store: all persistent data of Clerestory in one folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from sqlalchemy import URL, Connection

from clerestory.core.codec import Tags, decode
from clerestory.core.digest import canonical, digest, short
from clerestory.core.errors import ConfigError, InputError, IntegrityError, NotFound, NotWritable, not_found
from clerestory.core.evidence import Evidence, Finding
from clerestory.core.files import expand_user, make_folder, translate_disk_errors, why_unwritable
from clerestory.core.provenance import now
from clerestory.core.release import Alias, Decision, Event, Release
from clerestory.store import catalog, registry
from clerestory.store.answer_cache import AnswerCache
from clerestory.store.blobs import Blobs
from clerestory.store.catalog import DatasetRow
from clerestory.store.checkpoints import Checkpoints
from clerestory.store.database import Database, sqlite_file
from clerestory.store.journal import Journal
from clerestory.store.model_store import ModelStore
from clerestory.store.registry import AliasMove, ResolvedModel
from clerestory.store.registry_check import GATED, check_registry, move_details
from clerestory.store.store_folder import KEY, bind, prepare, refuse_marked
from clerestory.store.store_format import check_home

FOLDER = ".clerestory"


def open_store(home: Path | str | None = None, url: str | None = None) -> Store:
    """Open the store, creating it if it does not exist; any number of processes may do so at once.

    Args:
        home: its folder; ``CLERESTORY_HOME`` or ``./.clerestory`` when None.
        url: its database; ``CLERESTORY_DB`` or the SQLite file ``store.db`` in its folder when None.

    Raises:
        InputError: the folder cannot be written, the url is invalid, or the store has the format of another version.
        IntegrityError: the database file is damaged.
    """
    return Store(store_folder(home), url or os.environ.get("CLERESTORY_DB") or None)


def store_folder(home: Path | str | None = None) -> Path:
    """The folder of the store, which need not exist: ``home``, ``CLERESTORY_HOME`` or ``./.clerestory``."""
    return expand_user(home or os.environ.get("CLERESTORY_HOME") or FOLDER).absolute()


def migrate_store(home: Path | str | None = None, url: str | None = None) -> tuple[str, list[str]]:
    """Create the tables and triggers that a database lacks; of a folder with its own database, or of a url.

    Returns:
        The location of the database, and the names of what was created.

    Raises:
        InputError: as ``open_store`` does, or the role may not create them.
    """
    url = url or os.environ.get("CLERESTORY_DB") or None
    if url is None:
        with open_store(home) as store:
            return store.database.location, store.database.migrate()
    # Only the database: whoever owns it need not have the folder of the store.
    file = sqlite_file(url)
    database = Database(url, file.parent if file else Path())
    return database.location, database.created + database.migrate()


class Store:
    """Blobs, models, evidence, releases, aliases and the event journal. Use ``open_store``.

    Attributes:
        home: the folder that was opened, with the database in it unless a url was given.
        files: the folder with the files of the store; another than ``home`` when that is a second folder with the same
            database.
        blobs: content-addressed files.
        journal: the events, in order.
        runs: working folders of runs that can be resumed.
        answer_cache: model answers by the content of the query.
    """

    def __init__(self, home: Path, url: str | None = None) -> None:
        self.home = home
        self.runs = home / "runs"
        own_database = url is None or sqlite_file(url) == home / "store.db"
        if own_database:
            refuse_marked(home)
            check_home(home)
        prepare(home, "runs")
        sqlite = URL.create("sqlite", database=str(home / "store.db")).render_as_string()
        with translate_disk_errors(home):
            self.database = Database(sqlite if url is None else url, home / "tmp")
        self.files = home if own_database else bind(home, self.database)
        prepare(self.files, "blobs", "models")
        temporary_folder = self.files / "tmp"
        self.blobs = Blobs(self.files / "blobs", temporary_folder)
        checkpoints = Checkpoints(self.files / "checkpoints", self.files / KEY, temporary_folder)
        self.journal = Journal(self.database, checkpoints)
        self.answer_cache = AnswerCache(home / "answers.db")
        self._models = ModelStore(self.files / "models", temporary_folder, self.database)

    def close(self) -> None:
        """Close the connections to the database."""
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def check_writable(self) -> None:
        """Check that files can be stored, before the work whose result they are.

        Raises:
            InputError: the disk is full or read-only; names the reason.
        """
        with translate_disk_errors(self.files):
            make_folder(self.files / "tmp")
            if reason := why_unwritable(self.files / "tmp"):
                raise OSError(0, reason, str(self.files))

    # Evidence and cached results.

    def put_evidence(self, evidence: Evidence) -> str:
        """Store a piece of evidence and return its id; storing it again changes nothing.

        Raises:
            IntegrityError: its rows or artifacts are not in the store.
        """
        for name, blob in _attached(evidence):
            if not self.blobs.has(blob):
                raise IntegrityError(f"{name} of this evidence ({short(blob)}) is not in the store", "store it first")
        digest = self.blobs.put(canonical(evidence))
        with self.database.reading() as connection:
            stored = catalog.has_evidence(connection, digest)
        if not stored:
            with self.database.writing() as connection:
                catalog.add_evidence(connection, evidence, digest)
        return digest

    def evidence(self, id: str) -> Evidence:
        """One piece of evidence, by its id or a unique prefix of at least eight characters.

        Raises:
            NotFound: it does not exist.
            IntegrityError: its file is damaged; names it.
        """
        with self.database.reading() as connection:
            digest = catalog.by_prefix("evidence", id, catalog.evidence_ids(connection))
        return self._read_evidence(digest)

    def find_evidence(
        self, kind: str, model: str = "", data: str = "", code: str = "", config: str = "", environment: str = ""
    ) -> list[Evidence]:
        """The evidence of one kind whose subject has these digests (an empty one matches any), newest first."""
        subject = {"model": model, "data": data, "code": code, "config": config, "environment": environment}
        with self.database.reading() as connection:
            ids = catalog.find_evidence(connection, kind, subject)
        return [self._read_evidence(each) for each in ids]

    def revision(self) -> str:
        """A digest that changes with the journal (releases, promotions, datasets), the evidence and the aliases."""
        with self.database.reading() as connection:
            num_evidence = catalog.count_evidence(connection)
        aliases = [(each.name, each.alias, each.number, each.generation) for each in self.aliases()]
        return digest([self.journal.head(), num_evidence, aliases])

    def verify_evidence(self, id: str) -> list[Finding]:
        """Every file of one piece of evidence that is damaged or missing: its JSON, its rows, its artifacts."""
        label = f"evidence {short(id)}"
        findings = self.blobs.verify(id, label)
        if not findings:
            for name, blob in _attached(self._read_evidence(id)):
                findings += self.blobs.verify(blob, f"{name} of {label}")
        return findings

    def cache_put(self, key: str, digest: str) -> None:
        """Record the blob of a cached result, such as ``embeddings/<model>/<data>``."""
        with self.database.writing() as connection:
            catalog.cache_put(connection, key, digest)

    def cache_content(self, key: str, content: bytes) -> None:
        """Store a result that can be computed again; where nothing can be written it is not stored."""
        with suppress(NotWritable):
            self.cache_put(key, self.blobs.put(content))

    def cache_get(self, key: str) -> str | None:
        """The blob of a cached result; None when there is none or its file is missing."""
        with self.database.reading() as connection:
            digest = catalog.cache_get(connection, key)
        return digest if digest and self.blobs.has(digest) else None

    def cache_read(self, key: str) -> bytes | None:
        """The content of a cached result; None when there is none, or when it is damaged and must be computed again."""
        digest = self.cache_get(key)
        try:
            return self.blobs.get(digest) if digest else None
        except (IntegrityError, NotFound):
            return None

    # Models and datasets.

    def put_model(self, folder: Path | str, names: Collection[str] | None = None) -> str:
        """Copy a model folder into the store and return its digest; adding it again changes nothing.

        Args:
            folder: the folder.
            names: the relative posix paths of the model's files; all files of the folder if None.

        Raises:
            InputError: ``folder`` is not a folder, is empty or contains pickled weights.
        """
        return self._models.put(Path(folder), names)

    def model_folder(self, digest: str) -> Path:
        """The folder with the files of a model.

        Raises:
            NotFound: the store does not have this model.
        """
        return self._models.path(digest)

    def model_files(self, digest: str) -> dict[str, str]:
        """The files of a model: relative posix path → SHA-256."""
        return self._models.files(digest)

    def verify_model(self, digest: str) -> list[Finding]:
        """Every file of a model that is damaged, missing or unexpected."""
        return self._models.verify(digest)

    def put_dataset(self, name: str, spec: str, digest: str, size: int, event: Event, *more: Event) -> None:
        """Add a dataset as the newest of its name, together with its journal records.

        Nothing is written when the newest dataset of this name has the same spec and digest.
        """
        with self.database.writing() as connection:
            if catalog.add_dataset(connection, DatasetRow(name, spec, digest, size, event.when)):
                for each in (event, *more):
                    self.journal.write(connection, each)

    def datasets(self) -> list[DatasetRow]:
        """The newest dataset of every name, by name."""
        with self.database.reading() as connection:
            return catalog.all_datasets(connection)

    def dataset(self, name: str) -> DatasetRow:
        """The newest dataset of one name.

        Raises:
            NotFound: it does not exist; carries the closest names.
        """
        rows = {row.name: row for row in self.datasets()}
        if name not in rows:
            raise not_found("dataset", name, rows)
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
        """Store a decision as the next release of a model name, together with its journal record.

        The record (kind ``gated``) contains the digest of the release, so that the chain covers the whole release.

        Raises:
            NotFound: the model or a piece of evidence is not in the store.
        """
        registry.check_name("a model", name)
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
            NotFound: it does not exist; carries the closest names.
        """
        with self.database.reading() as connection:
            return registry.one_release(connection, name, number)

    def releases(self, name: str | None = None) -> list[Release]:
        """The releases of one model name or of all, newest first."""
        with self.database.reading() as connection:
            return registry.all_releases(connection, name)

    def alias(self, name: str, alias: str) -> Alias | None:
        """An alias with its release; None when it points at nothing."""
        with self.database.reading() as connection:
            state = registry.alias_state(connection, name, alias)
        return state if state.number != registry.NO_RELEASE else None

    def aliases(self, name: str | None = None) -> list[Alias]:
        """The aliases of one model name, or of all, that point at a release."""
        with self.database.reading() as connection:
            return registry.all_aliases(connection, name)

    def move_alias(self, name: str, alias: str, number: int, expected_generation: int, event: Event) -> Alias:
        """Move one alias by compare-and-swap, together with its journal record.

        Args:
            name: the model name.
            alias: ``live``, ``candidate``, ….
            number: the release to point at.
            expected_generation: the generation that the caller read; 0 when the alias did not exist.
            event: the journal record; the new release and generation are added to its details.

        Raises:
            Conflict: another process moved it first; nothing has changed.
            NotFound: the release does not exist.
        """
        return self.move_aliases(name, [AliasMove(alias, number, expected_generation)], event)[0]

    def move_aliases(
        self,
        name: str,
        moves: Sequence[AliasMove],
        event: Event,
        guard: Callable[[Connection], Tags] | None = None,
    ) -> list[Alias]:
        """Move several aliases of one model name and write one journal record, all or nothing.

        Args:
            name: the model name.
            moves: the aliases.
            event: the journal record; the new releases and generations are added to its details.
            guard: called in the transaction before anything moves; raises to prevent it, or returns further details.

        Raises:
            Conflict: another process moved one of them; nothing has changed.
            NotFound: the release does not exist.
        """
        with self.database.writing() as connection:
            details = dict(guard(connection)) if guard is not None else {}
            moved = registry.move(connection, name, moves)
            details |= {key: value for each in moved for key, value in move_details(each).items()}
            self.journal.write(connection, replace(event, details=Tags(event.details, **details)))
        self.journal.checkpoint(now())
        return moved

    def resolve(self, ref: str) -> ResolvedModel:
        """The model that ``icons@3``, ``icons@live``, ``icons`` (its live release) or a model digest names.

        Raises:
            NotFound: unknown name; carries the closest matches.
            InputError: the digest prefix is ambiguous.
        """
        models = self._models.digests()
        name, at, selector = ref.partition("@")
        with self.database.reading() as connection:
            if at or name in registry.release_names(connection):
                known = [short(each) for each in models]
                release = registry.resolve_release(connection, name, selector or "live", known)
                return ResolvedModel(release.model, release)
            try:
                return ResolvedModel(catalog.by_prefix("model", ref, models), None)
            except NotFound as error:
                raise registry.unknown_reference(
                    connection, ref, [short(each) for each in models], catalog.too_short(ref, models)
                ) from error

    def verify_registry(self, name: str) -> list[Finding]:
        """Every release and alias of one model name that differs from the journal."""
        return check_registry(self.database, self.journal, name)

    def _read_evidence(self, digest: str) -> Evidence:
        try:
            return decode(Evidence, json.loads(self.blobs.get(digest)))
        except (ConfigError, ValueError) as error:
            raise InputError(
                f"the evidence {short(digest)} was produced by a different version of Clerestory: {error}",
                "produce it again",
            ) from error


def _attached(evidence: Evidence) -> list[tuple[str, str]]:
    """The blobs that a piece of evidence refers to, by name."""
    rows = [("rows", evidence.rows)] if evidence.rows else []
    return rows + list(evidence.artifacts.items())
