"""The report card: counts against a loop, information against scikit-learn, the picture well formed."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score
from tests.models.test_moe import filled, tokens
from tests.support.tiny_model import tiny_config
from torch import nn

from clerestory.core.errors import CapabilityError, DataError, NotFound
from clerestory.models import ClerestoryModel
from clerestory.models.moe import IMAGE, TEXT, MixtureOfExperts
from clerestory.models.moe.expert_report import ExpertCard, mutual_information, report_card
from clerestory.models.moe.heat_map import MOST_ROWS, heat_map, heat_maps

SVG = "{http://www.w3.org/2000/svg}"
STYLES = ["noto", "fx", "noto", "open", "fx"]


def test_choices_are_counted_by_group_without_padding() -> None:
    moe = filled(MixtureOfExperts(8, 12, 4, 2))
    batches, expected = [], np.zeros((3, 4), np.int64)
    names = ["noto", "fx", "open"]
    for seed in range(3):
        x, kept = tokens(5, 6, 8, seed=seed), torch.rand(5, 6, generator=torch.Generator().manual_seed(seed)) > 0.3
        batches.append(({"x_ND": x, "kept_N": kept}, {"style": STYLES}))
        for b in range(5):
            for t in range(6):
                if kept[b, t]:
                    for e in moe.route(x[b, t : t + 1]).experts_NK[0].tolist():
                        expected[names.index(STYLES[b]), e] += 1
    card = report_card(moe.train(), batches)
    assert moe.training
    assert not moe.counts_E.any()
    assert not moe._watchers
    assert card.values["style"] == ("noto", "fx", "open")
    assert np.array_equal(card.table("style", ""), expected)
    assert np.array_equal(card.load[""], expected.sum(0))
    assert card.max_over_mean("") == pytest.approx(expected.sum(0).max() / expected.sum(0).mean())
    kept = json.loads(json.dumps(card.to_dict()))
    assert kept["layers"][0]["groups"]["style"]["choices"] == expected.tolist()
    assert heat_map(ExpertCard.from_dict(kept), "style", "") == heat_map(card, "style", "")


def test_information_is_scikit_learns() -> None:
    random = np.random.default_rng(0)
    table = random.integers(0, 30, size=(4, 6))
    pairs = [(v, e) for v in range(4) for e in range(6) for _ in range(table[v, e])]
    assert mutual_information(table) == pytest.approx(normalized_mutual_info_score(*zip(*pairs, strict=True)))
    assert mutual_information(np.diag([5, 5, 5])) == pytest.approx(1.0)
    assert mutual_information(np.ones((3, 4), np.int64)) == pytest.approx(0.0, abs=1e-12)
    assert mutual_information(np.zeros((3, 4), np.int64)) == 0.0
    assert mutual_information(np.array([[1, 2, 3]])) == 0.0


def test_modalities_are_told_by_the_model_itself() -> None:
    moe = filled(MixtureOfExperts(4, 4, 4, 1))
    with torch.no_grad():
        moe.gate.weight.copy_(torch.eye(4) * 9)
    x = torch.stack([torch.eye(4)[[0, 1, 3]], torch.eye(4)[[0, 0, 3]]])
    modality = torch.tensor([IMAGE, IMAGE, TEXT]).expand(2, -1)
    card = report_card(moe, [({"x_ND": x, "modality_N": modality}, {})])
    assert card.values["modality"] == ("image", "text")
    assert card.table("modality", "").tolist() == [[3, 1, 0, 0], [0, 0, 0, 2]]
    assert card.specialisation("modality", "") > 0.5
    assert card.dead("") == (2,)
    assert card.kept("modality", "")["text"] == pytest.approx(1.0)
    assert 1.5 < card.kept("modality", "")["image"] < 2


def test_a_model_of_two_parts_has_a_card_for_each_layer() -> None:
    model = ClerestoryModel(tiny_config(experts=4, decoder_experts=2))
    inputs = {"pixel_values": tokens(5, 3, 32, 32), "caption_ids": torch.tensor([[1, 5, 2, 0], [1, 5, 6, 2]])}
    card = report_card(model, [(inputs, {"style": STYLES})])
    tower, words = "image_tower.blocks.0.mlp", "decoder.blocks.0.mlp"
    assert card.layers == (tower, words)
    assert card.load[tower].sum() == 5 * model.config.grid**2 * 2
    assert card.load[words].sum() == 7 * 2  # one of eight words is padding
    assert card.table("style", words).sum(1).tolist() == [6, 8, 0]  # the captions are those of the first two pictures


def test_what_cannot_be_graded_is_said() -> None:
    with pytest.raises(CapabilityError, match="no experts"):
        report_card(nn.Linear(2, 2), [])
    moe = MixtureOfExperts(4, 4, 4, 1)
    with pytest.raises(DataError, match="2 values for 3"):
        report_card(moe, [({"x_ND": torch.randn(3, 4)}, {"style": ["a", "b"]})])
    assert not moe._watchers
    card = report_card(moe, [({"x_ND": torch.randn(3, 4)}, {"style": ["a", "b", "c"]})])
    with pytest.raises(NotFound, match="style"):
        card.table("styles", "")
    with pytest.raises(NotFound, match="layer"):
        heat_map(card, "style", "x")


def test_the_picture_shows_every_share_and_escapes_its_labels() -> None:
    moe = filled(MixtureOfExperts(4, 4, 3, 1))
    card = report_card(moe, [({"x_ND": tokens(4, 10, 4)}, {"class": ["<b>&", "dog", "cat", "dog"]})])
    root = ElementTree.fromstring(heat_map(card, "class", ""))
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert "<b>&" in words
    assert len(list(root.iter(f"{SVG}rect"))) == (3 + 1) * 3
    dog = card.table("class", "")[card.values["class"].index("dog")]
    assert f"{100 * dog[0] / dog.sum():.0f} %" in words
    assert "busiest expert" in (root.findtext(f"{SVG}desc") or "")
    assert root.get("role") == "img"


def test_many_classes_are_added_up_in_one_row() -> None:
    moe = filled(MixtureOfExperts(4, 4, 3, 1))
    labels = [f"class {i}" for i in range(60)]
    card = report_card(moe, [({"x_ND": tokens(60, 2, 4)}, {"class": labels})])
    root = ElementTree.fromstring(heat_map(card, "class", ""))
    assert len(list(root.iter(f"{SVG}rect"))) == (MOST_ROWS + 1) * 3
    assert f"{60 - MOST_ROWS + 1} others" in [element.text for element in root.iter(f"{SVG}text")]


def test_several_maps_stand_below_one_another_in_one_file() -> None:
    moe = filled(MixtureOfExperts(4, 4, 3, 1))
    groups = {"class": ["dog", "cat", "dog"], "style": ["a", "b", "b"]}
    card = report_card(moe, [({"x_ND": tokens(3, 10, 4)}, groups)])
    root = ElementTree.fromstring(heat_maps(card, [("class", ""), ("style", "")]))
    inner = [element for element in root if element.tag == f"{SVG}svg"]
    assert [element.get("aria-label") for element in inner] == [
        "Which experts of  see which class",
        "Which experts of  see which style",
    ]
    _, _, width, height = map(int, root.attrib["viewBox"].split())
    below = int(inner[1].attrib["y"])
    assert int(inner[0].attrib["y"]) + int(inner[0].attrib["height"]) <= below
    assert below + int(inner[1].attrib["height"]) == height
    assert width == max(int(element.attrib["width"]) for element in inner)


def test_a_layer_that_knows_its_modality_tells_it() -> None:
    moe = filled(MixtureOfExperts(4, 4, 3, 1))
    moe.modality = TEXT
    card = report_card(moe, [({"x_ND": tokens(3, 10, 4)}, {})])
    assert card.table("modality", "").sum(1).tolist() == [0, 30]
