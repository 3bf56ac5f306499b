"""The teacher's objective: an average of the model teaches it in the last share of the steps.

Shape suffixes: B pictures, C channels, S side, T tokens, D width, E shared space, N captions.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clerestory.models.model import ClerestoryModel
from clerestory.stages.train.config import Settings
from clerestory.stages.train.ema import early_decay, follow
from clerestory.stages.train.objectives.distillation_losses import (
    TokenPredictor,
    distil,
    masked_tokens,
    update_centre,
)
from clerestory.stages.train.objectives.objective import Objective, Part, StepContext
from clerestory.stages.train.objectives.selfsup_masked import cover, hidden_cells, statistics_kept
from clerestory.stages.train.objectives.unlabelled_sampler import Pool
from clerestory.stages.train.train_data import Material

if TYPE_CHECKING:
    from clerestory.stages.train.loop import Run


class Teacher(Objective):
    """Self-distillation from whole to part, and prediction of hidden tokens, late in training.

    The teacher is an average of the image tower and the projection. It is in every checkpoint, and in no saved model.

    Args:
        settings: of the run.
        material: what is learnt from.
        model: what the teacher starts as.
    """

    name = "teacher"
    centre_N: Tensor
    bank_NE: Tensor

    def __init__(self, settings: Settings, material: Material, model: ClerestoryModel) -> None:
        super().__init__()
        self.config, self.temperature = settings.config.self_supervision, settings.config.temperature
        self.first = round((1 - self.config.teacher) * settings.steps)
        self.pool = Pool(material, self.config.batch, model.config.image_size, settings.config.seed, self.name)
        self.tower = copy.deepcopy(model.image_tower).requires_grad_(False).eval()
        self.projection = copy.deepcopy(model.projection).requires_grad_(False).eval()
        self.predictor = TokenPredictor(model.config.width)
        self.cover_C = nn.Parameter(torch.zeros(3))
        with torch.no_grad():
            bank_NE = model.get_text_features(torch.from_numpy(material.train.texts_ME)[material.train.captions])
        self.register_buffer("bank_NE", bank_NE, persistent=False)
        self.register_buffer("centre_N", torch.zeros(len(bank_NE)))
        self._said_BE: Tensor | None = None

    def losses(self, step: StepContext) -> dict[str, Part]:
        """``distil`` and ``hidden`` in the last share of the steps, nothing before."""
        self._said_BE = None
        if step.number < self.first:
            return {}
        rows, epochs = self.pool.draw(step.number, step.ranks)
        device, random = step.pixels_BCSS.device, self.pool.random(step.number, "hidden")
        whole_BCSS = self.pool.view(rows, epochs, 0.0, "whole").to(device)
        part_BCSS = self.pool.view(rows, epochs, self.config.style, "part", part=True).to(device)
        with torch.no_grad():
            wanted_BTD, _ = self.tower(whole_BCSS)
            said_BE = self.projection.images(wanted_BTD).float()
            self._said_BE = step.ranks.gather(said_BE)
        hidden_BT = hidden_cells(len(rows), wanted_BTD.shape[1], self.config.hidden, random).to(device)
        with statistics_kept(step.model):
            seen_BE = step.model.get_image_features(part_BCSS).float()
            tokens_BTD, _ = step.model.image_tower(cover(whole_BCSS, hidden_BT, self.cover_C))
        told = distil(seen_BE, said_BE, self.bank_NE, self.centre_N, self.temperature, self.config.teacher_temperature)
        unseen = masked_tokens(self.predictor(tokens_BTD).float(), wanted_BTD.float(), hidden_BT)
        return {
            "distil": Part(told, self.config.teacher_weight),
            "hidden": Part(unseen, self.config.teacher_masked),
        }

    def after_step(self, run: Run) -> None:
        """The teacher follows the model."""
        decay = early_decay(self.config.teacher_decay, run.position.step)
        for mine, new in ((self.tower, run.model.image_tower), (self.projection, run.model.projection)):
            follow(mine.state_dict().values(), new.state_dict().values(), decay)
        if self._said_BE is not None:
            update_centre(self.centre_N, self._said_BE, self.bank_NE)
