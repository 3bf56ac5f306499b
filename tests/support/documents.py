"""The documents of a project by their own standards, and what each says, to compare."""

from __future__ import annotations

import csv
import io
import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlcroissant
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tests.support.generated_projects import Project

from clerestory.apps.data_documents import croissant as croissant_module
from clerestory.apps.data_documents.croissant import METADATA, croissant
from clerestory.apps.data_documents.sheet import data_sheet
from clerestory.report.card import model_card
from clerestory.report.documents import bom as bom_module
from clerestory.report.documents.bom import ml_bom


@dataclass(frozen=True)
class Documents:
    """All documents of a project."""

    card: str
    sheet: str
    boms: dict[str, bytes]
    croissants: dict[str, dict[str, bytes]]

    @property
    def bom(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.boms["1.6"])
        return parsed

    @property
    def metadata(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.croissants["1.0"][METADATA])
        return parsed

    @property
    def front(self) -> dict[str, Any]:
        parsed: dict[str, Any] = yaml.safe_load(self.card.split("---\n")[1])
        return parsed


def documents_of(project: Project) -> Documents:
    """Write all of them, in every version."""
    return Documents(
        card=model_card(project.known),
        sheet=data_sheet(project.record),
        boms={version: ml_bom(project.known, version) for version in bom_module.VERSIONS},
        croissants={version: croissant(project.data, project.record, version) for version in croissant_module.VERSIONS},
    )


def faults_of(documents: Documents, folder: Path) -> list[str]:
    """What the validators of the standards say; empty if every document is valid and its records can be read."""
    faults = []
    for version, content in documents.boms.items():
        error = JsonStrictValidator(SchemaVersion.from_version(version)).validate_str(content.decode())
        faults += [f"CycloneDX {version}: {error}"] if error else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of rdflib, about mlcroissant's use of it
        logging.getLogger("absl").setLevel(logging.ERROR)
        for version, files in documents.croissants.items():
            place = folder / f"croissant-{version}"
            place.mkdir()
            for name, content in files.items():
                (place / name).write_bytes(content)
            try:
                opened = mlcroissant.Dataset(str(place / METADATA))
                issues = opened.metadata.ctx.issues
                faults += [f"Croissant {version}: {each}" for each in issues.errors]
                for name in ("samples", "captions"):
                    rows = rows_of(files[f"{name}.csv"])
                    # An empty table has no records to read; its reader wants one.
                    if rows and len(list(opened.records(name))) != len(rows):
                        faults.append(f"Croissant {version}: {name} has {len(rows)} rows and other records")
            except mlcroissant.ValidationError as error:
                faults.append(f"Croissant {version}: {error}")
    return faults


def rows_of(content: bytes) -> list[dict[str, str]]:
    """The rows of a table; cells may contain line breaks."""
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))
