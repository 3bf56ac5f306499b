"""What a training run minimises; each objective is a module of this folder and is built from the settings here."""

from __future__ import annotations

from clerestory.models.model import ClerestoryModel
from clerestory.models.moe import mixtures
from clerestory.models.processor import ClerestoryProcessor
from clerestory.stages.train.config import Settings
from clerestory.stages.train.objectives.captions import Captions
from clerestory.stages.train.objectives.experts import Experts
from clerestory.stages.train.objectives.objective import Objective, Part, StepContext
from clerestory.stages.train.objectives.self_distillation import Teacher
from clerestory.stages.train.objectives.selfsup import PicturesAlone
from clerestory.stages.train.train_data import Material

__all__ = ["Captions", "Experts", "Objective", "Part", "PicturesAlone", "StepContext", "Teacher", "build"]


def build(
    settings: Settings, material: Material, model: ClerestoryModel, processor: ClerestoryProcessor
) -> list[Objective]:
    """The objectives that the settings ask for."""
    found: list[Objective] = [Captions(settings, material, model, processor)]
    alone = settings.config.self_supervision
    if alone.method != "none":
        found.append(PicturesAlone(settings, material, model.config))
    if alone.teacher > 0:
        found.append(Teacher(settings, material, model))
    return [Experts(), *found] if mixtures(model) else found
