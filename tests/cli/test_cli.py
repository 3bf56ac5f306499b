"""The command line in processes of its own: the life of one model on a folder of images."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support import forked
from tests.support.images import solid_image

from clerestory.apps.datasets import load_dataset
from clerestory.cli.main import run as run_command
from clerestory.cli.output import Output
from clerestory.core.sample import Dataset
from clerestory.store import open_store

CLERESTORY = Path(sys.executable).with_name("clerestory")
TINY = "preset = 'tiny'\nsteps = 12\ncheckpoint_every = 4\n"


@dataclass(frozen=True)
class Shell:
    """A folder to run commands in."""

    folder: Path

    def environment(self) -> dict[str, str]:
        return {**os.environ, "CLERESTORY_HOME": str(self.folder / "home"), "CLERESTORY_WHO": "Ann", "NO_COLOR": "1"}

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = forked.run_command(*arguments, folder=self.folder, environment=self.environment())
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code).stdout)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, few_icons: Dataset) -> Shell:
    """A folder with some pictures in it and their captions in a spreadsheet."""
    folder = tmp_path_factory.mktemp("shell")
    pictures = folder / "pictures"
    pictures.mkdir()
    with (pictures / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption", "concept", "style", "split"])
        for i, sample in enumerate(few_icons):
            (pictures / f"{i}.png").write_bytes(few_icons.read(sample))
            table.writerow([f"{i}.png", sample.caption, sample.concept, sample.groups["style"], sample.split])
        (pictures / "broken.png").write_bytes(b"not a picture")
        table.writerow(["broken.png", "a broken thing", "broken", "noto", "train"])
    (folder / "tiny.toml").write_text(TINY, encoding="utf-8")
    return Shell(folder)


@pytest.fixture(scope="module")
def trained(shell: Shell) -> str:
    """The digest of a model trained for a few steps, interrupted once by Ctrl-C on the way."""
    shell.run("data", "add", "pictures", "--why", "to try it")
    arguments = [CLERESTORY, "train", "--data", "pictures", "--config", "tiny.toml"]
    with subprocess.Popen(
        arguments, cwd=shell.folder, env=shell.environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        runs = shell.folder / "home" / "runs"
        deadline = time.monotonic() + 120
        while not list(runs.glob("*/log.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    model: str = shell.json("train", "--data", "pictures", "--config", "tiny.toml")["model"]
    return model


def test_unreadable_images_are_listed(shell: Shell, trained: str) -> None:
    shown = shell.json("data", "show", "pictures")
    rows = (shell.folder / "pictures" / "captions.csv").read_text(encoding="utf-8").splitlines()
    broken = next(number for number, row in enumerate(rows) if row.startswith("broken.png"))
    unreadable = [f["where"] for f in shown["findings"] if f["code"] == "CLR-D001"]
    assert unreadable == [f"captions.csv, row {broken}"]
    assert unreadable[0] in shell.run("data", "show", "pictures").stdout
    assert shell.json("data", "list")[0]["samples"] == shown["samples"]


def test_a_model_goes_through_its_life(shell: Shell, trained: str) -> None:
    again = shell.run("train", "--data", "pictures", "--config", "tiny.toml")
    assert "the store already has this model" in again.stderr

    undecided = shell.json("release", "gate", trained, "--data", "pictures", "--dry-run", code=3)
    assert undecided["verdict"] == "cannot_decide"
    assert any("clerestory evaluate" in reason["command"] for reason in undecided["reasons"])

    evidence = shell.json("evaluate", trained[:12], "--data", "pictures", "--suites", "retrieval,captioning")
    assert all(m["n"] >= 1 and (m["interval"] or m["no_interval"]) for m in evidence["measurements"])

    refused = shell.json("release", "gate", trained, "--data", "pictures", "--name", "mine", code=1)
    assert refused["decision"]["verdict"] == "refuse"
    error = shell.run("release", "promote", "mine@1", "--why", "please", code=1).stderr
    assert "mine@1" in error

    policy = shell.folder / "easy.toml"
    policy.write_text(
        "name = 'easy'\n[[rules]]\nname = 'better than nothing'\nmetric = 'recall@10'\n"
        "where = { task = 'image_to_text', split = 'test' }\nat_least = 0.0\n",
        encoding="utf-8",
    )
    shipped = shell.json("release", "gate", trained, "--data", "pictures", "--name", "mine", "--policy", str(policy))
    assert (shipped["number"], shipped["who"]) == (2, "Ann")
    shell.run("release", "promote", "mine@2", "--why", "good enough to try")
    listed = shell.json("release", "list")
    (live,) = (r for r in listed if r["ref"] == "mine@2")
    assert (live["aliases"], live["made_live_by"], live["made_live_why"]) == (["live"], "Ann", "good enough to try")
    assert "Ann: good enough to try" in " ".join(shell.run("release", "show", "mine@live").stdout.split())
    assert shell.json("release", "verify", "mine@live")["passed"]

    chosen = ("--data", "pictures", "--model", "mine@live", "--limit", "5")
    similar = shell.json("use", "search", "--image", "pictures/0.png", *chosen)
    assert similar[0]["id"] == "0.png"
    assert similar[0]["score"] == pytest.approx(1, abs=1e-4)
    hits = shell.json("use", "search", "a", "cat", *chosen)
    assert len(hits) == 5
    done = shell.run(
        "use", "describe", "pictures/0.png", "pictures/broken.png", "--model", "mine@live", "--csv", "out.csv", code=1
    )
    assert "broken.png is skipped" in done.stderr
    assert "0.png" in (shell.folder / "out.csv").read_text(encoding="utf-8")

    files = shell.json("report", "mine@live", "--data", "pictures", "--out", "page.html")
    assert "mine@2" in Path(shell.folder / files["html"]).read_text(encoding="utf-8")


def test_a_flipped_byte_is_detected(shell: Shell, trained: str) -> None:
    weights = next((shell.folder / "home" / "models" / trained).glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(content)
    checks = shell.json("release", "verify", trained, code=1)
    assert any(weights.name in f["where"] + f["message"] for f in checks["findings"] if f["state"] == "fail")
    content[-1] ^= 1
    weights.write_bytes(content)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "did you mean: train"),
        (["release", "rolback"], "did you mean: rollback"),
        (["data", "add", "nowhere"], "nowhere"),
        (["data", "show", "nothing.csv"], "nothing.csv"),
        (["evaluate", "icons@9"], "icons@9"),
        (["train", "--config", "missing.toml"], "missing.toml"),
        (["train", "--config", "typo.toml"], "did you mean: steps"),
        (["train", "--nonsense"], "--nonsense"),
        (["use", "search", "cat", "--model", "nobody@live"], "nobody"),
        (["use", "search", "cat", "--image", "x.png"], "the query image x.png cannot be used: there is no such file"),
    ],
)
def test_invalid_input_is_one_sentence_with_the_remedy(shell: Shell, arguments: list[str], message: str) -> None:
    (shell.folder / "typo.toml").write_text("stepz = 3\n", encoding="utf-8")
    done = shell.run(*arguments, code=2)
    assert message in done.stderr
    assert "fix: " in done.stderr
    assert done.stdout == ""


def test_errors_are_json_too(shell: Shell) -> None:
    done = shell.run("evaluate", "icons@9", "--json", code=2)
    assert json.loads(done.stderr)["error"]["fix"]


def test_an_empty_folder_is_rejected(shell: Shell) -> None:
    (shell.folder / "empty").mkdir(exist_ok=True)
    assert "fix: " in shell.run("data", "add", "empty", code=2).stderr


def test_data_of_which_most_is_missing_ends_with_1_and_without_a_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(solid_image())
    rows = ["image,caption", "a.png,red", *(f"missing{i}.png,a thing" for i in range(999))]
    (tmp_path / "t.csv").write_text("\n".join(rows), encoding="utf-8")
    assert run_command(["data", "add", str(tmp_path / "t.csv"), "--home", str(tmp_path / "home")]) == 1
    printed = capsys.readouterr()
    assert "CLR-D020 t: 999 of 1,000 rows or images are left out, and 1 used" in printed.out
    assert "fix: correct the rows" in printed.err
    assert "next:" not in printed.err
    assert "CLR-D004 996 more (clerestory data show t)" in printed.out
    assert run_command(["data", "show", "t", "--home", str(tmp_path / "home")]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("does not exist; the row is skipped") == 101  # that of CLR-D020 has an example
    assert "CLR-D004 899 more (--json prints all of them)" in shown.out
    load_dataset(open_store(tmp_path / "home"), "t", Output())
    assert capsys.readouterr().err == "t has 1,000 warnings about its data: clerestory data show t\n"


@pytest.mark.parametrize(
    ("row", "fix"),
    [
        ("a.png,red,or,blue", "put texts with commas in quotes"),
        (",red", "name an image in the row"),
        ("../b.png,red", "name the copy in the row"),
        (f"a.png,{'red ' * 300}", "shorten them"),
    ],
)
def test_the_fix_of_a_row_is_that_of_its_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: str, fix: str
) -> None:
    for name in ("a.png", "c.png"):
        (tmp_path / name).write_bytes(solid_image())
    (tmp_path / "t.csv").write_text(f"image,caption\nc.png,a tile\n{row}\n", encoding="utf-8")
    run_command(["data", "add", str(tmp_path / "t.csv"), "--home", str(tmp_path / "home")])
    assert fix in capsys.readouterr().out


def test_the_name_of_a_built_in_dataset_is_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    assert run_command(["data", "add", str(folder), "--name", "icons", "--home", str(tmp_path / "home")]) == 2
    assert "'icons' is the name of a built-in dataset" in capsys.readouterr().err
