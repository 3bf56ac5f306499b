"""Datasets registered by name. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from itertools import count
from shlex import quote

from clerestory.core.codec import Tags
from clerestory.core.errors import DataError, InputError, NotWritable
from clerestory.core.evidence import Finding
from clerestory.core.extensions import names
from clerestory.core.files import expand_user, file_identity
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import current_user, now
from clerestory.core.release import Event
from clerestory.core.sample import Dataset, Sample
from clerestory.core.text import is_printable_name
from clerestory.core.units import plural
from clerestory.data import DataSource, locate, open_data
from clerestory.data.sources import NEW_SPLITS, check_exists, in_language
from clerestory.store import Store

MAX_SHOWN = 3  # findings of each kind that are shown when a dataset is opened


def add_dataset(
    store: Store,
    source: str,
    name: str = "",
    *,
    who: str = "",
    why: str = "",
    replace: bool = False,
    new_splits: bool = False,
    language: str = "",
    progress: Progress = QUIET,
) -> Dataset:
    """Open a dataset and register it under a name, with a journal record if it is new or has changed.

    Args:
        store: where to register it.
        source: anything that ``open_data`` opens, or the name of a registered dataset.
        name: its name; by default that of the file or folder.
        who: the person; by default the login name.
        why: the reason, for the journal.
        replace: replace a dataset of this name that comes from another place.
        new_splits: divide the samples anew, in place of the splits that the source assigns.
        language: of the captions for which the data names none, such as ``de``; English by default.
        progress: reports rendering and reading.

    Returns:
        The dataset, with the name under which it is registered.

    Raises:
        DataError: no sample is readable.
        InputError: the name is not printable, is that of a built-in dataset, or of a dataset from another place with
            other content.
    """
    if name and not is_printable_name(name):
        raise InputError(
            f"{name!r} cannot be the name of a dataset",
            "use up to 100 characters without slashes; the first one must be a letter or a digit",
        )
    rows = store.datasets()
    place = locate(source)
    place = next((DataSource(row.spec, row.name) for row in rows if row.name == source == place.spec), place)
    if new_splits and not place.spec.startswith(NEW_SPLITS):
        place = DataSource(NEW_SPLITS + place.spec, place.name)
    if language:
        place = DataSource(in_language(place.spec, language), place.name)
    if not name and place.name != place.spec and place.name in names("data"):
        raise InputError(
            f"{place.name!r} is the name of a built-in dataset", f"choose another name with --name for {place.spec}"
        )
    name = name or place.name
    if place.spec and not name:  # the root of a file system
        raise InputError(f"{place.spec} has no name of its own", "name the dataset with --name")
    registered = next((row for row in rows if row.name == name), None)
    data = open_data(place.spec, progress)
    is_same_place = registered is not None and in_language(registered.spec, "") == in_language(place.spec, "")
    if registered is not None and registered.digest != data.digest and not is_same_place and not replace:
        raise _name_taken(name, registered.spec)
    if registered is None or (registered.spec, registered.digest) != (place.spec, data.digest):
        details = Tags(digest=data.digest, samples=str(len(data)), source=place.spec)
        event = Event("data_added", name, who or current_user(), why or f"added from {source}", now(), details)
        store.put_dataset(name, place.spec, data.digest, len(data), event)
    data.name = name
    return data


def _free_name(name: str, taken: Container[str]) -> str:
    """The name, or ``name-2``, ``name-3``, … if it is taken: nobody named this source."""
    numbered = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(candidate for candidate in numbered if candidate not in taken)


def _name_taken(name: str, spec: str) -> InputError:
    return InputError(
        f"the name {name!r} belongs to the dataset from {spec}",
        "choose another name with --name, or replace that dataset with --force",
    )


def check_dataset(store: Store, name: str) -> None:
    """Check at once, without opening it, that a dataset or another source exists: before anything that takes long.

    Raises:
        DataError: it does not exist; carries the closest names, those of registered datasets too.
    """
    registered = [row.name for row in store.datasets()]
    if name not in registered:
        check_exists(name, registered)


def load_dataset(store: Store, name: str, progress: Progress = QUIET) -> Dataset:
    """A registered dataset, opened and checked against its digest; any other source is added first, if it can be.

    Raises:
        DataError: the content has changed since it was registered.
    """
    rows = store.datasets()
    for row in rows:
        if row.name == name:
            data = open_data(row.spec, progress)
            if data.digest != row.digest:
                raise DataError(
                    f"the content of the dataset {name!r} has changed since it was added",
                    f"accept the change with: clerestory data add {quote(row.spec)} --name {quote(name)}",
                )
            data.name = name
            doubtful = sum(finding.severity != "info" for finding in data.findings)
            if doubtful:  # each was printed when the dataset was added
                warnings = plural(doubtful, "warning")
                progress.write_line(f"{name} has {warnings} about its data: clerestory data show {quote(name)}")
            return data
    check_dataset(store, name)
    place = locate(name)
    spec = place.spec
    if not is_printable_name(place.name) and not expand_user(spec).exists():
        open_data(spec)  # the error says that it does not exist, which a check of its name would hide
    known = next((row.name for row in rows if row.spec == spec), "")
    taken = {row.name for row in rows} | ({*names("data")} - {spec})
    try:
        data = add_dataset(store, name, known or _free_name(place.name, taken), progress=progress)
    except NotWritable:  # a full or read-only store is only read
        data = open_data(spec, progress)
    return _with_findings_shown(data, name, progress)


def view_dataset(store: Store, name: str, progress: Progress = QUIET) -> Dataset:
    """A registered dataset as ``load_dataset`` gives it; any other source is opened as it is now, and not added."""
    if any(row.name == name for row in store.datasets()):
        return load_dataset(store, name, progress)
    data = open_data(locate(name).spec, progress)
    return _with_findings_shown(data, name, progress)


def evaluated_data(store: Store, model: str) -> str:
    """The name of the data of the newest evaluation of a model; empty if the store has no name for any."""
    names_of = {row.digest: row.name for row in store.datasets()}
    used = (evidence.subject.data for evidence in store.find_evidence("evaluate", model=model))
    return next((names_of[digest] for digest in used if digest in names_of), "")


@dataclass(frozen=True, slots=True)
class DuplicateSample:
    """One of the samples that have the same image.

    Attributes:
        sample: the sample.
        is_link: whether its file is on the disk only once, as that of an earlier sample of the group: a link, or a hard
            link. Removing it frees no space.
    """

    sample: Sample
    is_link: bool


def duplicate_images(data: Dataset) -> list[list[DuplicateSample]]:
    """The samples that have the same image, byte for byte, in groups of two or more, in the order of the data.

    In a group, links come after the files.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in data:
        groups.setdefault(sample.image, []).append(sample)
    return [_links_last(data, group) for group in groups.values() if len(group) > 1]


def _links_last(data: Dataset, group: list[Sample]) -> list[DuplicateSample]:
    """The samples of a group, first those whose files are different ones on the disk."""
    seen: set[tuple[int, int]] = set()
    marked = []
    # Of a file and the links to it, the file counts as the image, wherever it is in the order.
    for sample in sorted(group, key=lambda one: (file := data.file_of(one)) is not None and file.is_symlink()):
        identity = file_identity(data.file_of(sample))
        marked.append(DuplicateSample(sample, identity in seen))
        seen |= {identity} if identity is not None else set()
    return sorted(marked, key=lambda one: one.is_link)


def _with_findings_shown(data: Dataset, name: str, progress: Progress) -> Dataset:
    show_findings(data.findings, name, progress)
    return data


def show_findings(findings: Iterable[Finding], name: str, progress: Progress) -> None:
    """Report what was left out or is doubtful, so that nobody has to ask for it."""
    by_code: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.severity != "info":
            by_code.setdefault(finding.code, []).append(finding)
    for code, found in sorted(by_code.items()):
        for finding in found[:MAX_SHOWN]:
            progress.write_line(finding.line())
        if len(found) > MAX_SHOWN:
            progress.write_line(f"{code} {len(found) - MAX_SHOWN} more: clerestory data show {quote(name)}")
