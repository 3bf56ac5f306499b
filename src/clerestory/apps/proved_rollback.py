"""A rollback that shows that it has worked: golden inputs before and after, and every server that answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from clerestory.apps.golden import replay_golden
from clerestory.apps.loading import open_stored, remote_host_of
from clerestory.core.release import Alias, Release
from clerestory.stages.release.promotion import check_rollback, rollback
from clerestory.store import Store
from clerestory.store.operations.golden_outputs import read_golden
from clerestory.store.operations.servers import ServerStatus, list_servers

WAIT_SECONDS = 60.0
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class RollbackProof:
    """What a rollback, or its rehearsal, has shown.

    Attributes:
        target: the release to go back to, such as ``icons@3``.
        live: the release that was live before.
        rehearsed: whether nothing was changed.
        replayed: whether the target answered the golden inputs as before, in this process, before anything moved.
        servers: the running servers that serve the target and have replayed the golden inputs with it.
        lagging: the running servers that do not; with their problem, if they state one.
        seconds: from the move of the alias until all of that was known.
    """

    target: str
    live: str
    rehearsed: bool
    replayed: bool
    servers: tuple[str, ...] = ()
    lagging: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def mitigated(self) -> bool:
        """Whether the problem is over: the target answers everywhere, as it did before."""
        return not self.rehearsed and self.replayed and not self.lagging


def rehearse_rollback(name: str, store: Store) -> RollbackProof:
    """Do everything that a rollback does, except for moving the alias.

    Raises:
        ClerestoryError: as ``rollback``; or the target does not answer the golden inputs as before.
    """
    target, live = check_rollback(name, store)
    replayed = replay_release(store, target)
    running = _running(store, name)
    resident = tuple(_where(each) for each in running if target.ref in each.resident)
    lagging = tuple(
        f"{_where(each)}: {target.ref} is not in its memory and would be loaded first"
        for each in running
        if target.ref not in each.resident
    )
    return RollbackProof(target.ref, f"{name}@{live.number}", True, replayed, resident, lagging)


def prove_rollback(
    name: str, store: Store, who: str = "", why: str = "", wait_s: float = WAIT_SECONDS
) -> RollbackProof:
    """Roll back, and wait until every running server serves the release and answers the golden inputs with it.

    Raises:
        ClerestoryError: as ``rollback``; or the target does not answer the golden inputs as before; nothing moved then.
    """
    target, live = check_rollback(name, store)
    replayed = replay_release(store, target)
    began = time.monotonic()
    alias = rollback(name, store, who, why)
    done, lagging = _wait(name, store, target, alias, began + wait_s)
    seconds = time.monotonic() - began
    if not done and not lagging:
        replay_release(store, target)
    return RollbackProof(target.ref, f"{name}@{live.number}", False, replayed, done, lagging, seconds)


def replay_release(store: Store, release: Release) -> bool:
    """Load a release in this process and replay the golden inputs with it; False for a model of another host.

    Raises:
        IntegrityError: it does not answer them as before.
    """
    if remote_host_of(store.model_folder(release.model)):
        return False
    replay_golden(store, release, open_stored(store, release.model, release.ref))
    return True


def _wait(
    name: str, store: Store, target: Release, alias: Alias, until: float, sleep: Callable[[float], None] = time.sleep
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    while True:
        running = _running(store, name)
        done = [each for each in running if (each.proved, each.generation) == (target.ref, alias.generation)]
        behind = [each for each in running if each not in done]
        if not behind or time.monotonic() >= until:
            lagging = tuple(
                f"{_where(each)}: serves {each.served or 'nothing'}{f'; {each.problem}' if each.problem else ''}"
                for each in behind
            )
            return tuple(_where(each) for each in done), lagging
        sleep(POLL_SECONDS)


def _running(store: Store, name: str) -> list[ServerStatus]:
    store.database.ensure_operations()
    with store.database.reading() as connection:
        return [each for each in list_servers(connection, name) if each.is_running()]


def _where(server: ServerStatus) -> str:
    return f"{server.host}:{server.process}"


def ensure_golden(store: Store, *releases: Release) -> None:
    """Replay the golden inputs with the releases whose answers are not stored yet.

    Raises:
        ClerestoryError: one of them cannot be loaded.
    """
    for each in releases:
        if read_golden(store, each.model) is None:
            replay_release(store, each)
