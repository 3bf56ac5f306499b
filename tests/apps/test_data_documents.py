"""The documents of a model and its data: valid by their standards, and the same facts in each."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.documents import documents_of, faults_of, rows_of
from tests.support.generated_projects import Project, make_project

from clerestory.apps.data_documents.croissant import croissant
from clerestory.apps.data_documents.record import dataset_record
from clerestory.apps.data_documents.sheet import OPEN, DataStatements, data_sheet, open_questions
from clerestory.cli.main import run
from clerestory.core.codec import Tags
from clerestory.core.licences.expression import parse_licence
from clerestory.core.release import Event
from clerestory.core.sample import Dataset, Sample
from clerestory.report.documents.bom import PREFIX, installed_packages, ml_bom
from clerestory.stages.audit.personal_data import redact
from clerestory.store import Store, open_store
from clerestory.store.acceptances import Acceptance, accept

SEEDS = range(8)  # of all documents; `make bench-documents` takes 200
CODE = re.compile(r"CLR-[A-Z]\d{3}")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(tmp_path_factory.mktemp("projects"))


@pytest.fixture(scope="module")
def projects(store: Store) -> list[Project]:
    return [make_project(seed, store) for seed in SEEDS]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_document_is_valid_and_they_agree(seed: int, projects: list[Project], tmp_path: Path) -> None:
    project = projects[seed]
    documents = documents_of(project)
    assert faults_of(documents, tmp_path) == []
    known, record, bom = project.known, project.record, documents.bom

    model = bom["metadata"]["component"]
    assert model["hashes"] == [{"alg": "SHA-256", "content": known.model}]
    parts = {part.key.replace(" ", "-"): part for part in known.components if part.role != "model"}
    components = {each["bom-ref"]: each for each in bom["components"] if not each["bom-ref"].startswith("pkg:")}
    assert components.keys() == parts.keys()
    for ref, component in components.items():
        part = parts[ref]
        said = {each["name"].removeprefix(PREFIX): each["value"] for each in component["properties"]}
        assert said["basis"] == part.basis
        assert [each["content"] for each in component.get("hashes", [])] == ([part.digest] if part.digest else [])
        licences = {str(parse_licence(share.licence)) for share in part.licences if share.licence}
        assert {_licence(each) for each in component.get("licenses", [])} == licences
    training = [part.name for part in known.components if part.role == "training data" and part.name]
    assert documents.front.get("datasets", []) == [name for name in training if re.fullmatch(r"[A-Za-z0-9_./-]+", name)]
    assert all(name in documents.card for name in training)

    metrics = {(m["type"], m["slice"].split(";")[0]): float(m["value"]) for m in _metrics(model)}
    evaluation = known.evaluation
    assert evaluation is not None
    assert metrics == {(m.name, str(m.slice) or "all samples"): m.value for m in evaluation.measurements}
    for result in documents.front["model-index"][0]["results"]:
        for metric in result["metrics"]:
            task = result["task"]["type"].replace("-", "_").replace("image_to_text_", "image_to_text")
            where = f"split={result['dataset']['split']}, task={task}"
            assert metric["value"] == pytest.approx(metrics[metric["type"], where], abs=1e-6)

    files, metadata = documents.croissants["1.0"], documents.metadata
    rows, captions = rows_of(files["samples.csv"]), rows_of(files["captions.csv"])
    assert [row["image"] for row in rows] == [sample.image for sample in project.data]
    written = [redact(c.text, c.lang) for sample in project.data for c in sample.captions]
    assert [row["caption"] for row in captions] == written
    assert metadata["url"] == f"urn:sha256:{project.data.digest}"
    assert project.data.digest in documents.sheet
    assert f"{len(rows):,} images with {len(captions):,} captions" in documents.sheet
    assert set(metadata["license"]) == ({s.licence for s in project.data if s.licence} or {"unknown"})
    if project.known.training_record is not None:
        assert project.data.digest in {part.digest for part in known.components}
    said_codes = set(CODE.findall(json.dumps([v for k, v in metadata.items() if k.startswith("rai:")])))
    assert said_codes == set(CODE.findall(documents.sheet))
    if record.audit is not None:
        assert said_codes <= {finding.code for finding in (*record.audit.findings, *record.excluded)}


def _licence(entry: dict[str, dict[str, str] | str]) -> str:
    licence = entry.get("license")
    return str(entry["expression"]) if licence is None else next(iter(licence.values()))  # type: ignore[union-attr]


def _metrics(model: dict[str, dict[str, dict[str, list[dict[str, str]]]]]) -> list[dict[str, str]]:
    return model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]


def test_equal_records_give_equal_bytes(projects: list[Project]) -> None:
    first, again = documents_of(projects[0]), documents_of(projects[0])
    assert first == again


def test_the_bill_names_the_packages_that_are_required_and_no_others() -> None:
    names = installed_packages("clerestory")
    required = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    direct = {re.split(r"[>=<\[]", each)[0].lower().replace("_", "-") for each in required}
    assert direct <= set(names)
    assert "pytest" not in names, "the packages of extras are not needed to run it"
    assert installed_packages("no-such-distribution") == []


def test_a_change_of_the_record_changes_the_bill(projects: list[Project]) -> None:
    known = next(each.known for each in projects if each.known.components)
    fewer = replace(known, components=known.components[:-1])
    assert ml_bom(known) != ml_bom(fewer)


def test_personal_data_is_counted_and_never_shown(store: Store) -> None:
    project = next(make_project(seed, store) for seed in range(100, 160) if _has_address(seed, store))
    documents = documents_of(project)
    assert "CLR-A030" in documents.sheet
    assert "ana@example.org" not in documents.sheet
    assert not [name for name, content in documents.croissants["1.0"].items() if b"ana@example.org" in content]
    kept = croissant(project.data, project.record, with_personal_data=True)
    assert b"ana@example.org" in kept["captions.csv"], "only if somebody asks for it"


def test_documents_do_not_name_the_folders_of_a_computer_or_its_files(store: Store) -> None:
    samples = [Sample(f"{i}.jpg", f"{i}" * 64, source=f"/srv/photos/{i}.jpg") for i in range(4)]
    data = Dataset("mine", samples, lambda _: b"")
    tags = Tags(digest=data.digest, source="new-splits:/srv/photos")
    store.journal.append(Event("data_added", "mine", "ana", "", "2026-11-01T00:00:00+00:00", tags))
    record = dataset_record(data, store)
    assert record.source == "a folder or file on a computer"
    assert record.num_sources == 4
    assert "/srv" not in data_sheet(record)


def test_an_accepted_finding_says_who_accepted_it(store: Store, projects: list[Project]) -> None:
    project = next(each for each in projects if each.record.audit and "CLR-A040" in data_sheet(each.record))
    acceptance = Acceptance(
        "CLR-A040", project.data.name, "Ana", "asked", "2026-11-01T00:00:00+00:00", "9999-01-01", 99
    )
    accept(store.journal, acceptance)
    sheet = data_sheet(dataset_record(project.data, store))
    assert "accepted by Ana until 9999-01-01: asked" in sheet


def _has_address(seed: int, store: Store) -> bool:
    record = make_project(seed, store).record
    return record.audit is not None and any(each.code == "CLR-A030" for each in record.audit.findings)


def test_what_nobody_has_said_is_left_open(projects: list[Project]) -> None:
    said = DataStatements(motivation="To sell *shoes*.\nIn two lines.", uses="Search only.")
    sheet = data_sheet(projects[1].record, said)
    assert "> To sell *shoes*.\n> In two lines." in sheet
    assert sheet.count(OPEN) == len(open_questions(said)) == 4


def test_an_audit_by_other_code_is_named(store: Store, projects: list[Project]) -> None:
    project = next(each for each in projects if each.record.audit is not None)
    assert "Checked by an earlier version" not in data_sheet(project.record)
    assert "Checked by an earlier version" in data_sheet(replace(project.record, is_current=False))


def test_foreign_text_stays_text(store: Store) -> None:
    sample = Sample("a|b", "0" * 64, groups=Tags({"<b>": "| x |"}), licence="[x](y)", source="![i](http://x)")
    data = Dataset("# not a title", [sample], lambda _: b"")
    sheet = data_sheet(dataset_record(data, store))
    assert "\n# not" not in sheet
    assert "![" not in sheet.replace("\\[", "")
    assert all(row.count(" | ") <= 3 for row in sheet.splitlines() if row.startswith("| "))


def test_the_commands_write_files_and_overwrite_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], projects: list[Project]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLERESTORY_HOME", str(projects[0].store.home))
    ref = projects[0].known.name
    assert run(["release", "bom", ref, "--version", "1.7"]) == 0
    written = tmp_path / f"{ref.replace('@', '-')}.cdx.json"
    assert json.loads(written.read_bytes())["specVersion"] == "1.7"
    assert run(["release", "bom", ref]) == 2
    assert "--force" in capsys.readouterr().err
    assert run(["release", "bom", "nothing@9"]) == 2
    assert run(["data", "croissant", "photographs", "--out", "c"]) == 0
    assert run(["data", "croissant", "photographs", "--out", "c"]) == 2
    assert run(["data", "croissant", "photographs", "--out", "no/such/folder"]) == 2
    assert run(["data", "sheet", "photographs", "--out", "sheet.md"]) == 0
    (tmp_path / "said.toml").write_text('motivations = "x"\n')
    capsys.readouterr()
    assert run(["data", "sheet", "photographs", "--statements", "said.toml", "--out", "other.md"]) == 2
    assert "motivation" in capsys.readouterr().err
