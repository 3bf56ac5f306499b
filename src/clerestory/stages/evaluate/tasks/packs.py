"""Benchmark packs: a task with its data, its licence and a baseline result, in one folder that can be verified.

A pack is ``task.toml``, ``data.parquet`` (with its sidecar file), ``README.md``, and ``pack.toml``, which contains the
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
from clerestory.core.digest import digest, digest_file
from clerestory.core.errors import ConfigError, Conflict, IntegrityError, NotFound, not_found
from clerestory.core.outputs import check_output_folder, output_folder
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import current_user, now
from clerestory.core.release import Event
from clerestory.core.sample import Dataset
from clerestory.data import open_data, save_parquet
from clerestory.data.parquet import sidecar_path
from clerestory.stages.evaluate.tasks.items import open_task_data
from clerestory.stages.evaluate.tasks.task import TASK_FILE, Baseline, Task, load_task
from clerestory.store import Store

PACK_FILE, DATA_FILE, README = "pack.toml", "data.parquet", "README.md"
SIDECAR_FILE = sidecar_path(Path(DATA_FILE)).name
FORMAT = 1
_DOWNLOAD_AGAIN = "download the pack again"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Pack:
    """The content of ``pack.toml``.

    Attributes:
        name, version: of the task.
        format: of the pack; 1.
        task, data: digests of the task and of its dataset.
        licences: SPDX expressions, at least one.
        clerestory: the version that exported it.
        files: SHA-256 of every other file.
        source: the origin of questions and images.
        baseline: a published or measured result to compare with.
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
        folder: to write to; it must not exist, or be empty.
        version: of Clerestory.
        progress: reports the progress.

    Raises:
        ConfigError: the task has no licence, or its name is not a valid folder name.
        DataError: its data cannot be opened.
        InputError: the folder is not empty, or cannot be written.
    """
    if not _NAME.fullmatch(task.name):
        raise ConfigError(
            f"the task name {task.name!r} cannot be that of a pack", "use letters, digits, dots, dashes and underscores"
        )
    check_output_folder(folder)
    data = open_task_data(task, progress)
    licences = _licences(task, data)
    with output_folder(folder) as temporary:
        return _write_pack(task, data, licences, temporary, version)


def _write_pack(task: Task, data: Dataset, licences: tuple[str, ...], folder: Path, version: str) -> Pack:
    named = Dataset(task.name, data.samples, data.read, digest=data.digest)
    save_parquet(named, folder / DATA_FILE)
    packed = dataclasses.replace(task, data=DATA_FILE)
    (folder / TASK_FILE).write_text(_toml(encode(packed)), encoding="utf-8")
    (folder / README).write_text(_readme(task, named, licences), encoding="utf-8")
    files = {name: digest_file(folder / name) for name in (TASK_FILE, DATA_FILE, SIDECAR_FILE, README)}
    pack = Pack(
        name=task.name,
        version=task.version,
        format=FORMAT,
        task=task.digest,
        data=data.digest,
        licences=licences,
        clerestory=version,
        files=Tags(files),
        source=task.source,
        baseline=task.baseline,
    )
    (folder / PACK_FILE).write_text(_toml(encode(pack)), encoding="utf-8")
    return pack


def verify_pack(folder: Path) -> Pack:
    """Check everything that a pack states: its files, its task, every image of its data, its licence.

    Raises:
        NotFound: the folder is not a pack.
        ConfigError: an unknown key, or no licence.
        IntegrityError: a file is missing, unexpected or changed; the file is named.
    """
    pack, task = _open_verified(folder)
    data = open_data(folder / DATA_FILE)
    recomputed = Dataset(data.name, data.samples, data.read)
    if recomputed.digest != pack.data:
        raise IntegrityError(f"the data of {folder} does not match the digest in {PACK_FILE}", _DOWNLOAD_AGAIN)
    for sample in recomputed:
        recomputed.read(sample)
    if task.digest != pack.task:
        raise IntegrityError(f"the task of {folder} does not match the digest in {PACK_FILE}", _DOWNLOAD_AGAIN)
    return pack


def open_pack(folder: Path) -> Task:
    """The task of a pack with verified files, ready to run.

    Raises:
        NotFound, ConfigError, IntegrityError: as ``verify_pack``.
    """
    return _open_verified(folder)[1]


def read_pack(folder: Path) -> Pack:
    """The content of ``pack.toml``; no other file is checked.

    Raises:
        NotFound: the folder has none.
        ConfigError: it cannot be read, has an unknown key or an invalid name, or names no licence.
    """
    file = folder / PACK_FILE
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise NotFound(f"there is no pack in {folder}", f"name a folder that contains {PACK_FILE}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}", _DOWNLOAD_AGAIN) from error
    pack = decode(Pack, content, str(file))
    if pack.format != FORMAT:
        raise ConfigError(f"{file} is of format {pack.format}", f"this version of Clerestory reads format {FORMAT}")
    if not _NAME.fullmatch(pack.name):  # it becomes the name of a folder
        raise ConfigError(
            f"the pack name {pack.name!r} is not valid", "use letters, digits, dots, dashes and underscores"
        )
    if not [licence for licence in pack.licences if licence.strip()]:
        raise ConfigError(f"the pack {pack.name!r} states no licence, so nobody may use it", "ask its author for one")
    return pack


def _open_verified(folder: Path) -> tuple[Pack, Task]:
    """A pack and its task, with the files checked against their digests."""
    pack = read_pack(folder)
    expected = {TASK_FILE, DATA_FILE, SIDECAR_FILE, README}
    if set(pack.files) != expected:
        first = sorted(set(pack.files) ^ expected)[0]
        raise ConfigError(
            f"{folder / PACK_FILE} does not list the files of a pack: {first!r}",
            f"it must list {', '.join(sorted(expected))}",
        )
    unexpected = {path.name for path in folder.iterdir()} - expected - {PACK_FILE}
    if unexpected:
        raise IntegrityError(f"{folder / min(unexpected)} is not a file of the pack", "remove it")
    for name, sha256 in pack.files.items():
        file = folder / name
        if not file.is_file() or file.is_symlink():
            raise IntegrityError(f"{file} is missing", _DOWNLOAD_AGAIN)
        if digest_file(file) != sha256:
            raise IntegrityError(f"{file} has changed since the pack was exported", _DOWNLOAD_AGAIN)
    task = load_task(folder)
    if Path(task.data).name != DATA_FILE or Path(task.data).parent != folder:
        raise ConfigError(f"the task of {folder} does not read the data of the pack", f'set data = "{DATA_FILE}"')
    if (task.name, task.version) != (pack.name, pack.version):
        raise ConfigError(
            f"the pack {pack.name!r} (version {pack.version}) contains the task {task.name!r} (version {task.version})",
            "export it again",
        )
    return pack, task


def _licences(task: Task, data: Dataset) -> tuple[str, ...]:
    without = next((sample.id for sample in data if not sample.licence), "")
    if without and not task.licence:
        raise ConfigError(
            f"the task {task.name!r} states no licence, and the sample {without!r} has none, so it cannot be shared",
            'add its licence to the task, such as licence = "CC-BY-4.0"',
        )
    return tuple(sorted({task.licence, *(sample.licence for sample in data)} - {""}))


def _readme(task: Task, data: Dataset, licences: tuple[str, ...]) -> str:
    lines = [
        f"# {task.name}",
        "",
        task.description or f"A benchmark of kind {task.kind}.",
        "",
        f"- version {task.version}, {len(data):,} rows, data digest `{data.digest}`",
        f"- licence: {', '.join(licences)}",
        f"- source: {task.source or 'not stated'}",
    ]
    if task.baseline:
        b = task.baseline
        lines.append(f"- baseline: {b.metric} {b.value:g} (95 % interval {b.low:g} to {b.high:g}) for `{b.model}`")
    lines += [
        "",
        "Verify and run it with Clerestory:",
        "",
        "```",
        "clerestory pack verify .",
        "clerestory evaluate MODEL --task .",
        "```",
        "",
    ]
    return "\n".join(lines)


def _toml(table: Mapping[str, Any], name: str = "") -> str:
    """A table as TOML: plain values first, then tables; empty values are left out."""
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
    # A JSON string, number or boolean is also one of TOML.
    return json.dumps(value, ensure_ascii=False)


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
        raise not_found("task", ref, known, "name a task file (mine.toml), a folder, or a pack")
    return open_pack(_pack_folder(store, ref))


def add_pack(store: Store, folder: Path, who: str = "", why: str = "") -> Pack:
    """Verify a pack and copy it into the store, with a journal record.

    Raises:
        NotFound, ConfigError, IntegrityError: as ``verify_pack``; nothing is added then.
        Conflict: the store has another pack of this name and version.
    """
    pack = verify_pack(folder)
    target = _packs_folder(store) / f"{pack.name}@{pack.version}"
    if target.is_dir():
        if read_pack(target).digest != pack.digest:
            raise Conflict(
                f"the store already has another pack {pack.name} of version {pack.version}",
                f"raise the version of the new one, or delete {target}",
            )
        return pack
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
    try:
        for name in (PACK_FILE, *pack.files):
            shutil.copyfile(folder / name, temporary / name)
        verify_pack(temporary)
        temporary.chmod(0o755)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    details = Tags(digest=pack.digest, data=pack.data, version=str(pack.version))
    store.journal.append(
        Event("pack_added", pack.name, who or current_user(), why or f"added from {folder}", now(), details)
    )
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
    return store.files / "packs"
