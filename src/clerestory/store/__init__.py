"""The store: one folder with files, evidence, releases and the journal; a killed process loses nothing."""

from clerestory.store.catalog import DatasetRow
from clerestory.store.journal import JournalRecord
from clerestory.store.registry import AliasMove, ResolvedModel
from clerestory.store.registry_check import alias_target
from clerestory.store.store import Store, open_store

__all__ = ["DatasetRow", "AliasMove", "JournalRecord", "ResolvedModel", "Store", "open_store", "alias_target"]
