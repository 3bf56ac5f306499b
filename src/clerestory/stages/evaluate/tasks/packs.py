"""Benchmark packs: a task with its data, its licence and a result to compare with, in one folder that can be checked.

A pack is ``task.toml``, ``data.parquet`` (with its side file), ``README.md``, and ``pack.toml``, which holds the
SHA-256 of the others, the digests of task and data, and the licences. The same task and data give the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clerestory.core.codec import Tags, decode, encode
from clerestory.core.digest import digest, digest_bytes, digest_file
from clerestory.core.errors import ConfigError, Conflict, IntegrityError, NotFound, not_found
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import now, person
from clerestory.core.release import Event
from clerestory.core.sample import Dataset
from clerestory.data import open_data, save_parquet
from clerestory.data.parquet import sidecar_path
from clerestory.stages.evaluate.tasks.items import open_task_data
from clerestory.stages.evaluate.tasks.load import TASK_FILE, load_task
from clerestory.stages.evaluate.tasks.task import Baseline, Task
from clerestory.store import Store

PACK_FILE, DATA_FILE, README = "pack.toml", "data.parquet", "README.md"
SIDE_FILE = sidecar_path(Path(DATA_FILE)).name
FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Pack:
    """What ``pack.toml`` says.

    Attributes:
        name, version: of the task.
        format: of the pack; 1.
        task, data: digests of the task and of its data set.
        licences: SPDX expressions, at least one.
        source: where questions and pictures come from.
        clerestory: the version that made it.
        files: SHA-256 of every other file.
        baseline: a result to compare with.
    """

    name: str
    version: int
    format: int
    task: str
    data: str
    licences: tuple[str, ...]
    clerestory: str
    files: Tags = field(default_factory=Tags)
    source: str = ""
    baseline: Baseline | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the files' digests."""
        return digest(self.files)


def export_pack(task: Task, folder: Path, version: str, progress: Progress = QUIET) -> Pack:
    """Write a task and its data as a pack.

    Args:
        task: the task, whose data is opened and copied.
        folder: where to; it must not exist, or be empty.
        version: of Clerestory.
        progress: told about writing.

    Raises:
        ConfigError: the task has no licence, or a name that no folder can have.
        DataError: its data cannot be opened.
        Conflict: something is in the folder already.
    """
    if not _NAME.fullmatch(task.name):
        raise ConfigError(
            f"the task name {task.name!r} cannot be that of a pack", "use letters, digits, dots, dashes and underscores"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} is there already", "give a new folder")
    data = open_task_data(task, progress)
    licences = _licences(task, data)
    folder.mkdir(parents=True, exist_ok=True)
    named = Dataset(task.name, data.samples, data.read, digest=data.digest)
    save_parquet(named, folder / DATA_FILE)
    inside = dataclasses.replace(task, data=DATA_FILE)
    (folder / TASK_FILE).write_text(_toml(encode(inside)), encoding="utf-8")
    (folder / README).write_text(_readme(task, named, licences), encoding="utf-8")
    files = {name: digest_file(folder / name) for name in (TASK_FILE, DATA_FILE, SIDE_FILE, README)}
    pack = Pack(
        task.name,
        task.version,
        FORMAT,
        task.digest,
        data.digest,
        licences,
        version,
        Tags(files),
        task.source,
        task.baseline,
    )
    (folder / PACK_FILE).write_text(_toml(encode(pack)), encoding="utf-8")
    return pack


def verify_pack(folder: Path) -> Pack:
    """Check everything a pack says of itself: its files, its task, its data to the last picture, its licence.

    Raises:
        NotFound: there is no pack.
        ConfigError: an unknown key, or no licence.
        IntegrityError: a file is missing, unexpected or not what it was; the file is named.
    """
    pack, task = _checked(folder)
    data = open_data(folder / DATA_FILE)
    again = Dataset(data.name, data.samples, data.read)
    if again.digest != pack.data:
        raise IntegrityError(f"the data of {folder} has another digest than {PACK_FILE} says", "get the pack again")
    for sample in again:
        if digest_bytes(again.read(sample)) != sample.image:
            raise IntegrityError(
                f"the picture {sample.id} of {folder / DATA_FILE} is not what it was", "get the pack again"
            )
    if task.digest != pack.task:
        raise IntegrityError(f"the task of {folder} has another digest than {PACK_FILE} says", "get the pack again")
    return pack


def open_pack(folder: Path) -> Task:
    """The task of a pack, whose files have been checked, ready to run.

    Raises:
        NotFound, ConfigError, IntegrityError: as ``verify_pack``.
    """
    return _checked(folder)[1]


def add_pack(store: Store, folder: Path, who: str = "", why: str = "") -> Pack:
    """Verify a pack and copy it into the store, with a journal record.

    Raises:
        NotFound, ConfigError, IntegrityError: as ``verify_pack``; nothing is brought in then.
        Conflict: another pack of this name and version is there.
    """
    pack = verify_pack(folder)
    place = _shelf(store) / f"{pack.name}@{pack.version}"
    if place.is_dir():
        if read_pack(place).digest != pack.digest:
            raise Conflict(
                f"another pack {pack.name} of version {pack.version} is there already",
                "raise the version of the new one, or delete " + str(place),
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
    store.journal.append(
        Event("pack_added", pack.name, who or person(), why or f"brought in from {folder}", now(), details)
    )
    return pack


def packs(store: Store) -> list[Pack]:
    """The packs in the store, by name and version."""
    shelf = _shelf(store)
    places = [place for place in shelf.iterdir() if not place.name.startswith(".")] if shelf.is_dir() else []
    return sorted((read_pack(place) for place in places), key=lambda pack: (pack.name, pack.version))


def pack_names(store: Store) -> list[str]:
    """What a pack can be called: its name (the newest version), or ``name@version``."""
    known = packs(store)
    return sorted({pack.name for pack in known} | {f"{pack.name}@{pack.version}" for pack in known})


def pack_folder(store: Store, ref: str) -> Path:
    """Where a pack of the store is: ``name@version``, or the newest of a name.

    Raises:
        NotFound: there is none.
    """
    fits = [pack for pack in packs(store) if ref in (pack.name, f"{pack.name}@{pack.version}")]
    if not fits:
        raise not_found("pack", ref, pack_names(store))
    newest = max(fits, key=lambda pack: pack.version)
    return _shelf(store) / f"{newest.name}@{newest.version}"


def read_pack(folder: Path) -> Pack:
    """What ``pack.toml`` says, without checking any other file.

    Raises:
        NotFound: there is none.
        ConfigError: it cannot be read, has an unknown key, or names no licence.
    """
    file = folder / PACK_FILE
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise NotFound(f"there is no pack in {folder}", f"give a folder that holds {PACK_FILE}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}", "get the pack again") from error
    pack = decode(Pack, given, str(file))
    if pack.format != FORMAT:
        raise ConfigError(f"{file} is of format {pack.format}", f"this version of Clerestory reads format {FORMAT}")
    if not [licence for licence in pack.licences if licence.strip()]:
        raise ConfigError(
            f"the pack {pack.name!r} states no licence, so nobody may use it", "ask whoever made it to state one"
        )
    return pack


def _checked(folder: Path) -> tuple[Pack, Task]:
    pack = read_pack(folder)
    expected = {TASK_FILE, DATA_FILE, SIDE_FILE, README}
    if set(pack.files) != expected:
        odd = sorted(set(pack.files) ^ expected)[0]
        raise ConfigError(f"{folder / PACK_FILE} is wrong about the file {odd!r}", f"it lists {', '.join(expected)}")
    unexpected = {path.name for path in folder.iterdir()} - expected - {PACK_FILE}
    if unexpected:
        raise IntegrityError(f"{folder / min(unexpected)} does not belong to the pack", "remove it")
    for name, sha256 in pack.files.items():
        file = folder / name
        if not file.is_file() or file.is_symlink():
            raise IntegrityError(f"{file} is missing", "get the pack again")
        if digest_file(file) != sha256:
            raise IntegrityError(f"{file} is not what it was when the pack was made", "get the pack again")
    task = load_task(folder)
    if Path(task.data).name != DATA_FILE or Path(task.data).parent != folder:
        raise ConfigError(f"the task of {folder} reads other data than its own", f'set data = "{DATA_FILE}"')
    if (task.name, task.version) != (pack.name, pack.version):
        raise ConfigError(
            f"the pack {pack.name!r} (version {pack.version}) holds the task {task.name!r} (version {task.version})",
            "export it again",
        )
    return pack, task


def _licences(task: Task, data: Dataset) -> tuple[str, ...]:
    without = next((sample.id for sample in data if not sample.licence), "")
    if without and not task.licence:
        raise ConfigError(
            f"the task {task.name!r} states no licence, and {without!r} has none of its own, so it cannot be shared",
            'add licence = "CC-BY-4.0" (or what holds) to the task',
        )
    return tuple(sorted({task.licence, *(sample.licence for sample in data)} - {""}))


def _shelf(store: Store) -> Path:
    return store.home / "packs"


def _readme(task: Task, data: Dataset, licences: tuple[str, ...]) -> str:
    lines = [
        f"# {task.name}",
        "",
        task.about or f"A benchmark of kind {task.kind}.",
        "",
        f"- version {task.version}, {len(data):,} rows, data digest `{data.digest}`",
        f"- licence: {', '.join(licences)}",
        f"- source: {task.source or 'not stated'}",
    ]
    if task.baseline:
        b = task.baseline
        lines.append(f"- expected: {b.metric} {b.value:g} (95 % interval {b.low:g} to {b.high:g}) for `{b.model}`")
    lines += [
        "",
        "Check and run it with Clerestory:",
        "",
        "```",
        "clerestory pack verify .",
        "clerestory evaluate --task .",
        "```",
        "",
    ]
    return "\n".join(lines)


def _toml(table: Mapping[str, Any], name: str = "") -> str:
    """A table as TOML: plain values first, tables behind them, nothing that is empty."""
    plain = {key: value for key, value in table.items() if not isinstance(value, dict) and not _empty(value)}
    lines = [f"{_key(key)} = {_value(value)}\n" for key, value in plain.items()]
    tables = [_toml(value, _key(key)) for key, value in table.items() if isinstance(value, dict) and value]
    return (f"\n[{name}]\n" if name else "") + "".join(lines + tables)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _empty(value: Any) -> bool:
    return value is None or value in ("", [])


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    # A JSON string, number or truth value is one of TOML too.
    return json.dumps(value, ensure_ascii=False)
