"""Self-distillation: in the last share of the steps a moving average of the model supervises it.

Shape suffixes: B images, C channels, S side, T tokens, D width, E shared space, N captions.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from clerestory.models.model import ClerestoryModel
from clerestory.stages.train.config import ResolvedConfig
from clerestory.stages.train.ema import ema_update, ema_warmup
from clerestory.stages.train.objectives.distillation_losses import (
    TokenPredictor,
    distillation_loss,
    masked_token_loss,
    update_centre,
)
from clerestory.stages.train.objectives.objective import LossTerm, Objective, StepContext
from clerestory.stages.train.objectives.selfsup_masked import apply_mask, frozen_batch_norm_statistics, random_mask
from clerestory.stages.train.objectives.unlabelled_sampler import UnlabelledSampler
from clerestory.stages.train.train_data import TrainData

STREAM = "teacher"  # of the random numbers


class SelfDistillation(Objective):
    """Self-distillation from whole images to crops, and prediction of masked tokens, late in training.

    The teacher is a moving average of the image tower and the projection. It is in every checkpoint, but not in the
    exported models.

    Args:
        settings: of the run.
        train_data: of the run.
        model: the initial teacher.
    """

    name = "teacher"
    centre_N: Tensor
    bank_NE: Tensor

    def __init__(self, settings: ResolvedConfig, train_data: TrainData, model: ClerestoryModel) -> None:
        super().__init__()
        self.config, self.temperature = settings.config.self_supervision, settings.config.temperature
        self.first_step = round((1 - self.config.teacher_share) * settings.steps)
        self.sampler = UnlabelledSampler(
            train_data, self.config.batch_size, model.config.image_size, settings.config.seed, STREAM
        )
        self.tower = copy.deepcopy(model.image_tower).requires_grad_(False).eval()
        self.projection = copy.deepcopy(model.projection).requires_grad_(False).eval()
        self.predictor = TokenPredictor(model.config.width)
        self.mask_C = nn.Parameter(torch.zeros(3))
        with torch.no_grad():
            bank_NE = model.get_text_features(torch.from_numpy(train_data.train.texts_ME)[train_data.train.captions])
        self.register_buffer("bank_NE", bank_NE, persistent=False)
        self.register_buffer("centre_N", torch.zeros(len(bank_NE)))
        self._teacher_BE: Tensor | None = None

    def losses(self, step: StepContext) -> dict[str, LossTerm]:
        """``distillation`` and ``masked_tokens`` in the last share of the steps, no terms before."""
        self._teacher_BE = None
        if step.number < self.first_step:
            return {}
        rows, epochs = self.sampler.draw(step.number, step.ranks)
        device, generator = step.pixels_BCSS.device, self.sampler.generator(step.number, "hidden")
        whole_BCSS = self.sampler.view(rows, epochs, 0.0, "whole").to(device)
        crops_BCSS = self.sampler.view(rows, epochs, self.config.style_strength, "part", crop=True).to(device)
        with torch.no_grad():
            teacher_BTD, _ = self.tower(whole_BCSS)
            teacher_BE = self.projection.project_images(teacher_BTD).float()
            self._teacher_BE = step.ranks.gather(teacher_BE)
        mask_BT = random_mask(len(rows), teacher_BTD.shape[1], self.config.mask_ratio, generator).to(device)
        with frozen_batch_norm_statistics(step.model):
            student_BE = step.model.get_image_features(crops_BCSS).float()
            student_BTD, _ = step.model.image_tower(apply_mask(whole_BCSS, mask_BT, self.mask_C))
        distillation = distillation_loss(
            student_BE, teacher_BE, self.bank_NE, self.centre_N, self.temperature, self.config.teacher_temperature
        )
        masked_tokens = masked_token_loss(self.predictor(student_BTD).float(), teacher_BTD.float(), mask_BT)
        return {
            "distillation": LossTerm(distillation, self.config.distillation_weight),
            "masked_tokens": LossTerm(masked_tokens, self.config.masked_token_weight),
        }

    def after_step(self, step: StepContext) -> None:
        """Update the teacher."""
        decay = ema_warmup(self.config.teacher_ema_decay, step.number)
        for teacher, student in ((self.tower, step.model.image_tower), (self.projection, step.model.projection)):
            ema_update(teacher.state_dict().values(), student.state_dict().values(), decay)
        if self._teacher_BE is not None:
            update_centre(self.centre_N, self._teacher_BE, self.bank_NE)
