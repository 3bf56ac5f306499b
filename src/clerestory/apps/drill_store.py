"""The store of a drill: a copy of the user's store, or a new one with the starter; never the original."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

from sqlalchemy import delete

from clerestory.core.digest import canonical
from clerestory.core.errors import CapabilityError, IntegrityError, NotFound
from clerestory.core.progress import QUIET, Progress
from clerestory.core.release import Decision, Policy
from clerestory.models.starter import starter_folder
from clerestory.stages.release import promote
from clerestory.stages.release.promotion import change_canary
from clerestory.store import Store, open_store
from clerestory.store.copying import copy_store
from clerestory.store.operations.rollouts import list_rollouts
from clerestory.store.operations.schema import servers

NAME = "drill"  # of the model in a new store
LIVE = "live"


def live_name(store: Store, name: str = "") -> str:
    """The model name whose live release a drill uses: the named one, else the first one; empty if none is live.

    Raises:
        NotFound: the named one has no live release.
    """
    names = sorted(alias.name for alias in store.aliases() if alias.alias == LIVE)
    if name and name not in names:
        raise NotFound(f"no release of {name} is live", f"live are: {', '.join(names) or 'none'}")
    return name or (names[0] if names else "")


def copy_for_drill(source: Store | None, name: str, home: Path, progress: Progress = QUIET) -> tuple[str, str]:
    """Make the store of a drill in a new folder.

    Args:
        source: the store to copy if it has a live release; it is only read.
        name: the model name; the first with a live release if empty.
        home: the new folder.
        progress: reports the files.

    Returns:
        The model name, and the reference of its live release.

    Raises:
        NotFound: the model name has no live release.
        IntegrityError: the copy is not what the digests say.
    """
    url = f"sqlite:///{home / 'store.db'}"
    chosen = live_name(source, name) if source is not None else ""
    if source is not None and chosen:
        copied = copy_store(source, home, url, progress)
        if copied.findings:
            first = copied.findings[0]
            raise IntegrityError(f"the store has a damaged file or record: {first.message}", first.fix)
        with open_store(home, url) as store:
            _forget_service(store, chosen)
            alias = store.alias(chosen, LIVE)
            assert alias is not None
            return chosen, f"{chosen}@{alias.number}"
    with open_store(home, url) as store:
        ref = add_drill_release(store, NAME, starter_folder())
        promote(ref, store, NAME, "the release before the drill")
    return NAME, ref


def _forget_service(store: Store, name: str) -> None:
    """In a copy: no server of the original runs there, and its rollout does not go on."""
    store.database.ensure_operations()
    with store.database.writing() as connection:
        connection.execute(delete(servers))
    with store.database.reading() as connection:
        active = any(each.is_active for each in list_rollouts(connection, name))
    if active:
        change_canary(name, store, "abort", NAME, "a drill in a copy of the store")


def add_drill_release(store: Store, name: str, folder: Path) -> str:
    """A release of a model folder that may ship, without any evidence; only for the throw-away store of a drill."""
    model = store.put_model(folder)
    policy = store.blobs.put(canonical(Policy(name, ())))
    decision = Decision("ship", name, policy, model, ())
    return store.add_release(name, model, [], decision, NAME, "a release of the drill").ref


def live_folder(store: Store, ref: str) -> Path:
    """The model folder of a release."""
    release = store.resolve(ref).release
    assert release is not None
    return store.model_folder(release.model)


def with_zero_weights(folder: Path, target: Path) -> Path:
    """A copy of a model folder in which every weight is zero, so that every embedding has length zero.

    Raises:
        CapabilityError: the model has no weights in safetensors files.
    """
    shutil.copytree(folder, target)
    files = sorted(target.rglob("*.safetensors"))
    if not files:
        raise CapabilityError("the drill bad-model needs weights in safetensors files", "choose another drill")
    for file in files:
        file.chmod(0o644)
        with file.open("r+b") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
            for name, tensor in header.items():
                if name == "__metadata__" or not tensor["dtype"].startswith(("F", "BF")):
                    continue
                begin, end = tensor["data_offsets"]
                stream.seek(8 + length + begin)
                stream.write(bytes(end - begin))
    return target
