"""The commands and the public names of stages come from their specs."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest

import clerestory as cl
from clerestory.cli import main, stage
from clerestory.cli.main import commands, run
from clerestory.core.codec import Tags
from clerestory.core.evidence import Cost, Evidence, Finding, Interval, Measurement, Subject
from clerestory.core.settings import Range, check_settings
from clerestory.core.stage import StageSpec, import_object, stages


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """Settings of a made-up stage.

    Attributes:
        strength: how hard to probe.
    """

    strength: Annotated[float, Range(0, 1)] = 0.5

    def __post_init__(self) -> None:
        check_settings(self)


def probe(model: Any, data: Any, config: ProbeConfig, store: Any, progress: Any) -> Evidence:
    """One measurement, the strength itself; above 0.9 a finding fails, and 0 measures nothing."""
    strength = Measurement("recall@10", config.strength, "share", len(data), Interval(0.0, 1.0, "t"))
    failed = Finding("CLR-E001", "error", "fail", "everywhere", "the probe was too strong", "lower strength")
    return Evidence(
        "probe",
        Subject(model=model.digest, data=data.digest),
        (strength,) if config.strength else (),
        (failed,) if config.strength > 0.9 else (),
        Cost(1.0, 1.0, 1.0),
        "2026-11-23T18:01:10+00:00",
    )


SPEC = StageSpec(
    kind="probe",
    label="probe",
    verb="probe",
    help="Probe a model.",
    order=55,
    run=f"{__name__}:probe",
    config=f"{__name__}:ProbeConfig",
    exports=Tags(probe=f"{__name__}:probe"),
)


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> Iterator[StageSpec]:
    """A made-up stage beside the real ones."""
    table = {**stages(), "probe": SPEC}
    commands.cache_clear()
    for place in (main, stage, importlib.import_module("clerestory.core.stage")):
        monkeypatch.setattr(place, "stages", lambda: table)
    yield SPEC
    commands.cache_clear()


def test_every_stage_with_a_verb_has_a_command() -> None:
    table = commands()
    for one in stages().values():
        if one.verb:
            assert table[one.verb].help == one.help
    order = list(table)
    assert order.index("train") < order.index("evaluate") < order.index("compare") < order.index("release")


def test_a_stage_without_a_module_of_its_own_gets_the_generic_command(
    spec: StageSpec, tiny_model: Path, task_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ("--home", str(tmp_path / "home"))
    arguments = ("probe", str(tiny_model), "--data", str(task_data), "--set", "strength=0.25")
    assert run([*arguments, "--json", *home]) == 0
    [measurement] = json.loads(capsys.readouterr().out)["measurements"]
    assert measurement["value"] == 0.25
    assert run([*arguments, *home]) == 0
    assert "recall@10" in capsys.readouterr().out
    assert run(["probe", str(tiny_model), "--data", str(task_data), "--set", "strength=0.95", *home]) == 1
    assert "the probe was too strong" in capsys.readouterr().out
    assert run(["probe", str(tiny_model), "--data", str(task_data), "--set", "strength=0", *home]) == 3
    capsys.readouterr()
    assert run(["probe", str(tiny_model), "--set", "strength=2", *home]) == 2
    assert "at least 0 and at most 1" in capsys.readouterr().err


def test_its_settings_are_listed_with_their_ranges(spec: StageSpec, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "--settings", "--json"]) == 0
    [setting] = json.loads(capsys.readouterr().out)
    assert setting == {
        "name": "strength",
        "default": "0.5",
        "meaning": "how hard to probe.",
        "accepts": "at least 0 and at most 1",
    }
    assert run(["train", "--settings"]) == 0
    assert "at least" in capsys.readouterr().out


def test_the_public_names_of_stages_are_reachable_from_the_package(spec: StageSpec) -> None:
    for one in stages().values():
        for name, path in one.exports.items():
            assert getattr(cl, name) is import_object(path), name
    for name in ("compare", "tune", "evaluate", "train", "report", "open_store", "probe"):
        assert callable(getattr(cl, name)), name
        assert callable(getattr(cl, name)), f"{name}, a second time"
        assert name in dir(cl)
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        _ = cl.evalute


@pytest.fixture
def task_data(tmp_path: Path) -> Path:
    from tests.support.images import solid_image

    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(solid_image((80 * number, 0, 0)))
    return folder
