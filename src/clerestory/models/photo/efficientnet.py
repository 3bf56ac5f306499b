"""EfficientNet-Lite, the convolutional network of the photo encoder, with batch normalisation folded into it.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019. The Lite variants
have ReLU6 and no squeeze-and-excitation (github.com/tensorflow/tpu, efficientnet/lite). For inference only.

Shape suffixes: B images, C channels, H and W pixels, F features, K classes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clerestory.models.uninitialised import Conv2d, Linear

STEM_CHANNELS = 32
NUM_FEATURES = 1280
NUM_CLASSES = 1000
CHANNEL_MULTIPLE = 8
BATCH_NORM_EPS = 1e-3


class Stage(NamedTuple):
    """Blocks with the same kernel, as in Table 1 of the paper; ``stride`` is that of the first one."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


@dataclass(frozen=True, slots=True)
class Variant:
    """A size of the network.

    Attributes:
        width: factor of the numbers of channels.
        depth: factor of the numbers of blocks.
        image_size: side of its training images, in pixels.
    """

    width: float
    depth: float
    image_size: int


VARIANTS = {"lite0": Variant(1.0, 1.0, 224), "lite2": Variant(1.1, 1.2, 260)}


class SameConv(Conv2d):
    """A convolution with TensorFlow's SAME padding: the output is ``ceil(input / stride)``, odd padding at the end."""

    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C', ceil(H / stride), ceil(W / stride))``."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, across = (max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in input.shape[-2:])
        if down % 2 == 0 and across % 2 == 0:
            return F.conv2d(input, self.weight, self.bias, self.stride, (down // 2, across // 2), 1, self.groups)
        padded = F.pad(input, (across // 2, across - across // 2, down // 2, down - down // 2))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, 1, self.groups)


class InvertedResidual(nn.Module):
    """A block: expansion, depthwise convolution, projection, and the input added if the shapes are equal."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        self.expand = SameConv(channels_in, inner, 1) if expansion > 1 else None
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.project = SameConv(inner, channels_out, 1)
        self.has_residual = stride == 1 and channels_in == channels_out

    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C', H / stride, W / stride)``."""
        inner = input if self.expand is None else F.relu6(self.expand(input), inplace=True)
        output: Tensor = self.project(F.relu6(self.depthwise(inner), inplace=True))
        return output.add_(input) if self.has_residual else output


class EfficientNetLite(nn.Module):
    """The network without batch normalisation, whose scale and shift are part of the convolutions.

    Args:
        variant: its size.
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM_CHANNELS, 3, 2)
        self.blocks = nn.ModuleList(InvertedResidual(*shape) for shape in _block_shapes(variant))
        last: InvertedResidual = self.blocks[-1]  # type: ignore[assignment]  # a ModuleList has modules of any kind
        self.head = SameConv(last.project.out_channels, NUM_FEATURES, 1)
        self.classifier = Linear(NUM_FEATURES, NUM_CLASSES)
        below = sum(channels for channels, _, _, _, stride in _block_shapes(variant) if stride > 1)
        self.level_features = 2 * below + last.project.out_channels

    def features(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Features of pixels in -1..1, averaged over the positions.

        Returns:
            The last features ``(B, F)``, each in 0..6, which the classifier is made for; and those of the levels below
            (B, ``level_features``): mean and standard deviation of the last block of each resolution, mean of the last
            block of all. They know colours and textures, which the classifier does not need.
        """
        levels = []
        x = F.relu6(self.stem(pixels_BCHW), inplace=True)
        for block in self.blocks:
            assert isinstance(block, InvertedResidual)  # a ModuleList has modules of any kind
            if block.depthwise.stride[0] > 1:
                std_BC, mean_BC = torch.std_mean(x, dim=(2, 3), correction=0)
                levels += [mean_BC, std_BC]
            x = block(x)
        levels.append(x.mean(dim=(2, 3)))
        return F.relu6(self.head(x), inplace=True).mean(dim=(2, 3)), torch.cat(levels, dim=1)

    def logits(self, features_BF: Tensor) -> Tensor:
        """Class logits ``(B, K)`` of features."""
        logits_BK: Tensor = self.classifier(features_BF)
        return logits_BK


def _block_shapes(variant: Variant) -> Iterator[tuple[int, int, int, int, int]]:
    """Input and output channels, expansion, kernel and stride of every block.

    The stem, the head and the numbers of blocks of the first and last stage are not scaled in the Lite variants.
    """
    channels = STEM_CHANNELS
    for number, stage in enumerate(STAGES):
        is_fixed = number in (0, len(STAGES) - 1)
        width = _round_channels(stage.channels * variant.width)
        for i in range(stage.blocks if is_fixed else math.ceil(stage.blocks * variant.depth)):
            yield channels, width, stage.expansion, stage.kernel, stage.stride if i == 0 else 1
            channels = width


def _round_channels(channels: float) -> int:
    """The nearest multiple of eight, at most 10 % less."""
    rounded = max(CHANNEL_MULTIPLE, int(channels + CHANNEL_MULTIPLE / 2) // CHANNEL_MULTIPLE * CHANNEL_MULTIPLE)
    return rounded + CHANNEL_MULTIPLE if rounded < 0.9 * channels else rounded


# Convolution and batch normalisation of the PyTorch package, and the name here.
_CONVOLUTIONS = (
    (r"_conv_stem", r"_bn0", "stem"),
    (r"_blocks\.(\d+)\._expand_conv", r"_blocks.{}._bn0", "blocks.{}.expand"),
    (r"_blocks\.(\d+)\._depthwise_conv", r"_blocks.{}._bn1", "blocks.{}.depthwise"),
    (r"_blocks\.(\d+)\._project_conv", r"_blocks.{}._bn2", "blocks.{}.project"),
    (r"_conv_head", r"_bn1", "head"),
)


def fold_batch_norm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of ``EfficientNetLite`` from those of the package ``efficientnet-lite-pytorch``.

    Args:
        weights: its ``state_dict``, with batch normalisation.
    """
    folded = {"classifier.weight": weights["_fc.weight"], "classifier.bias": weights["_fc.bias"]}
    for name, weight in weights.items():
        for convolution, batch_norm, target in _CONVOLUTIONS:
            if match := re.fullmatch(convolution + r"\.weight", name):
                norm, own = batch_norm.format(*match.groups()), target.format(*match.groups())
                scale = weights[f"{norm}.weight"].double() / torch.sqrt(
                    weights[f"{norm}.running_var"].double() + BATCH_NORM_EPS
                )
                shift = weights[f"{norm}.bias"].double() - weights[f"{norm}.running_mean"].double() * scale
                folded[f"{own}.weight"] = (weight.double() * scale[:, None, None, None]).float()
                folded[f"{own}.bias"] = shift.float()
    return folded
