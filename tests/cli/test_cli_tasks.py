"""Tasks and packs from the command line, with a real if untrained model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tests.support.endpoint import endpoint
from tests.support.task_files import TASK, quiz, write_task

from clerestory.cli.main import run
from clerestory.store import open_store


class Line:
    """Runs commands and gives back what they print."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self.capsys = capsys

    def text(self, *arguments: str, code: int = 0) -> str:
        done = run([*arguments, "--home", str(self.home)])
        out, err = self.capsys.readouterr()
        assert done == code, err
        return out if code == 0 else err

    def json(self, *arguments: str) -> Any:
        return json.loads(self.text(*arguments, "--json"))


@pytest.fixture
def line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Line:
    return Line(tmp_path / "home", capsys)


@pytest.fixture
def task(tmp_path: Path) -> str:
    quiz(tmp_path, 24)
    return str(write_task(tmp_path))


def test_a_task_alone_is_run_and_judged(line: Line, tiny_model: Path, task: str) -> None:
    found = line.json("evaluate", str(tiny_model), "--task", task)
    names = {(m["name"], m["slice"].get("condition", "")) for m in found["measurements"]}
    assert {("accuracy", ""), ("accuracy", "blind"), ("blind_gain", ""), ("blind_solvable", "")} <= names
    assert found["trust"]["colours/test"]["trust"] in ("careful", "no")
    said = line.text("evaluate", str(tiny_model), "--task", task)
    assert "How good is it?" in said
    assert "Can these benchmarks be believed?" in said
    assert len(said.splitlines()) < 60
    assert "contamination" in line.text("evaluate", str(tiny_model), "--task", task, "--all")


def test_a_pack_goes_round(line: Line, tiny_model: Path, task: str, tmp_path: Path) -> None:
    folder = str(tmp_path / "pack")
    made = line.json("pack", "export", task, folder)
    assert line.json("pack", "verify", folder)["digest"] == made["digest"]
    assert "nothing" not in line.text("pack", "add", folder)
    assert [pack["name"] for pack in line.json("pack", "list")] == ["colours"]
    by_name = line.json("evaluate", str(tiny_model), "--task", "colours")
    by_folder = line.json("evaluate", str(tiny_model), "--task", folder)
    accuracy = [m["value"] for m in by_name["measurements"] if m["name"] == "accuracy"]
    assert accuracy == [m["value"] for m in by_folder["measurements"] if m["name"] == "accuracy"]
    Path(folder, "README.md").write_text("changed", encoding="utf-8")
    assert "README.md is not what it was" in line.text("evaluate", str(tiny_model), "--task", folder, code=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"choices"', '"choice"'), "did you mean: choices"),
        (('"multiple_choice"', '"short_answer"'), "needs a model that can answer questions in words"),
        (('kind = "', 'knid = "'), "no setting 'knid'"),
    ],
)
def test_wrong_tasks_are_one_sentence(
    line: Line, tiny_model: Path, task: str, tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    write_task(tmp_path, TASK.replace(*change))
    error = line.text("evaluate", str(tiny_model), "--task", task, code=2)
    assert said in error
    assert "Traceback" not in error


def test_two_models_are_compared_on_a_task(line: Line, tiny_model: Path, task: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    weights = load_file(other / "model.safetensors")
    save_file({name: tensor * 0.9 for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"})
    both = (str(tiny_model), str(other))
    error = line.text("compare", *both, "--task", task, code=3)
    assert f"clerestory evaluate {tiny_model} --task {task}" in error
    for model in both:
        line.text("evaluate", model, "--task", task)
    run(["compare", *both, "--task", task, "--json", "--home", str(line.home)])
    found = json.loads(line.capsys.readouterr().out)
    assert {each["task"] for each in found["lines"]} == {"colours"}
    assert (found["a"], found["b"]) == both


def test_a_model_is_put_to_the_gate_on_the_data_of_a_task(
    line: Line, tiny_model: Path, task: str, tmp_path: Path
) -> None:
    digest = open_store(line.home).put_model(tiny_model)
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'name = "mine"\n[[rules]]\nname = "colours"\nmetric = "accuracy"\nat_least = 0.0\nwhy = "a test"\n'
        'where = { task = "colours", split = "test" }\n',
        encoding="utf-8",
    )
    gate = ("release", "gate", digest[:12], "--task", task, "--policy", str(policy), "--name", "mine")
    assert f"clerestory evaluate {digest[:12]} --task {task}" in line.text(*gate, code=3)
    run(["evaluate", digest, "--task", task, "--home", str(line.home)])
    assert f"next: clerestory release gate {digest[:12]} --task {task}" in line.capsys.readouterr().err
    assert line.json(*gate)["decision"]["verdict"] == "ship"
    assert line.json("release", "verify", "mine@1")["holds"]


def test_an_evaluation_without_a_number_is_undecided(line: Line, task: str) -> None:
    with endpoint(always="refuses") as server:
        said = line.text("evaluate", server.ref, "--task", task, code=3)
    assert "Traceback" not in said


def test_without_a_release_the_fix_is_the_gate(line: Line, tiny_model: Path) -> None:
    digest = open_store(line.home).put_model(tiny_model)
    error = line.text("evaluate", "icons@live", "--parts", "retrieval", code=2)
    assert f"clerestory release gate {digest[:12]}" in error


def test_a_task_that_is_not_there_names_what_is_like_it(line: Line, tiny_model: Path, task: str) -> None:
    error = line.text("evaluate", str(tiny_model), "--task", task.replace("mine", "mien"), code=2)
    assert "mine.toml" in error
