"""Tasks and packs from the command line, with a real if untrained model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tests.support.endpoint import endpoint
from tests.support.task_files import TASK, write_quiz, write_task

from clerestory.cli.main import run
from clerestory.store import open_store


class Shell:
    """Runs commands and returns their output."""

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
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "home", capsys)


@pytest.fixture
def task(tmp_path: Path) -> str:
    write_quiz(tmp_path, 24)
    return str(write_task(tmp_path))


def test_a_task_alone_is_run_and_its_validity_checked(shell: Shell, tiny_model: Path, task: str) -> None:
    found = shell.json("evaluate", str(tiny_model), "--task", task)
    names = {(m["name"], m["slice"].get("condition", "")) for m in found["measurements"]}
    assert {("accuracy", ""), ("accuracy", "blind"), ("blind_gain", ""), ("blind_solvable", "")} <= names
    assert found["validity"]["colours/test"]["verdict"] in ("careful", "no")
    said = shell.text("evaluate", str(tiny_model), "--task", task)
    assert "Quality:" in said
    assert "Can these benchmarks be trusted?" in said
    assert len(said.splitlines()) < 60
    assert "contamination" in shell.text("evaluate", str(tiny_model), "--task", task, "--all")


def test_a_pack_goes_round(shell: Shell, tiny_model: Path, task: str, tmp_path: Path) -> None:
    folder = str(tmp_path / "pack")
    made = shell.json("pack", "export", task, folder)
    assert shell.json("pack", "verify", folder)["digest"] == made["digest"]
    assert "nothing" not in shell.text("pack", "add", folder)
    assert [pack["name"] for pack in shell.json("pack", "list")] == ["colours"]
    by_name = shell.json("evaluate", str(tiny_model), "--task", "colours")
    by_folder = shell.json("evaluate", str(tiny_model), "--task", folder)
    accuracy = [m["value"] for m in by_name["measurements"] if m["name"] == "accuracy"]
    assert accuracy == [m["value"] for m in by_folder["measurements"] if m["name"] == "accuracy"]
    Path(folder, "README.md").write_text("changed", encoding="utf-8")
    assert "README.md has changed" in shell.text("evaluate", str(tiny_model), "--task", folder, code=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"choices"', '"choice"'), "did you mean: choices"),
        (('"multiple_choice"', '"short_answer"'), "needs a model that can generate text"),
        (('kind = "', 'knid = "'), "no setting 'knid'"),
    ],
)
def test_an_invalid_task_is_an_error_of_one_sentence(
    shell: Shell, tiny_model: Path, task: str, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    write_task(tmp_path, TASK.replace(*change))
    error = shell.text("evaluate", str(tiny_model), "--task", task, code=2)
    assert message in error
    assert "Traceback" not in error


def test_two_models_are_compared_on_a_task(shell: Shell, tiny_model: Path, task: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    weights = load_file(other / "model.safetensors")
    save_file({name: tensor * 0.9 for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"})
    both = (str(tiny_model), str(other))
    error = shell.text("compare", *both, "--task", task, code=3)
    assert f"clerestory evaluate {tiny_model} --task {task}" in error
    for model in both:
        shell.text("evaluate", model, "--task", task)
    run(["compare", *both, "--task", task, "--json", "--home", str(shell.home)])
    found = json.loads(shell.capsys.readouterr().out)
    assert {each["task"] for each in found["results"]} == {"colours"}
    assert (found["a"], found["b"]) == both


def test_the_gate_decides_on_the_data_of_a_task(shell: Shell, tiny_model: Path, task: str, tmp_path: Path) -> None:
    digest = open_store(shell.home).put_model(tiny_model)
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'name = "mine"\n[[rules]]\nname = "colours"\nmetric = "accuracy"\nat_least = 0.0\nwhy = "a test"\n'
        'where = { task = "colours", split = "test" }\n',
        encoding="utf-8",
    )
    gate = ("release", "gate", digest[:12], "--task", task, "--policy", str(policy), "--name", "mine")
    assert f"clerestory evaluate {digest[:12]} --task {task}" in shell.text(*gate, code=3)
    run(["evaluate", digest, "--task", task, "--home", str(shell.home)])
    assert f"next: clerestory release gate {digest[:12]} --task {task}" in shell.capsys.readouterr().err
    assert shell.json(*gate)["decision"]["verdict"] == "ship"
    assert shell.json("release", "verify", "mine@1")["passed"]


def test_an_evaluation_without_a_measurement_is_undecided(shell: Shell, task: str) -> None:
    with endpoint(always="refuses") as server:
        said = shell.text("evaluate", server.ref, "--task", task, code=3)
    assert "Traceback" not in said


def test_without_a_release_the_remedy_is_the_gate(shell: Shell, tiny_model: Path) -> None:
    digest = open_store(shell.home).put_model(tiny_model)
    error = shell.text("evaluate", "icons@live", "--suites", "retrieval", code=2)
    assert f"clerestory release gate {digest[:12]}" in error


def test_an_unknown_task_names_similar_ones(shell: Shell, tiny_model: Path, task: str) -> None:
    error = shell.text("evaluate", str(tiny_model), "--task", task.replace("mine", "mien"), code=2)
    assert "mine.toml" in error
