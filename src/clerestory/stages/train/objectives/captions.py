"""Training on captions: a contrastive loss of images and texts, and a captioning loss.

Shape suffixes: B images, C channels, S side, T tokens, D width, E shared space, M texts, N captions, L caption
positions.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from clerestory.models.model import ClerestoryModel
from clerestory.models.processor import ClerestoryProcessor
from clerestory.stages.train.config import ResolvedConfig
from clerestory.stages.train.losses import autoregressive_inputs, cappa_inputs, linear_cross_entropy
from clerestory.stages.train.mixture import mixture_sizes
from clerestory.stages.train.objectives.contrastive import ContrastiveBatch, make_contrastive_loss
from clerestory.stages.train.objectives.grad_cache_step import micro_batched_backward
from clerestory.stages.train.objectives.objective import LossTerm, Objective, Precision, StepContext
from clerestory.stages.train.shuffle import SampleRng
from clerestory.stages.train.train_data import TrainData

LABEL_SMOOTHING = 0.1


class Captions(Objective):
    """Contrastive and captioning loss, and the load-balancing loss of the experts.

    Args:
        settings: of the run.
        train_data: of the run.
        model: its locked text projection is used.
        processor: its tokenizer makes the captions' token ids.

    Attributes:
        truncated: the number of captions longer than the decoder reads.
    """

    name = "captions"
    texts_ME: Tensor
    bank_NE: Tensor
    bank_row_M: Tensor
    ids_ML: Tensor

    def __init__(
        self, settings: ResolvedConfig, train_data: TrainData, model: ClerestoryModel, processor: ClerestoryProcessor
    ) -> None:
        super().__init__()
        train = train_data.train
        self.contrastive = make_contrastive_loss(settings.config)
        with torch.no_grad():
            texts_ME = model.get_text_features(torch.from_numpy(train.texts_ME))
        place_N = torch.arange(len(train.captions))
        bank_row_M = torch.full((len(train.texts),), -1).scatter_(0, train.captions, place_N)
        self.num_truncated = 0
        for name, tensor in {
            "texts_ME": texts_ME,
            "bank_NE": texts_ME[train.captions],
            "bank_row_M": bank_row_M,
            "ids_ML": self._token_ids(train_data, model, processor.tokenizer),
        }.items():
            self.register_buffer(name, tensor, persistent=False)

    def losses(self, step: StepContext) -> dict[str, LossTerm]:
        """``contrastive``, ``caption`` and, for a model with experts, ``balance``."""
        measured = step.instrumentation.is_check(step.number)
        with step.instrumentation.measure_experts(step.model) if measured else nullcontext():
            images_BE, tokens_BTD, balance = self.encode(step)
            terms = self.caption_loss(step, tokens_BTD, balance, self.num_captioned(step))
        return {"contrastive": LossTerm(self.contrastive_loss(step, images_BE)), **terms}

    def backward(self, step: StepContext, micro_batches: int, precision: Precision) -> dict[str, LossTerm]:
        """The contrastive loss sees the whole batch, however many micro-batches go through the model."""
        return micro_batched_backward(self, step, micro_batches, precision)

    def encode(self, step: StepContext) -> tuple[Tensor, Tensor, Tensor | None]:
        """The image embeddings ``(B, E)``, tokens ``(B, T, D)`` and the image tower's load-balancing loss."""
        tokens_BTD, balance = step.model.image_tower(step.pixels_BCSS)
        return step.model.projection.project_images(tokens_BTD).float(), tokens_BTD, balance

    def contrastive_loss(self, step: StepContext, images_BE: Tensor) -> Tensor:
        """The contrastive loss of the whole batch."""
        train, texts_BE = step.train_data.train, self.mixed_texts(step)
        captions_B = train.caption_N[step.rows].to(images_BE.device)
        bank_NE, bank_row_B = self.sample_bank(step, captions_B)
        if step.instrumentation.is_check(step.number):
            step.instrumentation.measure_batch(train.pixels_NHWC, step.rows)
            chance = self.contrastive.chance_loss(step.ranks.world_size * len(step.rows), len(bank_NE))
            step.instrumentation.measure_embeddings(images_BE, texts_BE, captions_B, self.contrastive.scale(), chance)
            if step.ranks.world_size == 1:  # a rank sees only its own captions
                others = len(bank_NE) if self.contrastive.uses_bank else len(set(captions_B.tolist()))
                step.instrumentation.measure_negatives(others - 1)
        dims = step.model.config.nested_dims
        loss: Tensor = self.contrastive(ContrastiveBatch(images_BE, texts_BE, bank_NE, bank_row_B, dims, step.ranks))
        return loss

    def num_captioned(self, step: StepContext) -> int:
        """The number of this process's images, the first ones, that the decoder is trained on; at least one.

        Supplementary images come last and are never among them.
        """
        config, world = step.settings.config, step.ranks.world_size
        target = max(world, round(config.caption_share * world * len(step.rows)))
        return step.ranks.shard_size(min(target, mixture_sizes(step.train_data, step.settings.batch_size, config)[0]))

    def num_tokens(self, step: StepContext, num_captioned: int) -> int:
        """The number of tokens that the decoder predicts for the first ``num_captioned`` images."""
        ids_BL = self.ids_ML[step.caption_rows(num_captioned)]
        return int((ids_BL[:, 1:] != step.model.config.pad_token_id).sum())

    def caption_loss(
        self, step: StepContext, tokens_BTD: Tensor, balance: Tensor | None, num_captioned: int
    ) -> dict[str, LossTerm]:
        """``caption`` of the first images and, for a model with experts, ``balance`` of both towers."""
        config, model = step.settings.config, step.model
        pad, terms = model.config.pad_token_id, {}
        balances = [] if balance is None else [balance]
        if num_captioned:
            ids_BL = self.ids_ML[step.caption_rows(num_captioned)]
            ids_BL = ids_BL[:, : int((ids_BL != pad).sum(dim=1).max())]
            if config.parallel_caption_share:
                generator = torch.Generator().manual_seed(
                    SampleRng(config.seed, "parallel").torch_seed(step.number, "step")
                )
                batch = cappa_inputs(
                    ids_BL, config.parallel_caption_share, generator, mask=model.decoder.mask_token_id, pad=pad
                )
                mask = batch.attention_mask()
            else:
                batch, mask = autoregressive_inputs(ids_BL, pad=pad), None
            hidden_BLD, decoder_balance = model.decoder.states(batch.inputs_BT, tokens_BTD[:num_captioned], mask)
            balances += [] if decoder_balance is None else [decoder_balance]
            caption = linear_cross_entropy(
                hidden_BLD, model.decoder.words.weight, batch.targets_BT, smoothing=LABEL_SMOOTHING
            )
            caption = caption * step.ranks.mean_weight(self.num_tokens(step, num_captioned))
            terms["caption"] = LossTerm(caption, config.caption_weight)
            if step.instrumentation.is_full_check(step.number):
                step.instrumentation.measure_captions(model, tokens_BTD, ids_BL)
        if balances:
            terms["balance"] = LossTerm(torch.stack(balances).mean(), config.balance_weight)
        return terms

    def on_export(self, model: ClerestoryModel) -> None:
        """Store the scale at which the model's similarities are logits."""
        model.config.logit_scale = self.contrastive.scale()

    def sample_bank(self, step: StepContext, captions_B: Tensor) -> tuple[Tensor, Tensor]:
        """The training captions used as negatives ``(N, E)``, and the row of each image's caption among them."""
        size, bank_row_B = step.settings.config.negatives_bank, self.bank_row_M[captions_B]
        if not 0 < size < len(self.bank_NE):
            return self.bank_NE, bank_row_B
        rng = SampleRng(step.settings.config.seed, "bank").generator(step.number, "step")
        sample = torch.from_numpy(rng.choice(len(self.bank_NE), size, replace=False)).to(bank_row_B.device)
        rows, places = torch.cat([step.ranks.gather(bank_row_B), sample]).unique(return_inverse=True)  # type: ignore[no-untyped-call]  # torch does not annotate it
        return self.bank_NE[rows], places[step.ranks.gathered_indices(bank_row_B)]

    def mixed_texts(self, step: StepContext) -> Tensor:
        """The embedding of a caption of each image, for some mixed with up to three of its keywords: ``(B, E)``."""
        train, prob = step.train_data.train, step.settings.config.keyword_prob
        texts_BE = self.texts_ME[step.caption_rows()].clone()
        uniform_B6 = SampleRng(step.settings.config.seed, "keywords").uniforms(
            np.full(len(step.rows), step.epoch), step.rows, 6
        )
        for i in np.flatnonzero(uniform_B6[:, 0] < prob):
            remaining = list(train.keywords[step.rows[i]])
            number, weight, *places = uniform_B6[i, 1:].tolist()
            keywords = [
                remaining.pop(int(place * len(remaining))) for place in places[: 1 + int(3 * number)] if remaining
            ]
            if keywords:
                texts_BE[i] = texts_BE[i] * weight + self.texts_ME[keywords].mean(dim=0)
        return torch.nn.functional.normalize(texts_BE, dim=-1)

    def _token_ids(self, train_data: TrainData, model: ClerestoryModel, tokenizer: PreTrainedTokenizerBase) -> Tensor:
        """Token ids of the captions that the decoder is trained on, padded, ``(M, L)``; other rows are all padding."""
        train, config = train_data.train, model.config
        ids_ML = torch.full((len(train.texts), config.max_caption_tokens), config.pad_token_id)
        for row in train_data.decoder_captions():
            ids = tokenizer(train.texts[row])["input_ids"]
            if len(ids) > config.max_caption_tokens:
                self.num_truncated += 1
                ids = [*ids[: config.max_caption_tokens - 1], config.eos_token_id]
            ids_ML[row, : len(ids)] = torch.tensor(ids)
        return ids_ML
