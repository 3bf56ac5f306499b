"""Effective robustness from two tasks of one's own."""

from pathlib import Path

import pytest
from tests.support.colour_tiles import ColourModel, tile_image

from clerestory.core.errors import ConfigError
from clerestory.core.evidence import Evidence
from clerestory.stages.evaluate import EvaluateConfig, evaluate
from clerestory.stages.evaluate.tasks import load_task
from clerestory.stages.evaluate.tasks.items import open_task_data
from clerestory.stats.robustness import effective_robustness
from clerestory.store import Store

COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "brown", "pink")


def make_task(folder: Path, name: str, benchmark: str, wrong: int) -> str:
    """Forty tiles, ``wrong`` of which are labelled with another colour than they show."""
    folder.mkdir(exist_ok=True)
    lines = ["image,kind,split"]
    for i in range(40):
        shown, told = COLOURS[i % 8], COLOURS[(i + (i < wrong)) % 8]
        (folder / f"{name}{i}.png").write_bytes(tile_image(shown, "plain", i))
        lines.append(f"{name}{i}.png,{told},test")
    (folder / f"{name}.csv").write_text("\n".join(lines), encoding="utf-8")
    text = f'name = "{name}"\nkind = "zero_shot"\ndata = "{name}.csv"\nlabel = "kind"\nbenchmark = "{benchmark}"\n'
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return str(folder / f"{name}.toml")


def examined(store: Store, *files: str) -> Evidence:
    data = open_task_data(load_task(Path(files[0])))
    return evaluate(ColourModel(), data, EvaluateConfig(suites=("tasks",), tasks=files), store)


def test_accuracy_beyond_the_line_of_public_models(store: Store, tmp_path: Path) -> None:
    files = make_task(tmp_path, "plain", "imagenet", 12), make_task(tmp_path, "moved", "imagenet_v2", 20)
    evidence = examined(store, *files)
    accuracy = {m.slice["task"]: m.value for m in evidence.measurements if m.name == "accuracy" and len(m.slice) == 2}
    assert accuracy == {"plain": pytest.approx(0.7), "moved": pytest.approx(0.5)}
    found = evidence.find("effective_robustness", {"task": "moved", "shift": "imagenet_v2"})
    assert found is not None
    expected = effective_robustness(0.7, 0.5, "imagenet_v2", 40, 40)
    assert (found.value, found.interval, found.n) == (expected.value, expected.interval, 40)
    assert "open_clip" in evidence.facts.text("effective_robustness.public_models")


def test_what_cannot_be_told_is_not(store: Store, tmp_path: Path) -> None:
    alone = examined(store, make_task(tmp_path, "moved", "imagenet_v2", 20))
    assert [f.message for f in alone.findings if f.code == "CLR-E052"][0].startswith("imagenet_v2 is a shift")
    low = examined(store, make_task(tmp_path, "low", "imagenet", 40), make_task(tmp_path, "other", "imagenet_r", 4))
    assert any(f.code == "CLR-E052" and "lies outside" in f.message for f in low.findings)
    assert not any(m.name == "effective_robustness" for m in (*alone.measurements, *low.measurements))
    with pytest.raises(ConfigError, match="imagenet_v3") as error:
        load_task(Path(make_task(tmp_path, "new", "imagenet_v3", 1)))
    assert "imagenet_v2" in error.value.closest
