"""The store: one folder that keeps files, evidence, releases and the journal, and loses nothing when killed."""

from clerestory.store.catalog import DatasetRow
from clerestory.store.journal import Record
from clerestory.store.registry import Move, Resolved
from clerestory.store.registry_check import went_to
from clerestory.store.store import Store, open_store

__all__ = ["DatasetRow", "Move", "Record", "Resolved", "Store", "open_store", "went_to"]
