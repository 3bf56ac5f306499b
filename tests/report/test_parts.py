"""The parts a report is made of: words, scales, curves, thumbnails."""

from __future__ import annotations

import base64
import io
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.report.parsing import Parsed
from tests.report.world import examples, make_data, training_log

from clerestory.core.codec import Tags
from clerestory.core.evidence import Interval, Measurement, Recipe
from clerestory.core.sample import Dataset
from clerestory.core.units import duration
from clerestory.report import format
from clerestory.report.examples import read_examples
from clerestory.report.svg.canvas import AxisScale, ceiling, ticks
from clerestory.report.svg.charts import ChartGroup, ChartRow, ChartSeries, curves, top_of, whiskers
from clerestory.report.thumbnails import MAX_BYTES, MAX_TOTAL_BYTES, ReportThumbnails
from clerestory.report.training import MAX_POINTS, read_log


def recall(value: float, low: float, high: float) -> Measurement:
    where = Tags(task="image_to_text", split="test")
    recipe = Recipe("share_at_most", "rank", where, "concept", 10)
    return Measurement(
        "recall@10", value, "share", 503, Interval(low, high, "cluster-t"), "", where, clusters=488, recipe=recipe
    )


def test_numbers_in_words() -> None:
    m = recall(0.5712, 0.5299, 0.6101)
    assert format.number(m) == "0.57, between 0.53 and 0.61"
    assert format.of_hundred(m) == "57 of 100, between 53 and 61"
    assert format.brief(m) == "57 (53–61)"
    assert format.counted(m) == "n = 503 in 488 concepts"
    narrow = recall(0.0184, 0.0141, 0.0228)
    assert format.number(narrow) == "0.018, between 0.014 and 0.023"
    assert format.of_hundred(narrow) == "1.8 of 100, between 1.4 and 2.3"
    wait = Measurement(
        "latency_p95", 14.23, "ms", 80, None, "80 rows are too few", Tags(task="latency", operation="describe")
    )
    assert format.number(wait) == "14.2\N{NO-BREAK SPACE}ms (no interval: 80 rows are too few)"
    assert format.slice_words(wait.slice) == "writing a caption"


def test_likeness_is_no_count() -> None:
    chrf = Measurement("chrf", 0.31, "share", 200, Interval(0.29, 0.33, "cluster-t"), recipe=Recipe("mean", "chrf"))
    assert format.of_hundred(chrf) == "0.31, between 0.29 and 0.33"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0.4 s"),
        (0.42, "0.42 s"),
        (8.26, "8.3 s"),
        (12.4, "12 s"),
        (42.4, "42 s"),
        (252, "4 min 12 s"),
        (270, "4 min 30 s"),
        (7500, "2 h 5 min"),
        (3600, "1 h"),
        (11_520, "3 h 12 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_times_lists_and_licences() -> None:
    assert format.when("2026-11-23T20:02:00+02:00") == "23 November 2026, 18:02 UTC"
    assert format.when("yesterday") == "yesterday"
    assert format.listing(["a", "b", "c"]) == "a, b and c"
    assert format.plural(1, "picture") == "1 picture"
    shared = ("CC-BY-SA-4.0", "CC-BY-NC-SA-3.0", "GPL-3.0-only", "ODbL-1.0", "MIT AND CC-BY-SA-4.0")
    free = ("MIT", "Apache-2.0", "CC-BY-4.0", "CC0-1.0", "OFL-1.1", "BSD-3-Clause", "")
    assert [licence for licence in shared + free if format.share_alike(licence)] == list(shared)


@settings(deadline=None, max_examples=60)
@given(st.floats(0, 1), st.floats(1e-3, 0.5))
def test_the_shown_interval_never_hides_its_width(value: float, half: float) -> None:
    low, high = max(0.0, value - half), min(1.0, value + half)
    shown = format.number(recall(value, low, high))
    ends = [float(t) for t in shown.split("between ")[1].split(" and ")]
    assert ends[0] == pytest.approx(low, abs=(high - low) / 2)
    assert ends[0] < ends[1]


@settings(deadline=None, max_examples=60)
@given(st.floats(1e-6, 1e6), st.integers(1, 8))
def test_axes_end_in_whole_steps(value: float, about: int) -> None:
    top = ceiling(value, about)
    assert top >= value * (1 - 1e-9)
    marks = ticks(0.0, top, about)
    assert marks[0] == 0
    assert len(marks) <= 3 * about + 2
    steps = {round((b - a) / top, 6) for a, b in zip(marks, marks[1:], strict=False)}
    assert len(steps) <= 2


@settings(deadline=None, max_examples=60)
@given(st.floats(-1e9, 1e9))
def test_scale_holds_what_is_outside(value: float) -> None:
    assert 10 <= AxisScale(0, 1, 10, 90)(value) <= 90


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.text(max_size=40), st.floats(0, 1e4), st.floats(0, 1e4), st.text(max_size=22)),
        min_size=1,
        max_size=9,
    ),
    st.booleans(),
)
def test_any_plot_stays_inside(rows: list[tuple[str, float, float, str]], bars: bool) -> None:
    marks = tuple(ChartRow(a, v, max(0.0, v - d), v + d, t, v / 2) for a, v, d, t in rows)
    groups = [ChartGroup("heading & <more>", marks)]
    svg = Parsed(str(whiskers("w", "title", "desc", groups, top_of(groups), "axis", bars)))
    width = float(svg.all("svg")[0].attributes["viewbox"].split()[2])
    for element in svg.all("line") + svg.all("circle"):
        for name in ("x1", "x2", "cx"):
            assert 0 <= float(element.attributes.get(name, "0")) <= width


def test_one_point_is_a_dot_and_no_line() -> None:
    svg = Parsed(str(curves("c", "title", "desc", [ChartSeries("only", ((5.0, 1.0),))], "step")))
    assert not svg.all("polyline")
    assert len(svg.all("circle")) == 1


def test_log_keeps_what_it_can_read() -> None:
    lines = [
        b'{"step": 1, "loss": 4.0}',
        b"{cut off",
        b'{"step": 2, "loss": NaN}',
        b"[1, 2]",
        b'{"step": 3, "loss": 2.0, "val_recall@10": 0.25, "val_recall@1": 0.1, "n": 96}',
        b'{"step": 3, "loss": 1.0}',
    ]
    read = read_log(b"\n".join(lines), early_step=2)
    assert read is not None
    assert read.losses[0].points == ((1, 4.0), (3, 1.0)), "a resumed run logs a step again: the last one counts"
    assert [s.name for s in read.validation] == ["val_recall@10", "val_recall@1"]
    assert {s.n for s in read.validation} == {96}
    assert (read.num_lines, read.num_unreadable) == (4, 2)
    assert read_log(b"") is None


def test_long_log_is_merged_and_says_so() -> None:
    read = read_log(training_log(steps=20_000))
    assert read is not None
    series = read.losses[0]
    assert len(series.points) <= MAX_POINTS
    assert series.values_per_point == math.ceil(2000 / MAX_POINTS)
    losses = [row["loss"] for row in map(json.loads, training_log(20_000).splitlines()) if "loss" in row]
    assert series.points[0][1] == pytest.approx(sum(losses[: series.values_per_point]) / series.values_per_point)


def test_examples_are_few_and_their_pictures_small() -> None:
    data = make_data()
    read = read_examples(examples(data), data)
    assert len(read.queries) == 2 * 2 * 3 * 2
    for example in read.queries:
        assert bool(example.thumbnail) == (example.task == "image_to_text"), (
            "a question in words does not show its answer"
        )
        for uri in filter(None, (example.thumbnail, *(n.thumbnail for n in example.neighbours))):
            content = base64.b64decode(uri.partition(",")[2])
            assert len(content) <= MAX_BYTES
            assert max(Image.open(io.BytesIO(content)).size) <= 96
    without = read_examples(examples(data), None)
    assert not any(e.thumbnail for e in without.queries)


def test_thumbnails_end_when_the_room_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data()
    monkeypatch.setattr("clerestory.report.thumbnails.MAX_TOTAL_BYTES", 2_000)
    thumbnails = ReportThumbnails()
    made = [thumbnails.of(sample, data.read) for sample in data]
    assert 0 < sum(len(uri) for uri in made) <= 2_000 < MAX_TOTAL_BYTES
    assert made.count("") > 0


def test_unreadable_picture_has_no_thumbnail() -> None:
    data = make_data()
    broken = Dataset("icons", data.samples, lambda _: b"not a picture")
    assert ReportThumbnails().of(broken.samples[0], broken.read) == ""
