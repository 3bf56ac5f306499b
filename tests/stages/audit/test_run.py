"""An audit from the command line: what it prints, stores and returns, and what it says when it cannot."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clerestory.cli.main import run
from clerestory.core.codec import Tags
from clerestory.core.evidence import Cost, Evidence, Recipe, Subject
from clerestory.data import open_data
from clerestory.stages.audit.config import AuditConfig
from clerestory.stages.audit.corrected_scores import EXCLUDED, INCLUDED, LEAKED, correct_scores
from clerestory.stages.audit.run import audit, read_detections
from clerestory.stages.release.verification import verify
from clerestory.stats.aggregate import measure, recompute
from clerestory.stats.rows import read_rows, write_rows
from clerestory.store import open_store


def picture(seed: int) -> Image.Image:
    """An image of its own: a few large shapes."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((120, 120), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight images in two splits; one of the test split is also in the training split."""
    for split, seeds in (("train", range(5)), ("test", range(4, 8))):
        (tmp_path / "data" / split).mkdir(parents=True)
        for seed in seeds:
            name = tmp_path / "data" / split / f"{seed}.png"
            picture(seed).save(name)
            name.with_suffix(".txt").write_text(f"shapes of the kind number {seed} in many colours")
    return tmp_path / "data"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_leakage_is_a_problem_and_the_csv_names_it(
    folder: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "findings.csv"
    assert run(["data", "audit", str(folder), "--csv", str(table)]) == 1
    printed = capsys.readouterr().out
    assert "CLR-A017" in printed
    assert "1 of 4 of test" in printed
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["finding"] == "CLR-A017"]
    assert {(row["sample"], row["note"]) for row in rows} == {
        ("test/4.png", "split test"),
        ("train/4.png", "split train"),
    }
    before = table.read_bytes()
    assert run(["data", "audit", str(folder), "--csv", str(table)]) == 2
    assert table.read_bytes() == before


def test_a_folder_is_read_and_not_added(folder: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a problem is mended in the folder, the same command audits it as it is now."""
    assert run(["data", "audit", str(folder)]) == 1
    (folder / "test" / "4.png").unlink()
    (folder / "test" / "4.txt").unlink()
    assert run(["data", "audit", str(folder), "--set", "licences.allow_unknown=true"]) == 0
    assert open_store(home).datasets() == []


def test_an_included_model_can_be_named(folder: Path, home: Path) -> None:
    assert run(["data", "audit", str(folder), "--model", "photos"]) == 1
    (evidence,) = open_store(home).find_evidence("audit")
    assert len(evidence.subject.model) == 64


def test_shares_are_of_all_images_and_information_is_no_warning(
    folder: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "train" / "captions.csv").open("w", encoding="utf-8") as table:
        table.write("image,caption,licence\n0.png,many colours in large shapes,CC-BY-4.0\n")
        table.write("1.png,other colours in large shapes,nonsense-1\n2.png,some colours in large shapes,CC BY\n")
    for name in range(3):
        (folder / "train" / f"{name}.txt").unlink()
    table_of = folder / "train"
    assert run(["data", "audit", str(table_of)]) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    unknown = [line for line in lines if "CLR-A040" in line and "fail" in line]
    assert sorted(line[line.index("licence") + 2] for line in unknown) == ["(20.0%)", "(20.0%)", "(40.0%)"]
    assert [line[0] for line in lines if "CLR-A046" in line] == ["note"]


def test_data_without_a_problem_is_a_yes(folder: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["data", "audit", str(folder / "train"), "--set", "licences.allow_unknown=true", "--json"]
    assert run(arguments) == 0
    evidence = json.loads(capsys.readouterr().out)
    assert "fail" not in {finding["state"] for finding in evidence["findings"]}


def test_every_number_follows_from_the_stored_rows(folder: Path, home: Path) -> None:
    store = open_store(home)
    data = open_data(str(folder))
    result = audit(data, store, AuditConfig())
    evidence = store.find_evidence("audit")[0]
    assert evidence == result.evidence
    rows = read_rows(store.blobs.get(evidence.rows))
    assert len(rows["sample"]) == len(data)
    assert [recompute(rows, each) for each in evidence.measurements] == list(evidence.measurements)
    leaked = evidence.find("leaked", {"split": "test"})
    assert leaked is not None
    assert (leaked.value, leaked.n) == (0.25, 4)
    stored = {each["code"]: each for each in read_detections(evidence, store)}
    assert stored["CLR-A017"]["groups"] == [["test/4.png", "train/4.png"]]


def test_scores_are_given_without_the_leaked_samples(folder: Path, home: Path) -> None:
    store = open_store(home)
    data = open_data(str(folder))
    rows = {
        "sample": np.array([f"test/{k}.png" for k in range(4, 8)], dtype=object),
        "concept": np.array(list("abcd"), dtype=object),
        "split": np.array(["test"] * 4, dtype=object),
        "rank": np.array([1.0, 1.0, 30.0, 40.0]),
    }
    recipe = Recipe("share_at_most", "rank", Tags(split="test"), "concept", 10)
    measured = measure(rows, recipe, "recall@10", {"split": "test"})
    evaluation = Evidence(
        "evaluate",
        Subject(model="a" * 64, data=data.digest),
        (measured,),
        (),
        Cost(1.0, 1.0, 1.0),
        "2026-01-01T00:00:00+00:00",
        store.blobs.put(write_rows(rows)),
    )
    store.put_evidence(evaluation)
    result = audit(data, store, AuditConfig(), model="a" * 64)
    (score,) = result.scores
    assert (score.measured.value, score.corrected.value, score.corrected.n) == (0.5, pytest.approx(1 / 3), 3)
    assert score.corrected.interval is not None
    both = {each.slice[LEAKED]: each for each in result.evidence.measurements if LEAKED in each.slice}
    assert (both[INCLUDED].value, both[EXCLUDED].n) == (0.5, 3)
    assert correct_scores(["test/4.png"], "b" * 64, data.digest, store) == ("", [])


def test_the_evidence_of_an_audit_is_verified_with_the_model(folder: Path, home: Path) -> None:
    """``release verify`` computes the numbers of an audit again; it is one of the stages that it asks for evidence."""
    store = open_store(home)
    model = home.parent / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    digest = store.put_model(model)
    audit(open_data(str(folder)), store, AuditConfig(), model=digest)
    messages = [finding.message for finding in verify(digest, store) if finding.state != "pass"]
    assert messages == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--set", "max_aspect=0"], "max_aspect"),
        (["--set", "min_sidee=3"], "min_side"),
        (["--set", "licences.commercial=true"], "licences.commercial_use"),
        (["--model", "nobody@live"], "nobody"),
        (["--set", "label_group=colour"], "colour"),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    arguments: list[str], named: str, folder: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "audit", str(folder), *arguments]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert "Traceback" not in error


def test_a_folder_without_images_is_one_sentence(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert run(["data", "audit", str(tmp_path / "empty")]) == 2
    assert "error: " in capsys.readouterr().err


def test_an_audit_again_is_the_same_and_a_change_of_data_or_settings_is_noticed(folder: Path, home: Path) -> None:
    store = open_store(home)
    first = audit(open_data(str(folder)), store)
    again = audit(open_data(str(folder)), store)
    assert again.detections == first.detections
    assert (again.evidence.rows, again.evidence.artifacts) == (first.evidence.rows, first.evidence.artifacts)
    stricter = audit(open_data(str(folder)), store, AuditConfig(min_side=121))
    assert {each.code.code for each in stricter.detections} - {each.code.code for each in first.detections}
    (folder / "train" / "0.txt").write_text("write to someone@example.org")
    assert "CLR-A030" in {each.code.code for each in audit(open_data(str(folder)), store).detections}
