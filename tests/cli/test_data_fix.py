"""``clerestory data fix`` and ``data diff``: the findings are gone, the parent is as it was, and nothing gets lost."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.disks import can_mount, small_disk
from tests.support.faulty_data import VALUES, faulty_data
from tests.support.forked import ForkedProcess
from tests.support.killed import run_and_kill

from clerestory.cli.main import run
from clerestory.data import open_data
from clerestory.data.images import decode_image
from clerestory.store import open_store
from clerestory.store.acceptances import today

KEEP_BLURRED = ["--set", "min_sharpness=0"]  # the scenes of the tests are coarse
AUTOMATIC = {"CLR-A011", "CLR-A014", "CLR-A017", "CLR-A030", "CLR-A031", "CLR-A032"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with copies in two splits, coordinates and personal data, and a table."""
    folder = tmp_path_factory.mktemp("faulty") / "pictures"
    folder.mkdir()
    data = faulty_data()
    with (folder / "captions.jsonl").open("w", encoding="utf-8") as table:
        for number, sample in enumerate(data):
            (folder / f"{number:02d}.jpg").write_bytes(data.read(sample))
            row = {"image": f"{number:02d}.jpg", "caption": sample.caption, "split": sample.split, "licence": "MIT"}
            table.write(json.dumps(row) + "\n")
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CLERESTORY_WHO", "Ada")
    return Path(shutil.copytree(template, tmp_path / "pictures"))


def content_of(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def result_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = run([*arguments, "--json"])
    printed = capsys.readouterr().out
    return code, json.loads(printed) if printed else None


@pytest.mark.parametrize("place", ["clean.parquet", "clean", ""])
def test_the_findings_are_gone_and_the_parent_is_as_it_was(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    before, parent = content_of(folder), open_data(folder)
    out = ["--out", str(tmp_path / place)] if place else ["--name", "clean"]
    code, made = result_of(capsys, "data", "fix", str(folder), *out, *KEEP_BLURRED)
    assert code == 0
    assert content_of(folder) == before
    assert made["made_from"] == parent.digest
    code, audited = result_of(capsys, "data", "audit", "clean", *KEEP_BLURRED)
    assert code == 0
    assert not {each["code"] for each in audited["findings"]} & (AUTOMATIC | {"CLR-A012", "CLR-A033"})
    new = open_data(made["version"]["place"])
    assert new.digest == made["version"]["digest"]
    copied = [sample for sample in new if sample.id in {each.id for each in parent}]
    assert len(copied) == len(new) == len(parent) - 1
    for sample in copied:
        old = parent[sample.id]
        if sample.image != old.image:  # one image has coordinates
            assert b"Exif" in parent.read(old)
            assert decode_image(new.read(sample)).tobytes() == decode_image(parent.read(old)).tobytes()
    assert sum(sample.image != parent[sample.id].image for sample in copied) == 1
    everything = " ".join(caption.text + sample.concept for sample in new for caption in sample.captions)
    assert not any(value in everything for value in VALUES)


def test_the_journal_says_what_it_was_made_from_and_by_whom(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, made = result_of(capsys, "data", "fix", str(folder), "--name", "clean", "--why", "before training")
    store = open_store()
    added, fixed = (record.event for record in store.journal.records("clean"))
    assert (added.kind, fixed.kind, fixed.who, fixed.why) == ("data_added", "data_fixed", "Ada", "before training")
    assert (fixed.details["made_from"], fixed.details["digest"]) == (made["made_from"], store.dataset("clean").digest)
    assert json.loads(fixed.details["fixes"])["CLR-A014 drop"] == 1
    assert store.evidence(fixed.details["audit"]).kind == "audit"
    assert len(json.loads(store.blobs.get(fixed.details["record"]))["fixes"]) == len(made["plan"]["fixes"])
    assert store.journal.verify() == []


def test_a_plan_writes_nothing_and_leaves_decisions_to_people(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown = result_of(capsys, "data", "fix", str(folder), "--plan", "--out", str(tmp_path / "clean.parquet"))
    assert (code, shown["version"]) == (0, None)
    assert {fix["code"] for fix in shown["plan"]["fixes"]} == AUTOMATIC
    assert {each["rule"]["code"]["code"] for each in shown["plan"]["proposed"]} == {"CLR-A005", "CLR-A012", "CLR-A015"}
    assert not (tmp_path / "clean.parquet").exists()
    assert open_store().datasets() == []
    _, shown = result_of(capsys, "data", "fix", str(folder), "--plan", "--only", "A015")
    assert Counter(fix["action"] for fix in shown["plan"]["fixes"]) == {"drop": 1}


def test_an_accepted_finding_is_not_fixed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["data", "audit", str(folder)])
    assert run(["data", "accept", str(folder), "A032", "--why", "a test number", "--expires", str(today())]) == 0
    _, shown = result_of(capsys, "data", "fix", str(folder), "--plan")
    assert {fix["code"] for fix in shown["plan"]["fixes"]} == AUTOMATIC - {"CLR-A032"}
    assert shown["plan"]["accepted"] == ["CLR-A032"]


def test_a_diff_has_the_reasons_and_no_personal_data(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["data", "fix", str(folder), "--name", "clean"])
    table = tmp_path / "diff.csv"
    capsys.readouterr()
    assert run(["data", "diff", str(folder), "clean", "--csv", str(table)]) == 0
    printed = capsys.readouterr().out + table.read_text(encoding="utf-8-sig")
    assert not any(secret in printed for secret in (*VALUES, "4111", "ada lovelace", "12345678"))
    rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    assert Counter((row["change"], row["reason"]) for row in rows if row["change"] != "concept") == {
        ("removed", "CLR-A014"): 1,
        ("image", "CLR-A011"): 1,
        ("split", "CLR-A017"): 1,
        ("captions", "CLR-A030"): 1,
        ("captions", "CLR-A031"): 1,
        ("captions", "CLR-A032"): 1,
    }
    assert [(row["before"], row["after"]) for row in rows if row["change"] == "split"] == [("test", "train")]
    assert run(["data", "diff", str(folder), "clean", "--csv", str(table)]) == 2
    _, backwards = result_of(capsys, "data", "diff", "clean", str(folder))
    assert {each["change"] for each in backwards["samples"]} >= {"added", "image", "split"}
    assert not any(secret in json.dumps(backwards) for secret in VALUES)
    assert run(["data", "diff", "clean", "clean"]) == 0
    assert "have the same 14 samples" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["clean.parquet", "clean"])
def test_a_kill_at_any_moment_loses_nothing(folder: Path, tmp_path: Path, place: str) -> None:
    """Every change on the disk around the new version is a moment to be killed at; afterwards the command goes on."""
    before = content_of(folder)
    digests = set()

    def command(target: Path) -> tuple[str, ...]:
        return ("data", "fix", str(folder), "--out", str(target), "--quiet", *KEEP_BLURRED)

    def start(moment: int, target: Path) -> int:
        arguments = (command(target), str(target.parent), moment, str(tmp_path / "counted"))
        return ForkedProcess(run_and_kill, *arguments).wait()

    (tmp_path / "all").mkdir()
    assert start(-1, tmp_path / "all" / place) == 0
    code, changes = map(int, (tmp_path / "counted").read_text().split())
    assert code == 0
    # Of a folder's many images one in the middle; the last moments are the renames and the removal of the rest.
    moments = {0, changes // 2, *range(changes - 3, changes)}
    for moment in sorted(moments):
        target = tmp_path / f"at{moment}" / place
        target.parent.mkdir()
        assert start(moment, target) == -9
        assert not [row for row in open_store().datasets() if row.spec == str(target)]
        if target.exists():  # whole
            assert len(open_data(target)) == 14
        assert run(command(target)) == 0, moment
        assert not [path for path in target.parent.iterdir() if path.name.startswith(".")]
        digests.add(open_data(target).digest)
    assert len(digests) == 1
    assert content_of(folder) == before


@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a tmpfs")
def test_a_full_disk_is_one_sentence(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with small_disk(tmp_path / "disk") as disk:
        disk.fill()
        capsys.readouterr()
        for place in ("clean.parquet", "clean"):
            assert run(["data", "fix", str(folder), "--out", str(disk.folder / place)]) == 2
            assert "No space left on device" in capsys.readouterr().err
        assert [path.name for path in disk.folder.iterdir()] == ["filler"]
        assert open_store().datasets() == []
        disk.free()
        assert run(["data", "fix", str(folder), "--out", str(disk.folder / "clean.parquet")]) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "A015"], "needs a place or a name"),
        (["--out", "{pictures}/clean"], "lies in the data that is fixed"),
        (["--out", "{home}/no/clean"], "does not exist"),
        (["--out", "{taken}"], "is not empty"),
        (["--out", "{taken}", "--force"], "is not empty"),
        (["--out", "{file}.parquet"], "already exists"),
        (["--name", "icons"], "built-in"),
        (["--name", "a/b"], "cannot be the name"),
        (["--name", "clean", "--only", "A999"], "unknown finding code"),
        (["--name", "clean", "--only", "A002"], "has no fix that a program can make"),
        (["--name", "clean", "--only", "A004"], "has no finding CLR-A004"),
    ],
)
def test_wrong_input_is_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    (tmp_path / "file.parquet").write_text("mine")
    places = {"pictures": folder, "home": tmp_path, "taken": tmp_path / "taken", "file": tmp_path / "file"}
    assert run(["data", "fix", str(folder), *(each.format(**places) for each in arguments)]) == 2
    assert sentence in capsys.readouterr().err
    assert (tmp_path / "taken" / "mine.txt").read_text() == (tmp_path / "file.parquet").read_text() == "mine"
    assert run(["data", "fix", "nodata", "--name", "clean"]) == 2
    assert run(["data", "diff", str(folder), "nodata"]) == 2


def test_a_parquet_file_is_not_fixed_in_place(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = tmp_path / "first.parquet"
    assert run(["data", "fix", str(folder), "--out", str(first)]) == 0
    before = first.read_bytes()
    assert run(["data", "fix", "first", "--out", str(first), "--name", "second", "--only", "A015", "--force"]) == 2
    assert "lies in the data that is fixed" in capsys.readouterr().err
    assert first.read_bytes() == before


@pytest.mark.parametrize(
    "verb", [["audit"], ["audit", "--calibrate"], ["fix", "--name", "clean"], ["diff"], ["accept"]]
)
def test_data_that_cannot_be_read_is_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.table({"price": [1, 2]}), tmp_path / "prices.parquet")
    more = {"diff": [str(folder)], "accept": ["A017", "--why", "x", "--expires", str(today())]}.get(verb[0], [])
    for place, sentence in (("empty", "has no readable image"), ("prices.parquet", "has no image column")):
        capsys.readouterr()
        assert run(["data", verb[0], str(tmp_path / place), *more, *verb[1:]]) == 2
        assert sentence in capsys.readouterr().err


def test_an_earlier_fix_is_replaced_with_force_only(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "fix", str(folder), "--out", str(tmp_path / "clean")]
    assert run(command) == 0
    first = open_data(tmp_path / "clean").digest
    assert run(command) == 0
    assert "was there already" in capsys.readouterr().out
    assert run([*command, "--only", "A015"]) == 2
    assert open_data(tmp_path / "clean").digest == first
    assert run([*command, "--only", "A015", "--force"]) == 0
    assert open_data(tmp_path / "clean").digest != first
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_data_without_a_problem_needs_no_new_version(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "fix", str(folder), "--name", "clean"]) == 0
    capsys.readouterr()
    assert run(["data", "fix", "clean", "--name", "cleaner", *KEEP_BLURRED]) == 0
    assert "there is nothing to fix in clean without a decision of yours" in capsys.readouterr().out
    assert [row.name for row in open_store().datasets()] == ["clean"]
