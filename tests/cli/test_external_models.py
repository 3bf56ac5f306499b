"""A Hugging Face model goes through the lifecycle on the command line, like one that was trained here."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support.task_files import write_quiz, write_task
from tests.support.tiny_hf import make_clip, make_llava

from clerestory.apps.loading import load_model
from clerestory.cli.main import run
from clerestory.models import open_reference
from clerestory.store import open_store

POLICY = """
name = "quiz"
[[rules]]
name = "correct answers"
metric = "accuracy"
where = { task = "colours", split = "test" }
at_least = 0.0
criterion = "value"
why = "people rely on the answers"
[[rules]]
name = "not worse than live"
metric = "accuracy"
where = { task = "colours", split = "test" }
no_worse_by = 0.9
compare_with = "live"
why = "no silent regressions"
"""


class Shell:
    """Runs commands in a folder and returns their output, and the commands that they suggest."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.suggested: list[str] = []

    def text(self, *arguments: str, code: int = 0) -> str:
        done = run(list(arguments))
        out, err = self.capsys.readouterr()
        assert done == code, out + err
        self.suggested = [line.removeprefix("next: ") for line in err.splitlines() if line.startswith("next: ")]
        return out if code in (0, 1, 3) and out else err

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.text(*arguments, "--json", code=code))

    def follow(self, code: int = 0) -> str:
        """Run the one command that was suggested last."""
        [command] = self.suggested
        return self.text(*shlex.split(command)[1:], code=code)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "home"))
    write_quiz(tmp_path, 24)
    write_task(tmp_path)
    (tmp_path / "policy.toml").write_text(POLICY, encoding="utf-8")
    return Shell(capsys)


QUIZ = ("--task", "mine.toml")
GATE = (*QUIZ, "--policy", "policy.toml", "--name", "quiz")


@pytest.mark.parametrize(("make", "kind"), [(make_clip, "clip"), (make_llava, "llava")])
def test_a_hugging_face_folder_is_evaluated_gated_released_reported_and_compared(
    shell: Shell, tmp_path: Path, make: Any, kind: str
) -> None:
    for seed in (0, 1):
        make(tmp_path / f"{kind}{seed}", seed=seed)
        (tmp_path / f"{kind}{seed}" / "README.md").write_text("not part of the model", encoding="utf-8")
        (tmp_path / f"{kind}{seed}" / "pytorch_model.bin").write_bytes(b"never read")
    first, second = f"hf:./{kind}0", f"hf:./{kind}1"
    digest = open_reference(first).digest

    shell.text("evaluate", first, *QUIZ)
    assert shell.suggested == [f"clerestory release gate {digest[:12]} --task mine.toml"]
    shell.follow(code=3)  # the included policy is about retrieval
    assert shell.json("release", "list") == [], "what cannot be decided takes no number"

    released = shell.json("release", "gate", first, *GATE)
    assert (released["number"], released["model"], released["decision"]["verdict"]) == (1, digest, "ship")
    shell.text("release", "gate", digest[:12], *GATE)
    shell.text(*shlex.split(shell.suggested[0].replace("...", "first"))[1:])
    assert digest in shell.text("release", "show", "quiz@live")
    assert shell.json("release", "verify", "quiz@live")["passed"]

    shell.text("evaluate", second, *QUIZ)
    other = shell.json("release", "gate", second, *GATE)
    assert (other["number"], [each["cause"] for each in other["decision"]["reasons"]][1]) == (2, "not_worse")
    assert shell.json("compare", second, "quiz@live", *QUIZ, "--margin", "0.9")["model_b"] == digest
    shutil.rmtree(tmp_path / f"{kind}0")
    assert shell.json("compare", "quiz@2", "quiz@live", *QUIZ, "--margin", "0.9")["model_b"] == digest
    for ref in (second, "quiz@live", digest[:12]):
        made = shell.json("report", ref, "--data", "quiz.csv", "--out", f"{ref.replace('/', '')}.html")
        content = json.loads(Path(made["json"]).read_text(encoding="utf-8"))
        assert content["model"] == (other["model"] if ref == second else digest)

    with open_store() as store:
        model, resolved = load_model(store, "quiz@live")
        names = set(store.model_files(digest))
    assert (model.digest, resolved.digest) == (digest, digest)
    assert "config.json" in names
    assert not names & {"README.md", "pytorch_model.bin"}


def test_a_folder_that_changes_later_does_not_change_its_release(shell: Shell, tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "clip")
    shell.text("evaluate", "./clip", *QUIZ)
    shell.text("release", "gate", "./clip", *GATE)
    released = open_reference("./clip").digest
    shutil.rmtree(folder)
    make_clip(folder, seed=5)
    with open_store() as store:
        assert load_model(store, "quiz@1")[0].digest == released
    undecided = shell.json("release", "gate", "./clip", *GATE, code=3)
    assert undecided["decision"]["model"] == open_reference("./clip").digest != released
    assert undecided["decision"]["reasons"][0]["cause"] == "not_measured"


def test_a_model_that_cannot_be_copied_keeps_its_evaluation_and_is_not_suggested(shell: Shell, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip")
    weights = tmp_path / "clip" / "model.safetensors"
    weights.rename(tmp_path / "weights.safetensors")
    weights.symlink_to(tmp_path / "weights.safetensors")
    found = shell.json("evaluate", "hf:./clip", *QUIZ)
    assert found["measurements"]
    shell.text("evaluate", "hf:./clip", *QUIZ)
    assert shell.suggested == []
    error = shell.text("release", "gate", "hf:./clip", *GATE, code=2)
    assert "outside the model folder" in error
