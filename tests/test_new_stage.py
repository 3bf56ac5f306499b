"""A new stage touches one existing file: it is added to a copy of the package, and everything finds it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from tests.support.package_copy import PackageCopy

FOLDER = "src/clerestory/stages/palette"
FILES = {
    "__init__.py": '"""Measure how bright the images of a dataset are."""\n',
    "spec.py": '''"""What the rest of Clerestory needs to know about the palette stage."""

from clerestory.core.codec import Tags
from clerestory.core.stage import StageSpec

SPEC = StageSpec(
    kind="palette",
    label="palette",
    verb="palette",
    verb_past="measured for brightness",
    help="Measure how bright the images of a dataset are.",
    order=70,
    code_layers=("core", "data", "stats", "stages/palette"),
    gate_kinds=("palette",),
    command="clerestory palette {model}{data}",
    run="clerestory.stages.palette.run:measure_palette",
    config="clerestory.stages.palette.config:PaletteConfig",
    exports=Tags(measure_palette="clerestory.stages.palette.run:measure_palette"),
    chapters=("clerestory.stages.palette.chapter:chapter",),
    findings="clerestory.stages.palette.findings:CODES",
)
''',
    "config.py": '''"""The settings of the palette stage."""

from dataclasses import dataclass
from typing import Annotated

from clerestory.core.settings import Range, check_settings


@dataclass(frozen=True, slots=True)
class PaletteConfig:
    """What to measure.

    Attributes:
        max_images: the number of images, from the first.
    """

    max_images: Annotated[int, Range(1)] = 100

    def __post_init__(self) -> None:
        check_settings(self)
''',
    "findings.py": '''"""The finding codes of the palette stage."""

from clerestory.core.findings import FindingCode

FEW_IMAGES = FindingCode("CLR-Z001", "info", "few images", "warn", "add images")
CODES = (FEW_IMAGES,)
''',
    "metrics.py": '''"""The metrics of the palette stage."""

from clerestory.stats.metrics import Metric

METRICS = (Metric("brightness", "share", "none", "Brightness", "How bright the images are: 1 is white."),)
''',
    "run.py": '''"""The verb of the palette stage."""

from typing import Any

import numpy as np

from clerestory.core.codec import Facts, Tags, encode
from clerestory.core.digest import digest
from clerestory.core.evidence import Evidence, Recipe, Subject
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import environment_digest, metered, now, stage_code
from clerestory.core.sample import Dataset
from clerestory.data import decode_image
from clerestory.stages.palette.config import PaletteConfig
from clerestory.stages.palette.findings import FEW_IMAGES
from clerestory.stats.aggregate import measure
from clerestory.stats.rows import write_rows
from clerestory.store import Store


def measure_palette(
    model: Any, data: Dataset, config: PaletteConfig, store: Store, progress: Progress = QUIET
) -> Evidence:
    """Store the mean brightness of the images, 0 to 1, as evidence."""
    samples = list(data)[: config.max_images]
    with metered() as meter:
        bright = [float(np.asarray(decode_image(data.read(sample))).mean()) / 255 for sample in samples]
    rows = {
        "sample": np.array([sample.id for sample in samples], dtype=object),
        "concept": np.array([sample.concept or sample.id for sample in samples], dtype=object),
        "score": np.array(bright),
    }
    measured = measure(rows, Recipe("mean", "score", Tags(), "concept"), "brightness")
    evidence = Evidence(
        kind="palette",
        subject=Subject(
            model=model.digest,
            data=data.digest,
            code=stage_code("palette"),
            config=digest(encode(config)),
            environment=environment_digest(),
        ),
        measurements=(measured,),
        findings=(FEW_IMAGES.finding(data.name, f"{len(samples)} images", count=len(samples)),),
        cost=meter.cost,
        created=now(),
        rows=store.blobs.put(write_rows(rows)),
        facts=Facts(images=len(samples)),
    )
    store.put_evidence(evidence)
    return evidence
''',
    "chapter.py": '''"""The chapter of the palette stage."""

from clerestory.report.model import ReportData
from clerestory.report.view import Chapter


def chapter(data: ReportData) -> Chapter | None:
    """How bright are the images?"""
    held = data.of_kind("palette")
    if held is None:
        return None
    (measured,) = held.evidence.measurements
    answer = f"On average {measured.value:.0%} as bright as white (n = {measured.n})."
    return Chapter("palette", "How bright are the images?", "Brightness", order=90, answer=answer)
''',
}
DIGESTS = """
import json
from clerestory.core.provenance import stage_code
from clerestory.core.stage import stages
print(json.dumps({kind: stage_code(kind) for kind in stages()}))
"""


POLICY = """
name = "bright"
[[rules]]
name = "bright enough"
metric = "brightness"
evidence = "palette"
at_least = 0.2
"""


@dataclass(frozen=True)
class World:
    """The copy with the stage, a home and a folder of images; and the digests of all stages before and after."""

    copy: PackageCopy
    home: Path
    images: Path
    before: dict[str, str]
    after: dict[str, str]

    def cli(self, *arguments: str, check: bool = True) -> str:
        return self.copy.cli(*arguments, "--home", str(self.home), check=check).stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    copy = PackageCopy.make(tmp_path_factory.mktemp("copy"))
    copy.install()
    before = json.loads(copy.python(DIGESTS).stdout)
    for name, text in FILES.items():
        copy.write(f"{FOLDER}/{name}", text)
    copy.replace(
        "pyproject.toml",
        '"stage.release" =',
        '"stage.palette" = "clerestory.stages.palette.spec:SPEC"\n'
        '"metrics.palette" = "clerestory.stages.palette.metrics:METRICS"\n"stage.release" =',
    )
    copy.install()
    after = json.loads(copy.python(DIGESTS).stdout)
    images = tmp_path_factory.mktemp("images")
    for i, level in enumerate((40, 120, 200, 250)):
        Image.new("RGB", (64, 64), (level, level, level)).save(images / f"{i}.png")
        (images / f"{i}.txt").write_text(f"grey number {i}", encoding="utf-8")
    return World(copy, tmp_path_factory.mktemp("home"), images, before, after)


def test_it_touches_no_file_outside_its_folder_but_pyproject(world: World) -> None:
    assert world.copy.touched() == ["pyproject.toml"]


def test_no_other_stage_depends_on_it(world: World) -> None:
    assert len(world.before) >= 6
    assert {kind: code for kind, code in world.after.items() if kind != "palette"} == world.before
    assert "palette" in world.after


def test_it_has_a_command_evidence_a_chapter_and_a_gate(world: World, tmp_path: Path) -> None:
    assert "Measure how bright the images" in world.cli("--help")
    assert "max_images" in world.cli("palette", "--settings")
    stated = json.loads(world.cli("palette", "starter", "--data", str(world.images), "--set", "max_images=3", "--json"))
    (measured,) = stated["measurements"]
    assert measured["name"] == "brightness"
    assert measured["value"] == pytest.approx((40 + 120 + 200) / 3 / 255)
    assert measured["n"] == 3
    assert measured["interval"] is not None
    assert [finding["code"] for finding in stated["findings"]] == ["CLR-Z001"]

    out = tmp_path / "report.html"
    world.cli("report", "starter", "--out", str(out))
    page = out.read_text("utf-8")
    assert "How bright are the images?" in page
    assert "On average 47% as bright as white (n = 3)." in page

    policy = tmp_path / "bright.toml"
    policy.write_text(POLICY, encoding="utf-8")
    arguments = ("release", "gate", "starter", "--data", str(world.images), "--name", "bright", "--policy", str(policy))
    decided = json.loads(world.cli(*arguments, "--why", "a test", "--dry-run", "--json", check=False))
    assert "brightness" in json.dumps(decided)
    assert decided["reasons"][0]["cause"] in ("meets_bound", "below_minimum")


def test_a_bad_setting_is_refused_by_name(world: World) -> None:
    done = world.copy.cli("palette", "starter", "--set", "max_images=0", "--home", str(world.home), check=False)
    assert done.returncode == 2
    assert "max_images" in done.stderr
    assert "at least 1" in done.stderr


def test_its_names_are_reachable_from_the_package(world: World) -> None:
    code = "import clerestory as cl; print(cl.measure_palette.__name__, 'measure_palette' in dir(cl))"
    assert world.copy.python(code).stdout.split() == ["measure_palette", "True"]
    assert (
        "CLR-Z001"
        in world.copy.python("from clerestory.core.findings import finding_codes; print(list(finding_codes()))").stdout
    )
