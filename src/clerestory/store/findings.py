"""The finding codes of the store (``docs/reference/findings.md``) and the reasons that its findings carry."""

from __future__ import annotations

from enum import StrEnum

from clerestory.core.findings import FindingCode

RESTORE = "restore the store from a backup"


class StoreFault(StrEnum):
    """Why a check of the store failed; the ``reason`` of its findings."""

    CHECKPOINT_UNREADABLE = "checkpoint_unreadable"
    DATABASE_DAMAGED = "database_damaged"
    DIFFERENT_KEY = "different_key"
    DIGEST_MISMATCH = "digest_mismatch"
    HASH_MISMATCH = "hash_mismatch"
    HEAD_MISMATCH = "head_mismatch"
    INDEX_MISMATCH = "index_mismatch"
    INVALID_SIGNATURE = "invalid_signature"
    JOURNAL_UNREADABLE = "journal_unreadable"
    KEY_UNUSABLE = "key_unusable"
    MANIFEST_MISMATCH = "manifest_mismatch"
    RECORD_MISSING = "record_missing"
    RECORDS_TRUNCATED = "records_truncated"
    REGISTRY_MISMATCH = "registry_mismatch"
    TRIGGER_MISSING = "trigger_missing"


DAMAGED = FindingCode("CLR-S001", "error", "stored content is damaged", "fail", RESTORE)
MISSING = FindingCode("CLR-S002", "error", "stored content is missing", "fail", RESTORE)
UNEXPECTED_FILE = FindingCode(
    "CLR-S003", "error", "unexpected file in a model folder", "fail", "move it out of the store"
)
JOURNAL_BROKEN = FindingCode(
    "CLR-S004",
    "error",
    "journal does not match its hash chain or its signed checkpoints",
    "fail",
    "compare the journal and its signed checkpoints with a backup; do not trust this copy",
)
UNPROTECTED = FindingCode(
    "CLR-S005",
    "error",
    "the database no longer refuses changes of stored records",
    "fail",
    "find out who removed the triggers, then run: clerestory store migrate",
)
CODES = (DAMAGED, MISSING, UNEXPECTED_FILE, JOURNAL_BROKEN, UNPROTECTED)
