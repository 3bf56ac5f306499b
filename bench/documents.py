"""Every document of 200 generated projects by the validators of its standard: ``make bench-documents``."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.documents import documents_of, faults_of
from tests.support.generated_projects import make_project

from clerestory.store import open_store
from table import Row, measure

NUM_PROJECTS = 200


def projects() -> Iterator[Row]:
    """CycloneDX 1.6 and 1.7 (strict), Croissant 1.0 and 1.1 (mlcroissant, and every record read)."""
    invalid: dict[str, list[int]] = {"CycloneDX": [], "Croissant": []}
    records = components = 0
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        store = open_store(Path(name) / "home")
        for seed in range(NUM_PROJECTS):
            project = make_project(seed, store)
            documents = documents_of(project)
            folder = Path(name) / str(seed)
            folder.mkdir()
            for fault in faults_of(documents, folder):
                print(f"project {seed}: {fault}", file=sys.stderr)
                invalid[fault.split()[0]].append(seed)
            records += len(project.data)
            components += len(json.loads(documents.boms["1.6"])["components"])
    note = f"{time.perf_counter() - started:.0f} s with making and auditing the projects"
    for standard, seeds in invalid.items():
        valid = NUM_PROJECTS - len(set(seeds))
        versions, extra = {
            "CycloneDX": ("1.6 and 1.7, JsonStrictValidator", f"{components:,} components"),
            "Croissant": ("1.0 and 1.1, mlcroissant", f"{records:,} samples read"),
        }[standard]
        name = f"projects whose {standard} is valid ({versions})"
        yield Row(
            name, valid, "projects", f"{NUM_PROJECTS}", valid == NUM_PROJECTS, NUM_PROJECTS, "", f"{extra}; {note}"
        )


if __name__ == "__main__":
    sys.exit(measure("documents", {"projects": projects}, sys.argv[1:]))
