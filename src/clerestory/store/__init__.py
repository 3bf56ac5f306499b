"""The store: one folder with files, evidence, releases and the journal; a killed process loses nothing."""

from clerestory.store.catalog import DatasetRow
from clerestory.store.copying import CopiedStore, copy_store
from clerestory.store.journal import JournalRecord
from clerestory.store.registry import AliasMove, ResolvedModel
from clerestory.store.registry_check import alias_target, live_events
from clerestory.store.store import Store, migrate_store, open_store

__all__ = [
    "DatasetRow",
    "AliasMove",
    "CopiedStore",
    "JournalRecord",
    "ResolvedModel",
    "Store",
    "alias_target",
    "copy_store",
    "live_events",
    "migrate_store",
    "open_store",
]
