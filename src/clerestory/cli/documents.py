"""``clerestory data sheet``, ``data croissant``, ``release bom``: documents in the formats of others."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from clerestory.cli.output import PLAIN, Common
from clerestory.core.errors import InputError
from clerestory.core.files import make_folder
from clerestory.core.outputs import check_output, write_output
from clerestory.core.units import plural

if TYPE_CHECKING:
    from clerestory.apps.data_documents.record import DatasetRecord
    from clerestory.core.sample import Dataset


def sheet_(
    data: Annotated[str, Parameter(name="--data")] = "icons",
    /,
    *,
    statements: Path | None = None,
    out: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Write a data sheet (Datasheets for Datasets): sizes, balance, quality, personal data, licences, as measured.

    What only the owner of the data can say (why it was made, how it may be used) is read from --statements, and marked.

    Args:
        data: The name of a dataset, or any source that "data add" accepts.
        statements: A TOML file with texts for motivation, collection, preprocessing, uses, distribution, maintenance.
        out: The file to write (default: the name of the dataset, such as icons-data-sheet.md).
        force: Overwrite an existing file.
    """
    from clerestory.apps.data_documents.sheet import DataStatements, data_sheet, open_questions
    from clerestory.cli.settings import read_settings

    said = read_settings(DataStatements, statements, {}, ())
    _, record = _record(data, common)
    target = out or Path(f"{_file_name(record.summary.name)}-data-sheet.md")
    check_output(target, force)
    write_output(target, data_sheet(record, said).encode(), force)
    missing = open_questions(said)
    common.out.result({"file": str(target), "open_questions": missing}, f"wrote {target}")
    if record.audit is None:
        common.out.next(f"clerestory data audit {quote(data)}")
    elif missing:
        questions = f"{plural(len(missing), 'question')} for the owner of the data: {', '.join(missing)}"
        common.out.write_line(f"notice: {questions}; answer them in a TOML file, --statements FILE")


def croissant_(
    data: Annotated[str, Parameter(name="--data")] = "icons",
    /,
    *,
    out: Path | None = None,
    version: Literal["1.0", "1.1"] = "1.0",
    url: str = "",
    creator: str = "",
    with_personal_data: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Write Croissant metadata with the RAI vocabulary, and two tables: samples and captions. Images are not copied.

    Args:
        data: The name of a dataset, or any source that "data add" accepts.
        out: The folder to write to (default: the name of the dataset, such as icons-croissant).
        version: Of Croissant.
        url: Where the dataset is published.
        creator: The person or organisation that made it.
        with_personal_data: Keep e-mail addresses and the like in the tables, in place of [email].
        force: Overwrite existing files.
    """
    from clerestory.apps.data_documents.croissant import CAPTIONS, METADATA, SAMPLES, croissant

    dataset, record = _record(data, common)
    folder = out or Path(f"{_file_name(record.summary.name)}-croissant")
    if folder.suffix == ".json":
        raise InputError(f"{folder} is the name of a file", f"name a folder, such as --out {folder.with_suffix('')}")
    for file in [folder / name for name in (METADATA, SAMPLES, CAPTIONS)] if folder.is_dir() else [folder]:
        check_output(file, force)
    files = croissant(dataset, record, version, url=url, creator=creator, with_personal_data=with_personal_data)
    make_folder(folder)
    for name, content in files.items():
        write_output(folder / name, content, force)
    common.out.result({"folder": str(folder), "files": list(files)}, f"wrote {folder} ({', '.join(files)})")
    if record.audit is None:
        common.out.next(f"clerestory data audit {quote(data)}")


def bom_(
    ref: str,
    /,
    *,
    out: Path | None = None,
    version: Literal["1.6", "1.7"] = "1.6",
    force: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Write a machine-learning bill of materials (CycloneDX): the model, what it was made from, Python packages.

    Args:
        ref: A release (icons@3, icons@live), a model's digest, starter or photos.
        out: The file to write (default: the release's name and number, such as icons-4.cdx.json).
        version: Of CycloneDX.
        force: Overwrite an existing file.
    """
    out = out or Path(f"{_file_name(ref)}.cdx.json")
    check_output(out, force)
    from clerestory.apps.references import model_reference  # here, because they import the client of the hub
    from clerestory.report.collect import collect
    from clerestory.report.documents.bom import ml_bom
    from clerestory.store import open_store

    store = open_store(common.home)
    write_output(out, ml_bom(collect(store, model_reference(store, ref)), version), force)
    common.out.result({"file": str(out)}, f"wrote {out}")


def _record(data: str, common: Common) -> tuple[Dataset, DatasetRecord]:
    from clerestory.apps.data_documents.record import dataset_record
    from clerestory.apps.datasets import view_dataset
    from clerestory.store import open_store

    store = open_store(common.home)
    dataset = view_dataset(store, data, common.out)
    return dataset, dataset_record(dataset, store)


def _file_name(text: str) -> str:
    return text.replace("@", "-").replace("/", "-")
