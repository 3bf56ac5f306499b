"""The check-lists of CONTRIBUTING.md, carried out in a copy of the package.

Every addition is made exactly as its check-list says, with its code; then the product has to find and use it, the tests
that demand an entry in a page have to pass in the copy, and the existing files that were changed are those that the
check-list names: three at most.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.package_copy import ROOT, PackageCopy
from tests.test_new_stage import FILES as PALETTE
from tests.test_new_stage import FOLDER

GUIDE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
MAX_EXISTING_FILES = 3
ADDITIONS: dict[str, Callable[[PackageCopy, CheckList], None]] = {}


@dataclass(frozen=True)
class CheckList:
    """One section *Add a …*: the existing files to edit, the new ones, and the code by file."""

    edit: tuple[str, ...]
    new: tuple[str, ...]
    code: dict[str, str]


def check_lists() -> dict[str, CheckList]:
    found = {}
    for section in re.split(r"^### Add an? ", GUIDE, flags=re.M)[1:]:
        kind, _, text = section.partition("\n")
        blocks = re.findall(r"^```\w+\n(?:# |<!-- )([\w./-]+)(.*?)\n(.*?)^```$", text, re.M | re.S)
        found[kind] = CheckList(
            edit=tuple(re.findall(r"^- Edit `([^`]+)`", text, re.M)),
            new=tuple(re.findall(r"^- New `([^`]+)`", text, re.M)),
            code={path: code for path, _, code in blocks},
        )
    return found


CHECK_LISTS = check_lists()


def addition(kind: str) -> Callable[[Callable[[PackageCopy, CheckList], None]], None]:
    def register(add: Callable[[PackageCopy, CheckList], None]) -> None:
        ADDITIONS[kind] = add

    return register


def insert(copy: PackageCopy, todo: CheckList, path: str, before: str = "", after: str = "") -> None:
    """Put the code of a check-list before or after a place of an existing file; at its end without one."""
    code = todo.code[path]
    if before or after:
        copy.replace(path, before or after, code + before if before else after + code)
    else:
        copy.append(path, "\n" + code)


@addition("metric")
def _(copy: PackageCopy, todo: CheckList) -> None:
    insert(copy, todo, "src/clerestory/stats/metrics.py", after="_QUALITY = (\n")
    insert(copy, todo, "docs/reference/metrics.md", before="| `map` |")
    path = "src/clerestory/stages/evaluate/suites/retrieval/__init__.py"
    insert(copy, todo, path, before="        for group in (name for name in config.slice_by")


@addition("suite")
def _(copy: PackageCopy, todo: CheckList) -> None:
    path = "src/clerestory/stages/evaluate/suites/__init__.py"
    copy.replace(path, "    latency,\n", "    latency,\n    margin,\n")
    insert(copy, todo, path, before="    validity.SUITE,")


@addition("corruption")
def _(copy: PackageCopy, todo: CheckList) -> None:
    folder = "src/clerestory/data/corruptions"
    place = "from clerestory.data.corruptions.parameters import MIN_SIDE"
    line = "from clerestory.data.corruptions.posterise import posterise\n"
    copy.replace(f"{folder}/engine.py", place, line + place)
    insert(copy, todo, f"{folder}/engine.py", after='"saturate": digital.saturate,\n')
    copy.replace(f"{folder}/parameters.py", '"spatter", "saturate"', '"spatter", "saturate", "posterise"')
    insert(copy, todo, f"{folder}/parameters.py", before="        # factor and offset of the saturation")
    insert(copy, todo, "docs/reference/corruptions.md", before="\n## Guarantees")


@addition("page")
def _(copy: PackageCopy, todo: CheckList) -> None:
    path = "src/clerestory/web/app.py"
    copy.replace(path, "    images,\n", "    images,\n    licences,\n")
    insert(copy, todo, path, before='        Route("/evidence/{id}.json"')
    insert(copy, todo, "src/clerestory/web/templates/base.html", before="</nav>\n</div>")


@addition("verb")
def _(copy: PackageCopy, todo: CheckList) -> None:
    insert(copy, todo, "src/clerestory/cli/main.py", before='    "serve": Command(')
    insert(copy, todo, "README.md", before="| `clerestory train ")


@addition("policy rule")
def _(copy: PackageCopy, todo: CheckList) -> None:
    path = "src/clerestory/stages/release/policy.toml"
    insert(copy, todo, path)
    copy.replace(path, "version = 2", "version = 3")


@addition("loss")
def _(copy: PackageCopy, todo: CheckList) -> None:
    folder = "src/clerestory/stages/train"
    path = f"{folder}/objectives/contrastive.py"
    place = "from clerestory.stages.train.monitor.statistics import"
    copy.replace(path, place, f"from clerestory.stages.train.losses.hinge import hinge_loss\n{place}")
    insert(copy, todo, path, before="CONTRASTIVE_LOSSES: dict")
    copy.replace(
        path, '    "sigmoid": SigmoidContrastive,\n', '    "sigmoid": SigmoidContrastive,\n    "hinge": HardestHinge,\n'
    )
    copy.replace(f"{folder}/config.py", '"softmax", "sigmoid"]', '"softmax", "sigmoid", "hinge"]')
    copy.replace(f"{folder}/config.py", "``sigmoid`` (SigLIP);", "``sigmoid`` (SigLIP), ``hinge`` (VSE++);")
    page = "docs/reference/training-settings.md"
    copy.replace(page, "bank_softmax, softmax, sigmoid |", "bank_softmax, softmax, sigmoid, hinge |")
    copy.replace(page, "`sigmoid` (SigLIP);", "`sigmoid` (SigLIP), `hinge` (VSE++);")


@addition("finding code")
def _(copy: PackageCopy, todo: CheckList) -> None:
    path = "src/clerestory/data/findings.py"
    insert(copy, todo, path, before="\nCODES = (")
    copy.replace(path, "SPLIT_CONFLICT, UNKNOWN_SPLIT),", "SPLIT_CONFLICT, UNKNOWN_SPLIT, FEW_IMAGES),")
    insert(copy, todo, "docs/reference/findings.md", before="## Evaluation\n")


@addition("stage")
def _(copy: PackageCopy, todo: CheckList) -> None:
    insert(copy, todo, "pyproject.toml", before='"stage.release" =')
    entry = '<a id="clr-z001"></a>\n\n### CLR-Z001: few images\n\n*Information.* A few.\n\n**Fix:** add images.\n'
    copy.append("docs/reference/findings.md", f"\n{entry}")
    copy.replace(
        "README.md",
        "| `clerestory compare A B` |",
        "| `clerestory palette MODEL` | measures |\n| `clerestory compare A B` |",
    )
    for name, text in PALETTE.items():
        copy.write(f"{FOLDER}/{name}", text)


@addition("data source")
def _(copy: PackageCopy, todo: CheckList) -> None:
    insert(copy, todo, "pyproject.toml", before='"data.icons" =')
    insert(copy, todo, "docs/reference/data-formats.md", before="| the built-in icons |")


@dataclass(frozen=True)
class World:
    """The copy with all additions.

    Attributes:
        copy: the package with everything in it.
        changed, created: for each kind the existing files that it changed, and the new ones.
        said: the results of ``USE``.
    """

    copy: PackageCopy
    changed: dict[str, set[str]]
    created: dict[str, set[str]]
    said: dict[str, object]

    def table(self) -> str:
        rows = [f"| {kind} | {len(files)} | {', '.join(sorted(files))} |" for kind, files in self.changed.items()]
        return "\n".join(["| to add a | existing files | which |", "|---|---|---|", *rows])


USE = r"""
import json, sys
from pathlib import Path
import numpy as np
from starlette.testclient import TestClient
import clerestory as cl
from clerestory.apps.starter import add_starter
from clerestory.core.findings import finding_codes
from clerestory.data.corruptions import FAMILIES, corrupt
from clerestory.stages.release import gate, load_policy
from clerestory.stats.metrics import metric
from clerestory.web import create_app

said = {}
found = metric("mean_rank")
said["metric"] = [found.registered, found.title, found.unit, found.direction]
image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
said["levels"] = [len(np.unique(corrupt(image, "posterise", severity))) for severity in (1, 2, 3, 4, 5)]
said["family"] = [family for family, names in FAMILIES.items() if "posterise" in names]
code = finding_codes()["CLR-D023"]
said["code"] = [code.documentation, code.finding("here", "few", count=3).count]

store = cl.open_store(Path(sys.argv[1]))
data = cl.open_data("checkerboards")
said["data"] = [len(data), data.digest == cl.open_data("checkerboards").digest]
digest = add_starter(store)
model = cl.open_model(store.model_folder(digest))
evidence = cl.evaluate(model, data, cl.EvaluateConfig(suites=("retrieval", "margin")), store)
said["mean_rank"] = [m.value for m in evidence.measurements if m.name == "mean_rank"]
(margin,) = [m for m in evidence.measurements if m.name == "margin"]
said["margin"] = [margin.n, margin.interval is not None, margin.slice["split"]]
said["suites"] = [name for name in evidence.facts if name.startswith("suite.")]
said["wrong"] = store.verify_evidence(evidence.id)
decision = gate(digest, store, load_policy(), data.digest)
said["rule"] = [reason.outcome for reason in decision.reasons if reason.rule == "correct captions near the top"]

config = cl.TrainConfig(preset="tiny", steps=2, batch_size=8, loss="hinge", threads=1)
trained = cl.train(data, config, store)
said["trained"] = [(store.model_folder(trained.model) / "model.safetensors").is_file(), str(trained.model)]

with TestClient(create_app(store, data), base_url="http://127.0.0.1:8000") as client:
    page = client.get("/licences")
    said["page"] = [page.status_code, "CC0-1.0: 24" in page.text, 'href="/licences" aria-current' in page.text]
print(json.dumps(said))
"""
# The tests that demand something of an addition, such as an entry in a page.
DEMANDS = (
    "tests/core/test_findings.py",
    "tests/core/test_provenance.py::test_a_suite_depends_on_what_it_imports_and_on_no_other_suite",
    "tests/data/test_corruptions.py",
    "tests/stats/test_metrics.py",
    "tests/test_callers.py",
    "tests/test_docs.py::test_every_setting_of_a_training_run_has_its_line",
    "tests/test_docs.py::test_the_readme_has_every_verb",
    "tests/test_language.py::test_public_class_names_exist_once",
    "tests/test_layers.py",
)
# Of the corruptions those that are about the new one, or about all together.
SELECTED = "not test_corruptions or posterise or benchmark or page"


def digests(copy: PackageCopy) -> dict[str, str]:
    return {
        path.relative_to(copy.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in copy.root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    copy = PackageCopy.make(tmp_path_factory.mktemp("copy"))
    changed, created = {}, {}
    for kind, add in ADDITIONS.items():
        before, todo = digests(copy), CHECK_LISTS[kind]
        for path in todo.new:
            if path in todo.code:
                copy.write(path, todo.code[path])
        add(copy, todo)
        after = digests(copy)
        changed[kind] = {path for path in before if before[path] != after[path]}
        created[kind] = set(after) - set(before)
    copy.install()
    said = json.loads(copy.python(USE, str(tmp_path_factory.mktemp("home"))).stdout.splitlines()[-1])
    return World(copy, changed, created, said)


def test_every_check_list_is_walked() -> None:
    assert set(CHECK_LISTS) == set(ADDITIONS)


@pytest.mark.parametrize("kind", CHECK_LISTS)
def test_an_addition_changes_the_named_files_and_three_at_most(world: World, kind: str) -> None:
    todo = CHECK_LISTS[kind]
    assert world.changed[kind] == set(todo.edit), world.table()
    assert world.created[kind] == set(todo.new)
    assert len(world.changed[kind]) <= MAX_EXISTING_FILES, world.table()


def test_the_table_of_counts(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{world.table()}")  # noqa: T201 the counts are wanted in the log
    assert set(world.changed) == set(CHECK_LISTS)


def test_the_metric_has_a_title_and_is_measured(world: World) -> None:
    assert world.said["metric"] == [True, "Mean rank of the correct answer", "rank", "lower"]
    values = world.said["mean_rank"]
    assert len(values) == 2  # in both directions
    assert all(1 <= value <= 8 for value in values)


def test_the_suite_is_evidence_with_an_interval_that_can_be_recomputed(world: World) -> None:
    assert world.said["margin"] == [8, True, "test"]
    assert world.said["suites"] == ["suite.margin", "suite.retrieval"]
    assert world.said["wrong"] == []


def test_the_corruption_corrupts_more_and_more(world: World) -> None:
    assert world.said["levels"] == [32, 16, 8, 4, 2]
    assert world.said["family"] == ["extra"]


def test_the_page_answers_and_is_in_the_navigation(world: World) -> None:
    assert world.said["page"] == [200, True, True]


def test_the_verb_is_listed_and_runs(world: World, tmp_path: Path) -> None:
    assert "Count the images of a dataset." in world.copy.cli("--help").stdout
    done = world.copy.cli("count", "checkerboards", "--json", "--home", str(tmp_path))
    assert json.loads(done.stdout) == {"test": 8, "train": 12, "val": 4}


def test_the_rule_decides(world: World) -> None:
    assert world.said["rule"][0] in ("pass", "fail")


def test_the_loss_trains(world: World) -> None:
    assert world.said["trained"][0]


def test_the_finding_code_is_registered_and_documented(world: World) -> None:
    assert world.said["code"] == ["docs/reference/findings.md#clr-d023", 3]


def test_the_data_source_opens(world: World) -> None:
    assert world.said["data"] == [24, True]


def test_the_stage_has_its_command(world: World) -> None:
    assert "max_images" in world.copy.cli("palette", "--settings").stdout


def test_what_other_tests_demand_is_there(world: World) -> None:
    """The tests of the repository that look at every metric, code, corruption, setting and verb pass in the copy."""
    shutil.copytree(ROOT / "tests", world.copy.root / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", "-k", SELECTED, *DEMANDS]
    environment = world.copy.environment()
    done = subprocess.run(
        [sys.executable, *command], cwd=world.copy.root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
