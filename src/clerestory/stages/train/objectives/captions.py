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
from clerestory.stages.train.config import Settings
from clerestory.stages.train.losses import autoregressive_inputs, cappa_inputs, linear_cross_entropy
from clerestory.stages.train.mixture import split_batch
from clerestory.stages.train.objectives.contrastive import Matching
from clerestory.stages.train.objectives.grad_cache_step import learn_in_pieces
from clerestory.stages.train.objectives.objective import Objective, Part, Precision, StepContext
from clerestory.stages.train.shuffle import Keyed
from clerestory.stages.train.train_data import Material

SMOOTHING = 0.1  # share of a word's target that is spread over all words


class Captions(Objective):
    """Contrastive and captioning loss, and the experts' load balance.

    Args:
        settings: of the run.
        material: what is learnt from.
        model: its locked projection of the texts is used.
        processor: its tokenizer makes the captions' word ids.
    """

    name = "captions"
    texts_ME: Tensor
    bank_NE: Tensor
    bank_row_M: Tensor
    ids_ML: Tensor

    def __init__(
        self, settings: Settings, material: Material, model: ClerestoryModel, processor: ClerestoryProcessor
    ) -> None:
        super().__init__()
        train = material.train
        self.matching = Matching(settings.config)
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
        measured = step.instrumentation.is_check(step.number)
        with step.instrumentation.measure_experts(step.model) if measured else nullcontext():
            images_BE, tokens_BTD, balance = self.look(step)
            parts = self.say(step, tokens_BTD, balance, self.learners(step))
        return {"contrastive": Part(self.match(step, images_BE)), **parts}

    def learn(self, step: StepContext, pieces: int, precision: Precision) -> dict[str, Part]:
        """The contrastive loss sees the whole batch, however many pieces go through the model."""
        return learn_in_pieces(self, step, pieces, precision)

    def look(self, step: StepContext) -> tuple[Tensor, Tensor, Tensor | None]:
        """The pictures' embeddings ``(B, E)`` and tokens ``(B, T, D)``, and the image tower's load-balance loss."""
        tokens_BTD, balance = step.model.image_tower(step.pixels_BCSS)
        return step.model.projection.images(tokens_BTD).float(), tokens_BTD, balance

    def match(self, step: StepContext, images_BE: Tensor) -> Tensor:
        """Contrastive loss of the whole batch."""
        train, texts_BE = step.material.train, self.mixed_texts(step)
        captions_B = train.caption_N[step.rows].to(images_BE.device)
        bank_NE, own_B = self.others(step, captions_B)
        if step.instrumentation.is_check(step.number):
            step.instrumentation.measure_batch(train.pixels_NHWC, step.rows)
            guess = self.matching.guess(step.ranks.world * len(step.rows), len(bank_NE))
            step.instrumentation.measure_embeddings(images_BE, texts_BE, captions_B, self.matching.scale(), guess)
        loss: Tensor = self.matching(images_BE, texts_BE, bank_NE, own_B, step.model.config.nested_dims, step.ranks)
        return loss

    def learners(self, step: StepContext) -> int:
        """How many of this process's pictures, its first ones, the caption decoder learns from; at least one.

        Never supplementary ones, which come last.
        """
        config, world = step.settings.config, step.ranks.world
        wanted = max(world, round(config.caption_share * world * len(step.rows)))
        return step.ranks.share(min(wanted, split_batch(step.material, step.settings.batch, config)[0]))

    def word_count(self, step: StepContext, learners: int) -> int:
        """How many words the decoder has to say for them."""
        ids_BL = self.ids_ML[step.material.train.caption_N[step.rows[:learners]]]
        return int((ids_BL[:, 1:] != step.model.config.pad_token_id).sum())

    def say(self, step: StepContext, tokens_BTD: Tensor, balance: Tensor | None, learners: int) -> dict[str, Part]:
        """``caption`` of the first pictures and, where there are experts, ``balance`` of both towers."""
        config, model = step.settings.config, step.model
        pad, parts = model.config.pad_token_id, {}
        losses = [] if balance is None else [balance]
        if learners:
            ids_BL = self.ids_ML[step.material.train.caption_N[step.rows[:learners]]]
            ids_BL = ids_BL[:, : int((ids_BL != pad).sum(dim=1).max())]
            if config.parallel_captions:
                random = torch.Generator().manual_seed(Keyed(config.seed, "parallel").torch_seed(step.number, "step"))
                batch = cappa_inputs(ids_BL, config.parallel_captions, random, mask=model.decoder.mask, pad=pad)
                seen = batch.may_see()
            else:
                batch, seen = autoregressive_inputs(ids_BL, pad=pad), None
            hidden_BLD, words = model.decoder.states(batch.inputs_BT, tokens_BTD[:learners], seen)
            losses += [] if words is None else [words]
            caption = linear_cross_entropy(
                hidden_BLD, model.decoder.words.weight, batch.targets_BT, smoothing=SMOOTHING
            )
            caption = caption * step.ranks.mean_weight(self.word_count(step, learners))
            parts["caption"] = Part(caption, config.caption_weight)
            if step.instrumentation.is_full_check(step.number):
                step.instrumentation.measure_captions(model, tokens_BTD, ids_BL)
        if losses:
            parts["balance"] = Part(torch.stack(losses).mean(), config.balance_weight)
        return parts

    def before_keep(self, model: ClerestoryModel) -> None:
        """Tell the model the scale at which its similarities are probabilities."""
        model.config.logit_scale = self.matching.scale()

    def others(self, step: StepContext, captions_B: Tensor) -> tuple[Tensor, Tensor]:
        """Captions to tell the pictures apart from ``(N, E)``, and each picture's own row among them."""
        most, own_B = step.settings.config.bank, self.bank_row_M[captions_B]
        if not 0 < most < len(self.bank_NE):
            return self.bank_NE, own_B
        random = Keyed(step.settings.config.seed, "bank").generator(step.number, "step")
        drawn = torch.from_numpy(random.choice(len(self.bank_NE), most, replace=False)).to(own_B.device)
        chosen, places = torch.cat([step.ranks.gather(own_B), drawn]).unique(return_inverse=True)  # type: ignore[no-untyped-call]  # torch leaves it without types
        return self.bank_NE[chosen], places[step.ranks.own(own_B)]

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
        """Word ids of the captions that the decoder learns, padded, ``(M, L)``; all other rows stay padding."""
        train, config = material.train, model.config
        ids_ML = torch.full((len(train.words), config.max_caption_tokens), config.pad_token_id)
        for row in material.decoder_captions():
            ids = tokenizer(train.words[row])["input_ids"]
            if len(ids) > config.max_caption_tokens:
                self.cut += 1
                ids = [*ids[: config.max_caption_tokens - 1], config.eos_token_id]
            ids_ML[row, : len(ids)] = torch.tensor(ids)
        return ids_ML
