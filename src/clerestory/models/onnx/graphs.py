"""The networks as ONNX graphs; needs torch and the extra ``onnx``.

Shape suffixes: B images or texts, C channels, H and W pixels, T tokens, D width, E shared space, L caption positions,
V vocabulary.
"""

# mypy: disable-error-code="no-untyped-call"
# torch leaves a few of the functions called here without types.

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clerestory.core.errors import CapabilityError
from clerestory.models.bert import Bert
from clerestory.models.decoder import CaptionDecoder
from clerestory.models.model import ClerestoryModel
from clerestory.models.onnx.folder import OPSET
from clerestory.models.photo.efficientnet import EfficientNetLite, SameConv
from clerestory.models.photo.photo_pixels import MAX_ASPECT, MULTIPLE, SHORT_SIDE

INSTALL = "pip install 'clerestory[onnx]'"
MAX_BATCH = 65_536  # of the declared range; nothing is allocated for it


class ImageGraph(nn.Module):
    """Pixels to embeddings and image tokens."""

    def __init__(self, network: ClerestoryModel) -> None:
        super().__init__()
        self.tower, self.projection = network.image_tower, network.projection

    def forward(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Unit rows ``(B, E)`` and tokens ``(B, T, D)``."""
        tokens_BTD, _ = self.tower(pixels_BCHW)
        return self.projection.project_images(tokens_BTD), tokens_BTD


class TextGraph(nn.Module):
    """Word pieces to unit rows, by mean pooling; always with a mask, as a graph has no branches."""

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Unit rows ``(B, E)``."""
        bert = self.bert
        states_BTD = bert.norm(bert.words(ids_BT) + bert.types.weight[0] + bert.positions.weight[: ids_BT.shape[1]])
        mask_B11T = mask_BT[:, None, None, :].bool()
        for layer in bert.layers:
            states_BTD = layer(states_BTD, mask_B11T)
        weight_BT1 = mask_BT[..., None].to(states_BTD.dtype)
        return F.normalize((states_BTD * weight_BT1).sum(dim=1) / weight_BT1.sum(dim=1), dim=-1)


class DecoderGraph(nn.Module):
    """Word ids and image tokens to the logits of the next word."""

    def __init__(self, decoder: CaptionDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, ids_BL: Tensor, tokens_BTD: Tensor) -> Tensor:
        """Logits ``(B, V)``."""
        logits_BLV: Tensor = self.decoder(ids_BL, tokens_BTD)
        return logits_BLV[:, -1]


class PhotoGraph(nn.Module):
    """Pixels of photographs to features and class logits."""

    def __init__(self, network: EfficientNetLite) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The last features, those of the levels below and the class logits."""
        last_BF, levels_BF = self.network.features(pixels_BCHW)
        return last_BF, levels_BF, self.network.logits(last_BF)


def image_graph(network: ClerestoryModel, file: Path) -> None:
    """Write the graph of the image tower and the projection: ``pixels`` to ``embeddings`` and ``tokens``."""
    side = network.config.image_size
    _write(
        ImageGraph(network),
        (torch.zeros(2, 3, side, side),),
        ({0: _batch()},),
        {"pixels": ["embeddings", "tokens"]},
        file,
    )


def text_graph(bert: Bert, max_tokens: int, file: Path) -> None:
    """Write the graph of the text tower: ``ids`` and ``mask`` to ``embeddings``."""
    batch, length = _batch(), torch.export.Dim("length", min=1, max=max_tokens)
    ids_BT = torch.ones(2, 7, dtype=torch.long)
    shapes = ({0: batch, 1: length}, {0: batch, 1: length})
    _write(TextGraph(bert), (ids_BT, ids_BT.clone()), shapes, {"ids": [], "mask": ["embeddings"]}, file)


def decoder_graph(network: ClerestoryModel, file: Path) -> None:
    """Write the graph of the caption decoder: ``ids`` and ``tokens`` to ``logits``."""
    config = network.config
    batch = _batch()
    length = torch.export.Dim("length", min=1, max=config.max_caption_tokens)
    args = (torch.ones(2, 5, dtype=torch.long), torch.zeros(2, config.grid**2, config.width))
    shapes = ({0: batch, 1: length}, {0: batch})
    _write(DecoderGraph(network.decoder), args, shapes, {"ids": [], "tokens": ["logits"]}, file)


def photo_graph(network: EfficientNetLite, file: Path) -> None:
    """Write the graph of the network for photographs: ``pixels`` to ``last``, ``levels`` and ``logits``.

    The sides of a photograph are multiples of 32, so that every layer with a stride sees an even number of pixels, and
    its padding does not depend on the size.
    """
    steps = MAX_ASPECT * SHORT_SIDE // MULTIPLE
    down, across = (MULTIPLE * torch.export.Dim(name, min=1, max=steps) for name in ("down", "across"))
    pixels = torch.zeros(1, 3, SHORT_SIDE, SHORT_SIDE + MULTIPLE)
    with _constant_padding():
        _write(PhotoGraph(network), (pixels,), ({2: down, 3: across},), {"pixels": ["last", "levels", "logits"]}, file)


def _batch() -> Any:
    return torch.export.Dim("batch", min=1, max=MAX_BATCH)


def _padded_conv(self: SameConv, input: Tensor) -> Tensor:
    """``SameConv`` for an even number of pixels."""
    total = max(self.kernel_size[0] - self.stride[0], 0)
    before, after = total // 2, total - total // 2
    if before == after:
        return F.conv2d(input, self.weight, self.bias, self.stride, before, 1, self.groups)
    padded = F.pad(input, (before, after, before, after))
    return F.conv2d(padded, self.weight, self.bias, self.stride, 0, 1, self.groups)


@contextmanager
def _constant_padding() -> Iterator[None]:
    original = SameConv.forward
    SameConv.forward = _padded_conv  # type: ignore[method-assign]  # for the time of the export
    try:
        yield
    finally:
        SameConv.forward = original  # type: ignore[method-assign]


def _write(
    module: nn.Module,
    args: tuple[Tensor, ...],
    shapes: Sequence[Mapping[int, Any]],
    names: Mapping[str, Sequence[str]],
    file: Path,
) -> None:
    """Export a module.

    Args:
        module: in evaluation mode.
        args: example inputs.
        shapes: the dimensions of each input that may vary.
        names: of the inputs, in order, with the outputs beside the last one.
        file: to write.

    Raises:
        CapabilityError: the extra ``onnx`` is missing, or the network has an operation that ONNX lacks.
    """
    try:
        import onnx  # noqa: F401  # the exporter needs both
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise CapabilityError("exporting a model needs the packages onnx and onnxscript", f"run: {INSTALL}") from error
    outputs = [output for each in names.values() for output in each]
    try:
        with _quiet(), torch.inference_mode(False), torch.no_grad():
            program = torch.onnx.export(
                module.eval(),
                args,
                dynamo=True,
                dynamic_shapes=tuple(shapes),
                input_names=list(names),
                output_names=outputs,
                opset_version=OPSET,
                verbose=False,
                external_data=False,
            )
            assert program is not None  # it is returned where no file is named
            program.save(str(file))
    except Exception as error:  # the exporter raises nothing more specific
        reason = " ".join(str(error).split())[:160]
        raise CapabilityError(
            f"the {type(module).__name__.removesuffix('Graph').lower()} network of this model cannot be exported to "
            f"ONNX: {reason}",
            "serve it with torch: install clerestory with all its dependencies",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings about packages that it does not need."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
