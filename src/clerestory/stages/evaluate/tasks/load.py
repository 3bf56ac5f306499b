"""Tasks from TOML files."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

from clerestory.core.codec import decode
from clerestory.core.errors import ConfigError, closest
from clerestory.stages.evaluate.tasks.task import Task

TASK_FILE = "task.toml"
LISTS = ("prompts", "metrics", "options", "labels", "groups")


def load_task(path: Path | str) -> Task:
    """Read a task; the path of its data becomes one relative to the working folder.

    Args:
        path: a TOML file, or a folder that holds a ``task.toml``.

    Raises:
        ConfigError: no such file, not TOML, an unknown key (with the closest known ones), or one that is missing.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        file = file / TASK_FILE
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        near = closest(file.name, [other.name for other in file.parent.glob("*.toml")]) if file.parent.is_dir() else ()
        raise ConfigError(
            f"the task {file} cannot be read: {error.strerror}", "give the path of a TOML file", near
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the task {file} is not UTF-8 text", "save it again as UTF-8") from error
    return read_task(text, str(file), file.parent)


def read_task(text: str, where: str, folder: Path) -> Task:
    """The task that a text spells out; ``folder`` is where its data is looked for.

    Raises:
        ConfigError: as ``load_task``.
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the task {where} is not valid TOML: {error}", "correct the file") from error
    for name in LISTS:
        if isinstance(given.get(name), str):
            given[name] = [given[name]]
    task = decode(Task, given, f"the task {where}")
    return dataclasses.replace(task, data=_located(task.data, folder))


def _located(data: str, folder: Path) -> str:
    """A path beside the task's file as one from the working folder; names of data sets stay as they are."""
    scheme, local = ("hf:", data.removeprefix("hf:")) if data.startswith("hf:") else ("", data)
    beside = folder / local
    if not local or Path(local).is_absolute() or local.startswith("~"):
        return data
    return f"{scheme}{beside}" if beside.exists() or local.startswith(".") else data
