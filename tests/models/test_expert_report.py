"""The expert report: counts against a loop, mutual information against scikit-learn."""

from __future__ import annotations

import json

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
from clerestory.models.moe.expert_report import ExpertReport, mutual_information, report_experts

STYLES = ["noto", "fx", "noto", "open", "fx"]


def test_choices_are_counted_by_group_without_padding() -> None:
    moe = filled(MixtureOfExperts(8, 12, 4, 2))
    batches, expected = [], np.zeros((3, 4), np.int64)
    names = ["noto", "fx", "open"]
    for seed in range(3):
        x, valid = tokens(5, 6, 8, seed=seed), torch.rand(5, 6, generator=torch.Generator().manual_seed(seed)) > 0.3
        batches.append(({"x_ND": x, "valid_N": valid}, {"style": STYLES}))
        for b in range(5):
            for t in range(6):
                if valid[b, t]:
                    for e in moe.route(x[b, t : t + 1]).experts_NK[0].tolist():
                        expected[names.index(STYLES[b]), e] += 1
    report = report_experts(moe.train(), batches)
    assert moe.training
    assert not moe.counts_E.any()
    assert not moe._routing_hooks
    assert report.values["style"] == ("noto", "fx", "open")
    assert np.array_equal(report.table("style", ""), expected)
    assert np.array_equal(report.load[""], expected.sum(0))
    assert report.max_over_mean("") == pytest.approx(expected.sum(0).max() / expected.sum(0).mean())
    saved = json.loads(json.dumps(report.to_dict()))
    assert saved["layers"][0]["groups"]["style"]["choices"] == expected.tolist()
    assert ExpertReport.from_dict(saved).to_dict() == report.to_dict()


def test_information_is_scikit_learns() -> None:
    random = np.random.default_rng(0)
    table = random.integers(0, 30, size=(4, 6))
    pairs = [(v, e) for v in range(4) for e in range(6) for _ in range(table[v, e])]
    assert mutual_information(table) == pytest.approx(normalized_mutual_info_score(*zip(*pairs, strict=True)))
    assert mutual_information(np.diag([5, 5, 5])) == pytest.approx(1.0)
    assert mutual_information(np.ones((3, 4), np.int64)) == pytest.approx(0.0, abs=1e-12)
    assert mutual_information(np.zeros((3, 4), np.int64)) == 0.0
    assert mutual_information(np.array([[1, 2, 3]])) == 0.0


def test_the_modality_of_a_layer_is_a_group() -> None:
    image, text = (filled(MixtureOfExperts(4, 4, 4, 1)) for _ in range(2))
    image.modality, text.modality = IMAGE, TEXT
    with torch.no_grad():
        for moe in (image, text):
            moe.gate.weight.copy_(torch.eye(4) * 9)

    class TwoTowers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.text = image, text

        def forward(self, images: torch.Tensor, texts: torch.Tensor) -> None:
            self.image(images)
            self.text(texts)

    images, texts = torch.eye(4)[[0, 1, 0, 0]], torch.eye(4)[[3, 3]]
    report = report_experts(TwoTowers(), [({"images": images, "texts": texts}, {})])
    assert report.values["modality"] == ("image", "text")
    assert report.table("modality", "image").tolist() == [[3, 1, 0, 0], [0, 0, 0, 0]]
    assert report.table("modality", "text").tolist() == [[0, 0, 0, 0], [0, 0, 0, 2]]
    assert report.dead("image") == (2, 3)
    assert report.effective_experts("modality", "text") == {"image": 0.0, "text": pytest.approx(1.0)}
    assert 1.5 < report.effective_experts("modality", "image")["image"] < 2


def test_a_group_that_decides_the_expert_has_a_high_specialisation() -> None:
    moe = filled(MixtureOfExperts(4, 4, 4, 1))
    with torch.no_grad():
        moe.gate.weight.copy_(torch.eye(4) * 9)
    x = torch.eye(4)[[0, 1, 3, 0, 0, 3]]
    report = report_experts(moe, [({"x_ND": x}, {"kind": ["a", "a", "b", "a", "a", "b"]})])
    assert report.table("kind", "").tolist() == [[3, 1, 0, 0], [0, 0, 0, 2]]
    assert report.specialisation("kind", "") > 0.5
    assert report.dead("") == (2,)


def test_a_model_of_two_parts_has_a_report_of_each_layer() -> None:
    model = ClerestoryModel(tiny_config(experts=4, decoder_experts=2))
    inputs = {"pixel_values": tokens(5, 3, 32, 32), "caption_ids": torch.tensor([[1, 5, 2, 0], [1, 5, 6, 2]])}
    report = report_experts(model, [(inputs, {"style": STYLES})])
    tower, words = "image_tower.blocks.0.mlp", "decoder.blocks.0.mlp"
    assert report.layers == (tower, words)
    assert report.load[tower].sum() == 5 * model.config.grid**2 * 2
    assert report.load[words].sum() == 7 * 2  # one of eight words is padding
    assert report.table("style", words).sum(1).tolist() == [6, 8, 0]  # the captions are those of the first two pictures


def test_a_report_that_cannot_be_made_is_an_error() -> None:
    with pytest.raises(CapabilityError, match="no experts"):
        report_experts(nn.Linear(2, 2), [])
    moe = MixtureOfExperts(4, 4, 4, 1)
    with pytest.raises(DataError, match="2 values for 3"):
        report_experts(moe, [({"x_ND": torch.randn(3, 4)}, {"style": ["a", "b"]})])
    assert not moe._routing_hooks
    report = report_experts(moe, [({"x_ND": torch.randn(3, 4)}, {"style": ["a", "b", "c"]})])
    with pytest.raises(NotFound, match="style"):
        report.table("styles", "")
    with pytest.raises(NotFound, match="layer"):
        report.table("style", "x")


def test_a_layer_that_knows_its_modality_tells_it() -> None:
    moe = filled(MixtureOfExperts(4, 4, 3, 1))
    moe.modality = TEXT
    report = report_experts(moe, [({"x_ND": tokens(3, 10, 4)}, {})])
    assert report.table("modality", "").sum(1).tolist() == [0, 30]
