"""The trained network of the vision-language model, after Hugging Face's conventions.

Shape suffixes: B images, C channels, H and W pixels, T image tokens, D tower width, E shared space, L caption
positions, V vocabulary.
"""

# mypy: disable-error-code="no-untyped-call"
# torch and transformers leave a few of the functions called here without types.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from clerestory.models.alignment import align_parameters
from clerestory.models.config import ClerestoryConfig
from clerestory.models.decoder import CaptionDecoder
from clerestory.models.image_tower import ImageTower, ResidualBlock
from clerestory.models.moe import MixtureOfExperts
from clerestory.models.processor import ClerestoryImageProcessor, ClerestoryProcessor
from clerestory.models.projection import Projection


@dataclass
class ClerestoryOutput(ModelOutput):
    """The outputs of a forward pass.

    Attributes:
        image_embeds: ``(B, E)`` unit rows.
        text_embeds: ``(N, E)`` unit rows; None without text embeddings.
        image_tokens: ``(B, T, D)``.
        caption_logits: ``(M, L, V)``; None without caption ids.
        balance_loss: load-balance loss of the experts; None for a dense model.
    """

    image_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    image_tokens: Tensor | None = None
    caption_logits: Tensor | None = None
    balance_loss: Tensor | None = None


class ClerestoryModel(PreTrainedModel):
    """Image tower, projection into the text tower's space, and caption decoder.

    The text tower is not part of it (see ``text_tower``): it is frozen, and its embeddings are inputs.
    """

    config_class = ClerestoryConfig
    base_model_prefix = "clerestory"
    main_input_name = "pixel_values"
    _no_split_modules = ["EncoderBlock", "ResidualBlock"]
    config: ClerestoryConfig

    def __init__(self, config: ClerestoryConfig) -> None:
        super().__init__(config)
        self.image_tower = ImageTower(config)
        self.projection = Projection(config.width, config.text_dim)
        self.decoder = CaptionDecoder(config)
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, with aligned weights: a loaded model computes the same bits as the saved one."""
        loaded = super().from_pretrained(*args, **kwargs)
        align_parameters(loaded[0] if isinstance(loaded, tuple) else loaded)  # a tuple with output_loading_info
        return loaded

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Truncated normal for matrices, Kaiming for convolutions, identity for residual blocks and rotation."""
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            init.trunc_normal_(module.weight, std=std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Embedding):
            init.trunc_normal_(module.weight, std=std)
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            if isinstance(module, nn.BatchNorm2d):
                # Optional in torch's types, always present with its defaults.
                init.zeros_(cast(Tensor, module.running_mean))
                init.ones_(cast(Tensor, module.running_var))
                init.zeros_(cast(Tensor, module.num_batches_tracked))
        elif isinstance(module, ImageTower):
            init.trunc_normal_(module.position_TD, std=std)
        elif isinstance(module, CaptionDecoder):
            init.trunc_normal_(module.position_LD, std=std)
        elif isinstance(module, MixtureOfExperts):
            module.reset(std, init)
        elif isinstance(module, Projection):
            init.trunc_normal_(module.image.weight, std=self.config.width**-0.5)
            init.copy_(module.rotation_EE, torch.eye(self.config.text_dim))
        elif isinstance(module, ResidualBlock):
            init.zeros_(module.norm2.weight)

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Unit rows ``(B, E)`` of images."""
        tokens_BTD, _ = self.image_tower(pixel_values)
        return self.projection.project_images(tokens_BTD)

    def get_text_features(self, text_embeddings: Tensor) -> Tensor:
        """Unit rows ``(B, E)`` of the text tower's embeddings."""
        return self.projection.project_texts(text_embeddings)

    def forward(
        self,
        pixel_values: Tensor,
        text_embeddings: Tensor | None = None,
        caption_ids: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> ClerestoryOutput:
        """Embed images; texts and caption logits too if their inputs are given.

        Args:
            pixel_values: ``(B, C, H, W)`` in -1..1.
            text_embeddings: the text tower's embeddings ``(N, E)``.
            caption_ids: ``(M, L)`` with M ≤ B: captions of the first M images.
            return_dict: accepted for Hugging Face callers; the result is always an output object.
        """
        tokens_BTD, image_balance = self.image_tower(pixel_values)
        logits_MLV, decoder_balance = None, None
        if caption_ids is not None:
            logits_MLV, decoder_balance = self.decoder.decode(caption_ids, tokens_BTD[: caption_ids.shape[0]])
        losses = [loss for loss in (image_balance, decoder_balance) if loss is not None]
        return ClerestoryOutput(
            image_embeds=self.projection.project_images(tokens_BTD),
            text_embeds=None if text_embeddings is None else self.projection.project_texts(text_embeddings),
            image_tokens=tokens_BTD,
            caption_logits=logits_MLV,
            balance_loss=torch.stack(losses).mean() if losses else None,
        )


AutoConfig.register("clerestory", ClerestoryConfig)
AutoModel.register(ClerestoryConfig, ClerestoryModel)
AutoImageProcessor.register(ClerestoryConfig, image_processor_classes={"pil": ClerestoryImageProcessor})
AutoProcessor.register(ClerestoryConfig, ClerestoryProcessor)
