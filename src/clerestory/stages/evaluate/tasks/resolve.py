"""Tasks by what people call them: a file, a folder, or the name of a pack that was brought in."""

from __future__ import annotations

from pathlib import Path

from clerestory.core.errors import not_found
from clerestory.stages.evaluate.tasks.load import load_task
from clerestory.stages.evaluate.tasks.packs import PACK_FILE, open_pack, pack_folder, pack_names
from clerestory.stages.evaluate.tasks.task import Task
from clerestory.store import Store


def find_task(ref: str, store: Store) -> Task:
    """The task of a TOML file, of a folder (verified where it is a pack), or of a pack in the store.

    Raises:
        ConfigError: the file cannot be read as a task.
        IntegrityError: a file of the pack is not what it was.
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
    return open_pack(pack_folder(store, ref))
