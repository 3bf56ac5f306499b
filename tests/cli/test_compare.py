"""``clerestory compare``: the answer on top, the exit codes, the page with the flipped pictures."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.report.parsing import Parsed
from tests.support.paired_rows import Columns, put_evaluation, put_model, rows

from clerestory.apps.datasets import add_dataset
from clerestory.cli.main import run
from clerestory.core.sample import Dataset
from clerestory.report import report
from clerestory.store import Store


@dataclass
class Desk:
    """A store with pictures and two models, and a place for pages."""

    store: Store
    data: Dataset
    place: Path
    a: str
    b: str

    def examined(self, a: Columns, b: Columns) -> None:
        for model, found in ((self.a, a), (self.b, b)):
            for i, sample in enumerate(self.data):  # the first rows are about pictures that are there
                found["sample"][i] = sample.id
            put_evaluation(self.store, model, found, data=self.data.digest)

    def run(self, *more: str) -> int:
        return run(["compare", self.a[:12], self.b[:12], "--data", "shapes", "--home", str(self.store.home), *more])


@pytest.fixture
def desk(store: Store, tmp_path: Path) -> Desk:
    folder = tmp_path / "shapes"
    folder.mkdir()
    for i in range(30):
        Image.new("RGB", (24, 24), (8 * i, 90, 255 - 8 * i)).save(folder / f"shape {i}.png")
    data = add_dataset(store, str(folder), "shapes")
    models = tmp_path / "models"
    return Desk(store, data, tmp_path, put_model(store, models, "a"), put_model(store, models, "b"))


@pytest.mark.parametrize(
    ("change", "n", "code", "said"),
    [
        ({"": (0.0, 0.3)}, 900, 0, "is better than"),
        ({"": (0.3, 0.0)}, 900, 1, "is worse than"),
        (
            {"": (0.15, 0.2)},
            90,
            3,
            "inconclusive at finding the caption of a picture (image to text), on concepts it never saw (test), needs ",
        ),
        (
            {},
            900,
            0,
            "no difference at finding the caption of a picture (image to text), on concepts it never saw (test)",
        ),
    ],
)
def test_the_first_line_is_the_answer_and_the_exit_code_says_the_same(
    desk: Desk,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, tuple[float, float]],
    n: int,
    code: int,
    said: str,
) -> None:
    desk.examined(rows(n, change=change, seed=3), rows(n))
    assert desk.run() == code
    shown = capsys.readouterr()
    assert said in shown.out.splitlines()[0]
    assert "next: clerestory compare" in shown.err


def test_json_has_every_number_and_the_answer(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.examined(rows(900, change={"": (0.02, 0.3)}), rows(900))
    assert desk.run("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "better"
    assert found["results"][0]["outcome"] == "better"
    assert found["results"][0]["only_a"] > found["results"][0]["only_b"] > 0
    assert found["flips"]


def test_without_an_evaluation_it_cannot_decide_and_names_the_command(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.run() == 3
    shown = capsys.readouterr().err
    assert f"cannot decide: {desk.a[:12]} was never evaluated here" in shown
    assert f"fix: clerestory evaluate {desk.a[:12]} --data shapes" in shown


def test_a_margin_of_zero_is_invalid_input(desk: Desk) -> None:
    desk.examined(rows(60), rows(60))
    assert desk.run("--margin", "0") == 2


def test_the_page_shows_intervals_and_flipped_pictures_and_needs_nothing_else(desk: Desk) -> None:
    a, b = rows(900, change={"twemoji": (0.4, 0.0), "noto": (0.0, 0.2)}), rows(900)
    a["rank"][:10], b["rank"][:10] = 400.0, 1.0
    a["query"][0] = b["query"][0] = "<script>alert(1)</script>"
    desk.examined(a, b)
    out = desk.place / "compare.html"
    desk.run("--report", str(out), "--quiet")
    page = out.read_text(encoding="utf-8")
    Parsed(page)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert page.count('src="data:image/webp') >= 6, "pictures of the samples that flipped"
    assert "rank 400" in page
    said = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert f"Is {desk.a[:12]} better than {desk.b[:12]}?" in said
    assert "Twemoji" in said
    known = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    whole = known["results"][0]
    assert f"{100 * whole['difference']:+.1f}".replace("-", "\N{MINUS SIGN}") in said


def test_a_drawing_puts_the_dot_where_the_difference_is(desk: Desk) -> None:
    desk.examined(rows(900, change={"": (0.0, 0.2)}), rows(900))
    out = desk.place / "compare.html"
    desk.run("--report", str(out), "--quiet")
    strip = re.search(r'<svg[^>]*aria-labelledby="strip-0-title.*?</svg>', out.read_text(encoding="utf-8"), re.DOTALL)
    assert strip is not None
    dot = float(re.search(r'<circle class="dot yes" cx="([\d.]+)"', strip[0])[1])  # type: ignore[index]  # or it fails
    zero = float(re.search(r'class="axis" x1="([\d.]+)"', strip[0])[1])  # type: ignore[index]  # or it fails
    assert dot > zero


def test_the_report_of_a_model_copes_with_its_comparisons(desk: Desk) -> None:
    desk.examined(rows(300, change={"": (0.0, 0.2)}), rows(300))
    assert desk.run() == 0
    files = report(desk.store, desk.a, desk.place / "report.html", desk.data)
    assert "comparison" in files.html.read_text(encoding="utf-8")
    assert np.isfinite(files.html.stat().st_size)
