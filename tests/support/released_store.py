"""A store with releases of tiny models that were never evaluated: it is made in seconds."""

from __future__ import annotations

from pathlib import Path

from tests.support.tiny_model import make_tiny_model

from clerestory.core.digest import canonical
from clerestory.core.release import Decision, Policy, Release
from clerestory.stages.release import promote
from clerestory.store import Store


def add_release(store: Store, folder: Path, verdict: str = "ship", name: str = "icons") -> Release:
    """Register the next release of a model name with a decision of this verdict; ``folder`` is a model."""
    model = store.put_model(folder)
    policy = store.blobs.put(canonical(Policy("tests", ())))
    return store.add_release(name, model, [], Decision(verdict, "tests", policy, model, ()), "ada", "a test")  # type: ignore[arg-type]  # a literal


def released_store(store: Store, folder: Path, count: int) -> list[Release]:
    """Add ``count`` releases of different models; the first one is live."""
    releases = [add_release(store, make_tiny_model(folder / str(seed), seed=seed)) for seed in range(count)]
    promote(releases[0].ref, store, "grace", "the first")
    return releases


def edit_alias(store: Store, number: int, name: str = "icons", alias: str = "live") -> None:
    """Change the row of an alias in the database, past Clerestory, as somebody with a SQL client would."""
    with store.database.writing() as connection:
        statement = "UPDATE aliases SET number = ? WHERE name = ? AND alias = ?"
        connection.exec_driver_sql(statement, (number, name, alias))
