"""Tasks by name: a file, a folder, or a pack that was added to the store."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from clerestory.core.codec import Tags
from clerestory.core.errors import Conflict, not_found
from clerestory.core.provenance import now, person
from clerestory.core.release import Event
from clerestory.stages.evaluate.tasks.packs import PACK_FILE, Pack, open_pack, read_pack, verify_pack
from clerestory.stages.evaluate.tasks.task import Task, load_task
from clerestory.store import Store


def find_task(ref: str, store: Store) -> Task:
    """The task of a TOML file, of a folder (verified if it is a pack), or of a pack in the store.

    Raises:
        ConfigError: the file cannot be read as a task.
        IntegrityError: a file of the pack has changed.
        NotFound: there is no such file, folder or pack.
    """
    path = Path(ref).expanduser()
    if path.is_dir():
        return open_pack(path) if (path / PACK_FILE).is_file() else load_task(path)
    if path.is_file() or path.suffix == ".toml":
        return load_task(path)
    known = pack_names(store)
    if ref not in known:
        raise not_found("task", ref, known, "give a task file (mine.toml), a folder, or the name of a pack")
    return open_pack(_pack_folder(store, ref))


def add_pack(store: Store, folder: Path, who: str = "", why: str = "") -> Pack:
    """Verify a pack and copy it into the store, with a journal record.

    Raises:
        NotFound, ConfigError, IntegrityError: as ``verify_pack``; nothing is added then.
        Conflict: the store has another pack of this name and version.
    """
    pack = verify_pack(folder)
    place = _packs_folder(store) / f"{pack.name}@{pack.version}"
    if place.is_dir():
        if read_pack(place).digest != pack.digest:
            raise Conflict(
                f"the store already has another pack {pack.name} of version {pack.version}",
                f"raise the version of the new one, or delete {place}",
            )
        return pack
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=".new-"))
    try:
        for name in (PACK_FILE, *pack.files):
            shutil.copyfile(folder / name, temporary / name)
        verify_pack(temporary)
        temporary.chmod(0o755)
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    details = Tags(digest=pack.digest, data=pack.data, version=str(pack.version))
    store.journal.append(Event("pack_added", pack.name, who or person(), why or f"added from {folder}", now(), details))
    return pack


def installed_packs(store: Store) -> list[Pack]:
    """The packs in the store, by name and version."""
    parent = _packs_folder(store)
    folders = [path for path in parent.iterdir() if not path.name.startswith(".")] if parent.is_dir() else []
    return sorted((read_pack(folder) for folder in folders), key=lambda pack: (pack.name, pack.version))


def pack_names(store: Store) -> list[str]:
    """The references of the packs in the store: a name (its newest version), or ``name@version``."""
    packs = installed_packs(store)
    return sorted({pack.name for pack in packs} | {f"{pack.name}@{pack.version}" for pack in packs})


def _pack_folder(store: Store, ref: str) -> Path:
    """The folder of a pack in the store: of ``name@version``, or of the newest version of a name.

    Raises:
        NotFound: there is no such pack.
    """
    matching = [pack for pack in installed_packs(store) if ref in (pack.name, f"{pack.name}@{pack.version}")]
    if not matching:
        raise not_found("pack", ref, pack_names(store))
    newest = max(matching, key=lambda pack: pack.version)
    return _packs_folder(store) / f"{newest.name}@{newest.version}"


def _packs_folder(store: Store) -> Path:
    return store.home / "packs"
