"""The objectives of a training run: each is a module of this folder and is built from the settings here."""

from __future__ import annotations

from clerestory.models.model import ClerestoryModel
from clerestory.models.moe import mixtures
from clerestory.models.processor import ClerestoryProcessor
from clerestory.stages.train.config import ResolvedConfig
from clerestory.stages.train.objectives.captions import Captions
from clerestory.stages.train.objectives.experts import ExpertBalance
from clerestory.stages.train.objectives.objective import LossTerm, Objective, StepContext, total_loss
from clerestory.stages.train.objectives.self_distillation import SelfDistillation
from clerestory.stages.train.objectives.selfsup import SelfSupervised
from clerestory.stages.train.train_data import TrainData

__all__ = [
    "Captions",
    "ExpertBalance",
    "LossTerm",
    "Objective",
    "SelfDistillation",
    "SelfSupervised",
    "StepContext",
    "make_objectives",
    "total_loss",
]


def make_objectives(
    settings: ResolvedConfig, train_data: TrainData, model: ClerestoryModel, processor: ClerestoryProcessor
) -> list[Objective]:
    """The objectives that the settings turn on."""
    objectives: list[Objective] = [Captions(settings, train_data, model, processor)]
    config = settings.config.self_supervision
    if config.method != "none":
        objectives.append(SelfSupervised(settings, train_data, model.config))
    if config.teacher_share > 0:
        objectives.append(SelfDistillation(settings, train_data, model))
    return [ExpertBalance(), *objectives] if mixtures(model) else objectives
