"""Learning from captions: pictures belong to their texts, and captions follow from pictures.

Shape suffixes: B pictures, C channels, S side, E shared space, M texts, N captions, L caption positions.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from clerestory.models.model import ClerestoryModel
from clerestory.models.processor import ClerestoryProcessor
from clerestory.stages.train.losses import captioning, contrastive
from clerestory.stages.train.material import Material
from clerestory.stages.train.monitor.statistics import guessing_loss
from clerestory.stages.train.objectives.objective import Objective, Part, StepContext
from clerestory.stages.train.order import Keyed

BANK = 1  # what these random numbers are for


class Captions(Objective):
    """Contrastive and captioning loss, and the experts' load balance.

    Args:
        material: what is learnt from.
        model: its locked projection of the texts is used.
        processor: its tokenizer makes the captions' word ids.
    """

    name = "captions"
    texts_ME: Tensor
    bank_NE: Tensor
    bank_row_M: Tensor
    ids_ML: Tensor

    def __init__(self, material: Material, model: ClerestoryModel, processor: ClerestoryProcessor) -> None:
        super().__init__()
        train = material.train
        with torch.no_grad():
            texts_ME = model.get_text_features(torch.from_numpy(train.texts_ME))
        place_N = torch.arange(len(train.captions))
        bank_row_M = torch.full((len(train.words),), -1).scatter_(0, train.captions, place_N)
        self.cut = 0  # captions longer than the decoder reads
        for name, tensor in {
            "texts_ME": texts_ME,
            "bank_NE": texts_ME[train.captions],
            "bank_row_M": bank_row_M,
            "ids_ML": self._ids(material, model, processor.tokenizer),
        }.items():
            self.register_buffer(name, tensor, persistent=False)

    def losses(self, step: StepContext) -> dict[str, Part]:
        """``contrastive``, ``caption`` and, for a model with experts, ``balance``."""
        config, model, train = step.settings.config, step.model, step.material.train
        captions_B = train.caption_N[step.rows]
        learners = max(1, round(config.caption_share * len(step.rows)))
        ids_BL = self.ids_ML[captions_B[:learners]]
        ids_BL = ids_BL[:, : int((ids_BL != model.config.pad_token_id).sum(dim=1).max())]
        watching = step.watch.due(step.number)
        with step.watch.experts(model) if watching else nullcontext():
            out = model(step.pixels_BCSS, caption_ids=ids_BL)
        texts_BE = self.mixed_texts(step)
        if watching:
            step.watch.batch(train.pixels_NHWC, step.rows)
            guess = guessing_loss(
                len(step.rows), min(len(self.bank_NE), config.bank or len(self.bank_NE)), config.nested_weight
            )
            step.watch.contrast(out.image_embeds, texts_BE, captions_B, 1 / config.temperature, guess)
        if step.watch.thorough(step.number):
            step.watch.captions(model, out, ids_BL)
        bank_NE, own_B = self.others(step, captions_B)
        contrast = contrastive(
            out.image_embeds,
            texts_BE,
            bank_NE,
            own_B,
            model.config.nested_dims,
            config.temperature,
            config.nested_weight,
        )
        parts = {
            "contrastive": Part(contrast),
            "caption": Part(captioning(out.caption_logits, ids_BL, model.config.pad_token_id), config.caption_weight),
        }
        if out.balance_loss is not None:
            parts["balance"] = Part(out.balance_loss, config.balance_weight)
        return parts

    def others(self, step: StepContext, captions_B: Tensor) -> tuple[Tensor, Tensor]:
        """Captions to tell the pictures apart from ``(N, E)``, and each picture's own row among them."""
        most, own_B = step.settings.config.bank, self.bank_row_M[captions_B]
        if not 0 < most < len(self.bank_NE):
            return self.bank_NE, own_B
        random = np.random.default_rng([step.settings.config.seed, BANK, step.number])
        drawn = torch.from_numpy(random.choice(len(self.bank_NE), most, replace=False))
        chosen, places = torch.cat([own_B, drawn]).unique(return_inverse=True)
        return self.bank_NE[chosen], places[: len(own_B)]

    def mixed_texts(self, step: StepContext) -> Tensor:
        """Each picture's caption embedding, a share of them mixed with up to three of its keywords: ``(B, E)``."""
        train, share = step.material.train, step.settings.config.keywords
        texts_BE = self.texts_ME[train.caption_N[step.rows]].clone()
        chance_B6 = Keyed(step.settings.config.seed, "keywords").uniforms(
            np.full(len(step.rows), step.epoch), step.rows, 6
        )
        for i in np.flatnonzero(chance_B6[:, 0] < share):
            left = list(train.keywords[step.rows[i]])
            how_many, weight, *places = chance_B6[i, 1:].tolist()
            some = [left.pop(int(place * len(left))) for place in places[: 1 + int(3 * how_many)] if left]
            if some:
                texts_BE[i] = texts_BE[i] * weight + self.texts_ME[some].mean(dim=0)
        return torch.nn.functional.normalize(texts_BE, dim=-1)

    def _ids(self, material: Material, model: ClerestoryModel, tokenizer: PreTrainedTokenizerBase) -> Tensor:
        """Word ids of every text, padded, ``(M, L)``; rows that are no caption stay padding."""
        train, config = material.train, model.config
        ids_ML = torch.full((len(train.words), config.max_caption_tokens), config.pad_token_id)
        for row in train.captions.tolist():
            ids = tokenizer(train.words[row])["input_ids"]
            if len(ids) > config.max_caption_tokens:
                self.cut += 1
                ids = [*ids[: config.max_caption_tokens - 1], config.eos_token_id]
            ids_ML[row, : len(ids)] = torch.tensor(ids)
        return ids_ML
