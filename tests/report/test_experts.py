"""The chapter about experts: what the card says, in words, as cells and as a table; nothing for a dense model."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.report.world import World

from clerestory.core.codec import Tags
from clerestory.report import report
from clerestory.report.chapters import experts
from clerestory.report.collect import collect
from clerestory.report.experts import read_experts
from clerestory.report.model import ReportData
from clerestory.report.page import build
from clerestory.report.render import render_json, render_markdown

TITLE = "Mixture of experts: what do its experts do?"
MAP = "experts-image_tower-blocks-1-mlp-style"


def layer(name: str, load: list[int], groups: dict[str, Any], dead: list[int] | None = None) -> dict[str, Any]:
    return {
        "layer": name,
        "load": load,
        "max_over_mean": max(load) * len(load) / sum(load),
        "dead": dead or [],
        "groups": {
            group: {"specialisation": told, "values": list(rows), "choices": list(rows.values())}
            for group, (told, rows) in groups.items()
        },
    }


def card(**more: Any) -> bytes:
    image = {"image": [100, 60, 40], "text": [0, 0, 0]}
    text = {"image": [0, 0, 0], "text": [10, 0, 10]}
    tower = layer(
        "image_tower.blocks.1.mlp",
        [100, 60, 40],
        {"style": (0.31, {"noto": [90, 10, 0], "<b>": [10, 50, 40]}), "modality": (0.0, image)},
    )
    words = layer(
        "decoder.blocks.0.mlp",
        [10, 0, 10],
        {"style": (0.02, {"noto": [5, 0, 5], "<b>": [5, 0, 5]}), "modality": (0.0, text)},
        [1],
    )
    return json.dumps({"layers": [tower, words], "images": 60, "split": "val", **more}).encode()


def test_the_answer_names_load_dead_experts_and_specialisation() -> None:
    found = experts.chapter(ReportData("icons@1", "m", experts=read_experts(card())))
    assert found is not None
    assert "The load of its 6 experts in 2 layers is not balanced" in found.answer
    assert "1.50 times the mean load" in found.answer
    assert "1 of them is dead" in found.answer
    assert "depends strongly on the style" in found.answer
    assert "60 pictures of the split val" in found.lead
    assert found.warnings == ("Expert 2 of block 1 of the caption decoder is dead: memory without use.",)
    (shown,), (rest,) = found.figures, found.more
    assert shown.name == MAP
    assert rest.title == "Expert choice by style: block 1 of the caption decoder"
    assert shown.table.rows == (
        ("<b>", "10.0", "50.0", "40.0"),
        ("Noto", "90.0", "10.0", "0.0"),
        ("all", "50.0", "30.0", "20.0"),
    )
    (table,) = found.tables
    assert table.rows[0] == ("block 2 of the image tower", "pictures", "3", "1.50", "none", "0.31")
    assert table.rows[1] == ("block 1 of the caption decoder", "texts", "3", "1.50", "2", "0.02")


def test_both_modalities_in_one_layer_are_a_group_of_their_own() -> None:
    rows = {"image": [40, 10], "text": [0, 10]}
    one = {"layers": [layer("blocks.0.mlp", [40, 20], {"modality": (0.4, rows)})], "images": 5, "split": ""}
    found = experts.chapter(ReportData("m", "m", experts=read_experts(json.dumps(one).encode())))
    assert found is not None
    assert [row[0] for row in found.figures[0].table.rows] == ["pictures", "texts", "all"]
    assert found.tables[0].rows[0][:2] == ("block 1 of the model", "pictures and texts")


def test_rare_values_are_added_up() -> None:
    many = {f"c{i:02}": [i, 1] for i in range(1, 40)}
    one = {"layers": [layer("blocks.0.mlp", [780, 39], {"class": (0.1, many)})], "images": 5, "split": ""}
    found = experts.chapter(ReportData("m", "m", experts=read_experts(json.dumps(one).encode())))
    assert found is not None
    rows = found.figures[0].table.rows
    assert len(rows) == experts.MAX_ROWS + 1
    assert rows[-2][0] == f"{39 - experts.MAX_ROWS + 1} others"


def with_card(world: World, content: bytes) -> None:
    (trained,) = world.store.find_evidence("train", model=world.final.model)
    artifacts = Tags({**trained.artifacts, "experts": world.store.blobs.put(content)})
    world.store.put_evidence(replace(trained, artifacts=artifacts, created="2026-11-25T09:00:00+00:00"))


def page_of(world: World, folder: Path) -> str:
    folder.mkdir()
    return report(world.store, world.final.ref, folder, world.data).html.read_text(encoding="utf-8")


def test_a_dense_model_has_no_such_chapter_and_a_sparse_one_is_drawn(own_world: World, tmp_path: Path) -> None:
    assert TITLE not in page_of(own_world, tmp_path / "dense")
    with_card(own_world, card())
    page = page_of(own_world, tmp_path / "sparse")
    start = page.index('<section id="experts"')
    section = page[start : page.index("</section>", start)]
    assert "&lt;b&gt;" in section
    assert "<b>" not in section
    cells = re.findall(r'<rect class="heat"[^>]*fill-opacity="([0-9.]+)"', section)
    assert len(cells) == 2 * 3 * 3
    assert max(map(float, cells)) == pytest.approx(0.45)
    data = collect(own_world.store, own_world.final.ref, own_world.data)
    assert f"## {TITLE}" in render_markdown(build(data))
    assert json.loads(render_json(data, build(data)))["known"]["experts"]["layers"][1]["dead"] == [1]


def test_a_damaged_card_is_named_and_the_page_made_without_it(own_world: World, tmp_path: Path) -> None:
    with_card(own_world, b'{"layers": [{}]}')
    page = page_of(own_world, tmp_path / "out")
    assert TITLE not in page
    assert "Not shown: experts" in page
