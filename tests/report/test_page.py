"""What the page promises: it stands alone, says every number also as JSON, is safe, small and accessible."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.report.parsing import NUMBER, Parsed
from tests.report.world import World, make_data, make_world

from clerestory.core.codec import decode
from clerestory.core.evidence import Evidence
from clerestory.report import build, collect, render_html, render_json, render_markdown, report
from clerestory.report.render import _cell
from clerestory.store import open_store

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`|[x](javascript:alert(3))"


def tokens(text: str) -> set[str]:
    return {t.rstrip(",") for t in NUMBER.findall(text)}


def strings(value: Any) -> list[str]:
    """Every string and number of JSON data as text."""
    if isinstance(value, dict):
        return [s for k, v in value.items() for s in [k, *strings(v)]]
    if isinstance(value, list):
        return [s for item in value for s in strings(item)]
    return [str(value)]


def test_nothing_comes_from_elsewhere(html: str) -> None:
    page = Parsed(html)
    ids = {e.attributes["id"] for e in page.elements if "id" in e.attributes}
    for element in page.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            where = element.attributes.get(name)
            if where is None:
                continue
            assert where.startswith(("#", "data:image/")) or where == "icons-2.json", (element.tag, where)
            if where.startswith("#"):
                assert where[1:] in ids, f"a link to nowhere: {where}"
        assert not [a for a in element.attributes if a.startswith("on")]
    style = next(e for e in page.all("style")).text
    assert "url(" not in style
    assert "@import" not in style
    assert not page.all("script")
    assert not page.all("iframe")


def test_browser_is_told_to_load_nothing(html: str) -> None:
    policies = [e.attributes["content"] for e in Parsed(html).all("meta") if "http-equiv" in e.attributes]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'")


def test_small_without_pictures(world: World, tmp_path: Path) -> None:
    files = report(world.store, "icons@2", tmp_path)
    assert files.html.stat().st_size < 1_000_000
    assert "<img" not in files.html.read_text(encoding="utf-8")


def test_every_number_is_in_the_json(html: str, content: Any) -> None:
    known = {t for s in strings(content["shown"]) for t in tokens(s)}
    # Places in a list, and the words of the page itself, are no measurements.
    template = (Path(__file__).parents[2] / "src/clerestory/report/templates/report.html").read_text(encoding="utf-8")
    known |= tokens(re.sub(r"{%.*?%}|{{.*?}}", "", template))
    missing = {t for _, text in Parsed(html).visible() for t in tokens(text)} - known
    assert not missing


def test_every_measurement_has_interval_n_and_slice(world: World, content: Any) -> None:
    shown = {c["anchor"]: c for c in content["shown"]["chapters"]}
    anchors = ("retrieval", "slices", "captioning", "speed")
    for table in (f["table"] for anchor in anchors for f in shown[anchor]["figures"]):
        for row in table["rows"]:
            what, where, value, counted, *_ = row
            assert what
            assert where
            assert re.search(r"between .+ and |no interval: ", value), row
            assert re.search(r"n = \d", counted), row


def test_json_holds_the_evidence_itself(world: World, content: Any) -> None:
    for piece in content["known"]["evidence"]:
        evidence_id = piece.pop("id")
        piece.pop("changed")
        assert decode(Evidence, piece).id == evidence_id
        assert world.store.evidence(evidence_id) == decode(Evidence, piece)


def test_same_input_gives_same_bytes(world: World, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    first = report(world.store, "icons@2", tmp_path / "a", world.data)
    second = report(world.store, "icons@2", tmp_path / "b", make_data())
    assert first.html.read_bytes() == second.html.read_bytes()
    assert first.json.read_bytes() == second.json.read_bytes()


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    world = make_world(open_store(tmp_path / "home"), tmp_path / "scratch", make_data(HOSTILE), why=HOSTILE)
    data = collect(world.store, "icons@2", world.data)
    page = build(data)
    html = render_html(page, "icons-2.json")
    parsed = Parsed(html)
    assert not parsed.all("script")
    assert not [e for e in parsed.elements if "onerror" in e.attributes]
    assert {e.attributes["src"][:11] for e in parsed.all("img")} == {"data:image/"}
    assert HOSTILE in "".join(text for e, text in parsed.visible() if e.tag == "li")
    assert HOSTILE in json.dumps(json.loads(render_json(data, page)), ensure_ascii=False).replace('\\"', '"')
    card = render_markdown(page)
    assert "<script" not in card
    assert "<img" not in card


def test_figures_are_for_everybody(html: str) -> None:
    page = Parsed(html)
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    drawings = [e for e in page.all("svg") if e.attributes.get("aria-hidden") != "true"]
    assert len(drawings) >= 9
    for svg in drawings:
        title, desc = svg.attributes["aria-labelledby"].split()
        assert [e for e in page.all("title") if e.attributes.get("id") == title and e.text.strip()]
        assert [e for e in page.all("desc") if e.attributes.get("id") == desc and e.text.strip()]
    for figure in page.all("figure"):
        inner = [e for e in page.elements if figure in e.parents]
        assert {"figcaption", "details", "table", "svg"} <= {e.tag for e in inner}
    for image in page.all("img"):
        assert image.attributes["alt"].strip()
    headings = [int(e.tag[1]) for e in page.elements if re.fullmatch(r"h[1-6]", e.tag)]
    assert headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(headings, headings[1:], strict=False))


def test_drawings_stay_inside_their_box(html: str) -> None:
    page = Parsed(html)
    for svg in page.all("svg"):
        if svg.attributes.get("aria-hidden") == "true":
            continue
        _, _, width, height = (float(v) for v in svg.attributes["viewbox"].split())
        for e in (e for e in page.elements if svg in e.parents):
            at = {
                k: float(v) for k, v in e.attributes.items() if re.fullmatch(r"x[12]?|y[12]?|c[xy]|r|width|height", k)
            }
            xs = [v for k, v in at.items() if k in ("x", "x1", "x2", "cx")]
            ys = [v for k, v in at.items() if k in ("y", "y1", "y2", "cy")]
            if e.tag == "rect":
                xs, ys = [*xs, at["x"] + at["width"]], [*ys, at["y"] + at["height"]]
            if e.tag == "circle":
                xs, ys = [at["cx"] - at["r"], at["cx"] + at["r"]], [at["cy"] - at["r"], at["cy"] + at["r"]]
            if e.tag == "polyline":
                pairs = [p.split(",") for p in e.attributes["points"].split()]
                xs, ys = [float(x) for x, _ in pairs], [float(y) for _, y in pairs]
            assert all(-0.01 <= x <= width + 0.01 for x in xs), (svg.attributes, e)
            assert all(-0.01 <= y <= height + 0.01 for y in ys), (svg.attributes, e)
            if e.tag == "text":
                room = 6.0 * len(e.text)
                anchor = e.attributes.get("text-anchor", "start")
                left = at["x"] - {"start": 0.0, "middle": room / 2, "end": room}[anchor]
                assert left >= -0.01, e
                assert left + room <= width + 0.01, e


@pytest.mark.parametrize(("dark", "names"), [(False, "light"), (True, "dark")])
def test_words_can_be_read(dark: bool, names: str) -> None:
    """Text on paper and on cards has a contrast of at least 4.5 to 1 in both colour schemes."""
    css = (Path(__file__).parents[2] / "src/clerestory/report/style.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    tokens_ = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[1 if dark else 0]))

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for ground in ("paper", "card"):
        for words in ("ink", "soft", "sky", "yes", "no", "unsure"):
            high, low = sorted((light(tokens_[ground]), light(tokens_[words])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (names, ground, words)


@pytest.mark.parametrize(
    "text", ["[click](https://example.com)", "![x](https://example.com/pixel.png)", "a *bold* | cell", "`code`", "<b>"]
)
def test_foreign_text_is_not_markup_in_a_card(text: str) -> None:
    shown = _cell(f"before {text} after")
    assert re.sub(r"\\(?=[|`*\]])", "", shown).replace("&lt;", "<") == f"before {text} after"
    assert not re.search(r"(?<!\\)(?:\]\(|[|`*])|<", shown)
