"""The working folder of a run that can be resumed: checkpoint, log and exported models, for one process at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from clerestory.core.digest import digest
from clerestory.core.errors import Conflict
from clerestory.core.evidence import Subject
from clerestory.core.files import exclusive_lock
from clerestory.stages.train.distributed.ranks import SINGLE, Ranks
from clerestory.store import Store


@contextmanager
def run_folder(store: Store, kind: str, subject: Subject, what: str, ranks: Ranks = SINGLE) -> Iterator[Path]:
    """The folder of the run with this subject, removed when the block ends without an exception.

    Args:
        store: whose ``runs`` contain it.
        kind: of the evidence, which begins the folder's name.
        subject: equal subjects have the same folder.
        what: the run as the subject of a sentence, for the error.
        ranks: the processes of the run; the main one holds the lock for all of them.

    Raises:
        Conflict: another process has the run; names it, on every rank.
    """
    folder = store.runs / f"{kind}-{digest(subject)[:24]}"
    with ExitStack() as stack:
        conflict: Conflict | None = None
        if ranks.rank == 0:
            try:
                stack.enter_context(exclusive_lock(store.runs / f".{folder.name}.lock", what))
            except Conflict as error:
                conflict = error
        reason = ranks.broadcast((conflict.message, conflict.fix) if conflict else None)
        if reason is not None:
            raise conflict or Conflict(*reason)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        if ranks.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
