"""Packs: the same bytes for the same benchmark, and a sentence for everything that is not as it was."""

import shutil
from pathlib import Path

import pytest
from tests.support.task_files import TASK, RuleBasedScorer, write_quiz, write_table, write_task

from clerestory.core.errors import ClerestoryError, ConfigError, Conflict, InputError, IntegrityError, NotFound
from clerestory.data import open_data
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.evaluate.tasks import Task, load_task
from clerestory.stages.evaluate.tasks.items import open_task_data
from clerestory.stages.evaluate.tasks.packs import (
    add_pack,
    export_pack,
    find_task,
    installed_packs,
    pack_names,
    read_pack,
    verify_pack,
)
from clerestory.store import Store

BASELINE = """
source = "drawn for a test"
description = "Colours of tiles."
[baseline]
model = "icons@1"
metric = "accuracy"
value = 0.5
low = 0.4
high = 0.6
"""


@pytest.fixture
def task(tmp_path: Path) -> Task:
    write_quiz(tmp_path / "work", 12)
    return load_task(write_task(tmp_path / "work", TASK + BASELINE))


@pytest.fixture
def pack(tmp_path: Path, task: Task) -> Path:
    export_pack(task, tmp_path / "pack", "0.1")
    return tmp_path / "pack"


def test_a_pack_tells_what_it_is(pack: Path, task: Task) -> None:
    content = verify_pack(pack)
    assert (content.name, content.version, content.licences) == ("colours", 1, ("CC0-1.0",))
    assert content.task == task.digest
    assert content.data == open_task_data(task).digest
    assert content.baseline == task.baseline
    assert content.baseline is not None
    assert content.baseline.model == "icons@1"
    readme = (pack / "README.md").read_text("utf-8")
    assert "CC0-1.0" in readme
    assert "icons@1" in readme
    assert "Colours of tiles." in readme


def test_the_same_benchmark_has_the_same_bytes(pack: Path, task: Task, tmp_path: Path) -> None:
    export_pack(task, tmp_path / "again", "0.1")
    for file in pack.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_a_pack_runs_as_the_task_it_was_made_of(store: Store, pack: Path, task: Task, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    shutil.copytree(pack, folder)
    shutil.rmtree(tmp_path / "work")
    add_pack(store, folder)
    shutil.rmtree(folder)
    assert pack_names(store) == ["colours", "colours@1"]
    data = open_task_data(find_task("colours", store))
    evidence = evaluate(RuleBasedScorer(), data, EvaluateConfig(suites=("tasks",), tasks=("colours",)), store)
    found = evidence.find("accuracy", {"task": "colours", "split": "test"})
    assert found is not None
    assert found.value == 1.0
    assert found.n == 12
    assert evidence.facts["task.colours.digest"] == task.digest
    assert [record.event.kind for record in store.journal.records()] == ["pack_added"]
    assert add_pack(store, pack) == read_pack(pack)
    assert len(installed_packs(store)) == 1


@pytest.mark.parametrize("name", ["task.toml", "data.parquet", "data.parquet.json", "README.md"])
def test_a_flipped_byte_is_named(store: Store, pack: Path, name: str) -> None:
    content = bytearray((pack / name).read_bytes())
    content[len(content) // 2] ^= 1
    (pack / name).write_bytes(bytes(content))
    with pytest.raises(IntegrityError, match=name):
        add_pack(store, pack)
    assert installed_packs(store) == []


def test_what_is_missing_or_does_not_belong_is_named(store: Store, pack: Path) -> None:
    (pack / "extra.py").write_text("print()", encoding="utf-8")
    with pytest.raises(IntegrityError, match="is not a file of the pack"):
        add_pack(store, pack)
    (pack / "extra.py").unlink()
    (pack / "README.md").unlink()
    with pytest.raises(IntegrityError, match=r"README\.md is missing"):
        add_pack(store, pack)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('licences = ["CC0-1.0"]', "licences = []", "states no licence"),
        ('licences = ["CC0-1.0"]\n', "", "lacks the setting 'licences'"),
        ("format = 1", "format = 1\ncolour = 3", "no setting 'colour'"),
        ("format = 1", "format = 2", "is of format 2"),
        ("version = 1", "version = 2", "version 2"),
        ('name = "', 'name = "../../', "is not valid"),
    ],
)
def test_a_wrong_pack_file_is_one_sentence(store: Store, pack: Path, old: str, new: str, said: str) -> None:
    file = pack / "pack.toml"
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ClerestoryError) as caught:
        add_pack(store, pack)
    assert said in caught.value.message
    assert caught.value.fix
    assert not list((store.files / "packs").glob("*"))


def test_without_a_licence_nothing_is_shared(tmp_path: Path) -> None:
    write_quiz(tmp_path, 3)
    task = load_task(write_task(tmp_path, TASK.replace('licence = "CC0-1.0"\n', "")))
    with pytest.raises(ConfigError, match="states no licence"):
        export_pack(task, tmp_path / "pack", "0.1")
    rows = [{"image": f"{i:05d}.png", "question": "?", "choices": "red|blue", "answer": "red"} for i in range(3)]
    write_table(tmp_path / "quiz.csv", [row | {"licence": "MIT", "size": "any"} for row in rows])
    assert export_pack(task, tmp_path / "pack", "0.1").licences == ("MIT",)


def test_another_pack_of_the_same_version_is_refused(store: Store, pack: Path, task: Task, tmp_path: Path) -> None:
    add_pack(store, pack)
    table = tmp_path / "work" / "quiz.csv"
    table.write_text(table.read_text().replace("Which", "What"))
    export_pack(task, tmp_path / "changed", "0.1")
    with pytest.raises(Conflict, match="another pack colours of version 1"):
        add_pack(store, tmp_path / "changed")


def test_names_that_nothing_has_are_one_sentence(store: Store, pack: Path, task: Task, tmp_path: Path) -> None:
    add_pack(store, pack)
    with pytest.raises(NotFound) as caught:
        find_task("colour", store)
    assert "colours" in caught.value.closest
    with pytest.raises(NotFound, match="no pack"):
        verify_pack(tmp_path / "work")
    with pytest.raises(InputError, match="already exists"):
        export_pack(task, pack, "0.1")


def test_the_pictures_of_a_pack_are_those_of_the_table(pack: Path, task: Task) -> None:
    inside, outside = open_data(pack / "data.parquet"), open_task_data(task)
    assert inside.digest == outside.digest
    assert [inside.read(s) for s in inside] == [outside.read(s) for s in outside]
