"""The pages' Python blocks and command lines, run in a small world in the order of each page.

The world is a folder with coloured shapes as ``pictures/``, ``images/`` and so on, a store with four releases, and
tiny models in place of those that a page downloads. A line that trains or measures for minutes runs with more options,
which make it small (``SMALLER``); what does not run is listed with its reason (``NOT_RUN``). All lines are parsed by
their command in ``test_docs.py``.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from tests.support.images import shape_image
from tests.support.pages import GUIDES, ROOT, SHELLS, blocks, name_of
from tests.support.shapes import MORE_COLOURS, MORE_SHAPES
from tests.support.tiny_hf import make_clip, make_llava
from tests.support.tiny_model import make_tiny_model

from clerestory.apps.datasets import add_dataset
from clerestory.apps.starter import add_starter
from clerestory.cli.main import run
from clerestory.core.codec import Tags
from clerestory.core.extensions import names
from clerestory.core.files import cache_folder
from clerestory.core.release import Policy, Rule
from clerestory.models import open_model
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.release import gate, promote, register
from clerestory.store import open_store

SERVES = "serves until it is interrupted; tests/web/test_server.py runs it"
# Commands and pages that are not run, by the beginning of the line, with the reason.
NOT_RUN = {
    "watch drift --replay": "needs a history of months; tests/stages/watch/test_drift_log.py has one",
    "watch reference": "needs a release of this name; tests/apps/test_drift_live.py has one",
    "watch feedback": "needs a request log; tests/cli/test_watch_feedback.py has one",
    "watch corrections": "needs corrections; tests/apps/test_corrections.py has some",
    "watch trace": "needs a request log; tests/cli/test_watch_feedback.py has one",
    "watch requests": "needs a request log; tests/cli/test_watch_feedback.py has one",
    "watch erase": "needs a request log; tests/cli/test_watch_feedback.py has one",
    "watch deliver": "needs a receiver; tests/stages/watch/test_delivery.py has one",
    "watch incidents": "needs an incident; tests/web/test_incident_pages.py",
    "watch drill": "starts a server for half a minute; tests/apps/test_drill.py runs one",
    "evaluate icons@5 --task .clerestory/cases": "needs cases; tests/stages/watch/test_failure_cases.py has some",
    "release gate icons@5 --task .clerestory/cases": "needs failure cases, as the line before",
    "api-key rotate clr_": "the identifier of a key is drawn; tests/store/operations/test_api_keys.py rotates one",
    "api-key revoke clr_": "the identifier of a key is drawn; tests/store/operations/test_api_keys.py revokes one",
    "serve": SERVES,
    "evaluate openai:": "needs an endpoint; tests/models/test_openai.py has one",
    "use describe holiday.jpg --model openai:": "needs an endpoint; tests/models/test_openai.py has one",
    "train --data /shared/images": "needs eight devices; tests/stages/test_distributed.py runs two processes",
    "data shards images /shared/images": "a folder of all machines; tests/cli/test_data_shards.py writes shards",
    "release canary": "needs two releases; tests/web/test_rollout_served.py has them",
    "release rollback icons --rehearse": "needs two releases; tests/web/test_rollout_served.py has them",
    "release rollback icons --why captions": "needs two releases; tests/web/test_rollout_served.py has them",
    "release promote parts@1": "the policy here cannot decide; tests/cli/test_external_models.py promotes one",
    "release approve shoes@1 --key": "needs a registered key; tests/cli/test_approval.py has one",
    "store copy /shared/clerestory": "needs a server; tests/store/test_copying.py copies to PostgreSQL",
    "tune photos": "needs photographs with captions; tests/stages/tune/ has some",
    "tune hf:HuggingFaceTB": "a generative model takes minutes; tests/stages/tune/ has a tiny one",
}
SMALL_TRAINING = "--preset tiny --steps 2 --set batch_size=16 --set threads=1"
# More options for lines that begin like this, in place of the defaults; the longest beginning counts.
SMALLER = {
    "train": SMALL_TRAINING,
    "train --settings": "",
    "evaluate": "--suites retrieval",
    "evaluate hf:org/name --task": "",
    "evaluate hf:./my-clip --task": "",
    "evaluate icons@live --task": "",
    "evaluate MODEL --task": "",
    "tune": "--config small.toml",
}
IN_PLACE_OF = {
    "MODEL": "icons@3",
    "A": "icons@3",
    "B": "icons@2",
    "hf:org/name": "hf:./clip",
    "hf:./my-clip": "hf:./clip",
    "hf:openai/clip-vit-base-patch32": "hf:./clip",
    "hf:google/siglip2-base-patch16-224": "hf:./clip",
    "hf:HuggingFaceTB/SmolVLM-256M-Instruct": "hf:./llava",
    "~/photographs": "./photographs",  # without the dot it is a built-in dataset
    "~/photos": "./photos",
}
# Python blocks that are not run, by page and first line of the block.
NOT_RUN_PYTHON = {
    ("docs/reference/http-api.md", "from clerestory.data import open_data"): SERVES,
    (
        "docs/reference/latency-and-cost.md",
        "from clerestory.stages.evaluate.suites.latency.load import LoadConfig",
    ): "measures a server for half a minute; tests/stages/evaluate/test_load.py measures one for seconds",
}
SMALLER_PYTHON = {
    'TrainConfig(preset="nano")': 'TrainConfig(preset="tiny", steps=2, batch_size=16, threads=1)',
    "EvaluateConfig()": 'EvaluateConfig(suites=("retrieval",))',
}
# These say no or cannot decide by their exit code.
DECIDE, VERDICTS = ("evaluate", "compare", "release", "data audit"), (0, 1, 3)
FOLDERS = ("pictures", "images", "photos", "photographs", "my-images", "new-images", "earlier-images", "shapes")
POLICY = """
name = "small"
[[rules]]
name = "captions of unseen concepts"
metric = "recall@10"
where = { task = "image_to_text", split = "test" }
at_least = 0.01
criterion = "value"
"""
TASK = """
name = "colours"
kind = "yes_no"
data = "colours.csv"
question = "question"
answer = "answer"
licence = "CC0-1.0"
"""
TASK_PAGE = ROOT / "docs/how-to/your-own-task.md"  # its files are on other pages as well
# Files that have another content on one page.
OWN_FOLDERS = {"docs/how-to/learn-without-captions.md": "parts"}  # elsewhere ``parts`` is a task
OWN_FILES = {
    "docs/reference/policy.md": {"mine.toml": POLICY},
    "docs/how-to/approve-a-release.md": {"shoes.toml": POLICY + "[approval]\napprovals = 2\n"},
}


def write_shapes(folder: Path) -> Path:
    """96 coloured shapes with their captions in a table, with splits."""
    folder.mkdir(parents=True)
    rows = ["image,caption,concept,style,split"]
    for i, (colour, shape) in enumerate(product(MORE_COLOURS, MORE_SHAPES)):
        name, split = f"{colour}-{shape}.png", ("train", "train", "test", "train", "val", "test")[i % 6]
        (folder / name).write_bytes(shape_image(colour, shape, 3))
        rows.append(f"{name},a {colour} {shape},{colour} {shape},plain,{split}")
    (folder / "captions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder; copies of it are what pages run in."""
    folder = tmp_path_factory.mktemp("world")
    write_shapes(folder / "pictures")
    for name in FOLDERS[1:]:
        shutil.copytree(folder / "pictures", folder / name)
    for name in ("p1.jpg", "p2.jpg", "holiday.jpg", "photo.jpg"):
        (folder / name).write_bytes((folder / "pictures/red-circle.png").read_bytes())
    (folder / "small.toml").write_text(
        "steps = 2\nbatch_size = 8\nretention_samples = 16\nval_samples = 16\nnum_validations = 1\nthreads = 1\n",
        "utf-8",
    )
    rows = [f"pictures/red-circle.png,Is it {c}?,{'yes' if c == 'red' else 'no'},{c}" for c in MORE_COLOURS]
    (folder / "colours.csv").write_text("\n".join(["image,question,answer,concept", *rows]) + "\n", "utf-8")
    for name in ("colours.toml", "mine.toml", "parts.toml", "questions.toml"):
        (folder / name).write_text(TASK, encoding="utf-8")
    for name in ("shoes.toml", "parts-policy.toml"):
        (folder / name).write_text(POLICY, encoding="utf-8")
    write_files(TASK_PAGE, folder)
    make_clip(folder / "clip")
    make_llava(folder / "llava")
    _store(folder)
    return folder


def _store(folder: Path) -> None:
    """The releases ``icons@1`` to ``icons@4`` on a dataset called ``icons``; the starter, ``icons@3``, is live."""
    store = open_store(folder / ".clerestory")
    data = add_dataset(store, str(folder / "pictures"), "icons")
    for name in (each for each in FOLDERS if each not in names("data")):
        add_dataset(store, str(folder / name), name)
    rule = Rule("captions", "recall@10", Tags(task="image_to_text", split="test"), at_least=0.0, criterion="value")
    tiny = [store.put_model(make_tiny_model(folder / f"tiny-{seed}", data, seed)) for seed in (0, 1, 2)]
    for model in (*tiny[:2], add_starter(store), tiny[2]):
        evaluate(open_model(store.model_folder(model)), data, EvaluateConfig(suites=("retrieval",)), store)
        release = register("icons", gate(model, store, Policy("small", (rule,)), data.digest), store, "ann", "a test")
        if release.number < 4:
            promote(release.ref, store, "ann", "a test")
    store.close()


@pytest.fixture
def place(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the world as the current folder."""
    folder = tmp_path / "here"
    shutil.copytree(world, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("CLERESTORY_HOME", raising=False)
    monkeypatch.setenv("CLERESTORY_WHO", "ann")
    return folder


def write_files(page: Path, folder: Path) -> None:
    """The TOML and CSV files that a page shows, except for tables of images in a folder."""
    for block in blocks(page):
        if block.language in ("toml", "csv") and block.file and "/" not in block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
    for name, text in OWN_FILES.get(name_of(page), {}).items():
        (folder / name).write_text(text, encoding="utf-8")


def with_options(tokens: list[str], options: list[str]) -> list[str]:
    """The arguments with more options, each of which replaces its own kind; ``--set`` may be given several times."""
    for name in options[::2]:
        if name in tokens and name != "--set":
            at = tokens.index(name)
            tokens = tokens[:at] + tokens[at + 2 :]
    return tokens + options


def longest(beginnings: dict[str, str], line: str) -> str | None:
    matching = [each for each in beginnings if line.startswith(each)]
    return beginnings[max(matching, key=len)] if matching else None


WITH_COMMANDS = [page for page in GUIDES if any(list(block.commands()) for block in blocks(page))]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_the_lines_of_a_page_run(page: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_files(page, place)
    if name_of(page) in OWN_FOLDERS:
        shutil.copytree(place / "pictures", place / OWN_FOLDERS[name_of(page)])
    for block in blocks(page):
        for tokens in block.commands():
            line = " ".join(tokens)
            if longest(NOT_RUN, line) is not None:
                continue
            more = longest(SMALLER, line) or ""
            code = run(with_options([IN_PLACE_OF.get(token, token) for token in tokens], shlex.split(more)))
            out, err = capsys.readouterr()
            assert code in (VERDICTS if tokens[0] in DECIDE or " ".join(tokens[:2]) in DECIDE else (0,)), (
                f"clerestory {line} {more}: exit code {code}\n{out}{err}"
            )
            assert "Traceback" not in err


WITH_PYTHON = [
    page for page in GUIDES if page.name != "CONTRIBUTING.md" and any(b.language == "python" for b in blocks(page))
]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_python_blocks_of_a_page_run(page: Path, place: Path) -> None:
    names: dict[str, object] = {"image": np.full((64, 64, 3), 128, np.uint8)}
    for block in blocks(page):
        if block.language != "python" or (name_of(page), block.text.partition("\n")[0]) in NOT_RUN_PYTHON:
            continue
        code = block.text
        for large, small in SMALLER_PYTHON.items():
            code = code.replace(large, small)
        exec(compile(code, name_of(page), "exec"), names)


def test_what_is_not_run_is_on_a_page() -> None:
    """An entry of ``NOT_RUN`` that no page has any more is removed."""
    lines = [" ".join(tokens) for page in GUIDES for block in blocks(page) for tokens in block.commands()]
    assert [each for each in NOT_RUN if not any(line.startswith(each) for line in lines)] == []
    firsts = {(name_of(page), block.text.partition("\n")[0]) for page in GUIDES for block in blocks(page)}
    assert set(NOT_RUN_PYTHON) <= firsts


def test_the_first_lines_of_the_readme_and_those_after_the_demo_run_in_a_shell(place: Path) -> None:
    """As they stand, ``~/photos`` included; only ``make`` and ``serve`` are left out.

    Slow, because each line is a process that loads torch.
    """
    first, *later = (b.text for b in blocks(ROOT / "README.md") if b.language in SHELLS and "use search" in b.text)
    assert "make setup" in first
    assert "source .venv/bin/activate" in first
    assert "--data ~/photos" in first
    (place / ".venv").symlink_to(ROOT / ".venv")
    left_out = ("make ", "clerestory serve")
    script = "\n".join(line for line in "".join((first, *later)).splitlines() if not line.startswith(left_out))
    environment = {name: os.environ[name] for name in ("LANG",) if name in os.environ}
    environment |= {"HOME": str(place), "CLERESTORY_CACHE": str(cache_folder())}
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=place,
        env=environment | {"PATH": "/usr/bin:/bin", "CLERESTORY_WHO": "ann"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("confidence") == 3
    assert "coffee.png" in done.stdout
    assert "icons@3" in done.stdout
    assert (place / ".clerestory/reports/icons-3.html").exists()
