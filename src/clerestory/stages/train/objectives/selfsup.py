"""Self-supervised learning from images, as an objective beside the captions.

Shape suffixes: B images, C channels, S side, T tokens, D width, P width of the head's space, N cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clerestory.models.config import ClerestoryConfig
from clerestory.stages.train.config import ResolvedConfig
from clerestory.stages.train.objectives.objective import LossTerm, Objective, StepContext
from clerestory.stages.train.objectives.selfsup_lejepa import lejepa, random_directions
from clerestory.stages.train.objectives.selfsup_masked import (
    PixelDecoder,
    apply_mask,
    frozen_batch_norm_statistics,
    masked_loss,
    random_mask,
)
from clerestory.stages.train.objectives.selfsup_views import ViewHead, view_contrast
from clerestory.stages.train.objectives.unlabelled_sampler import UnlabelledSampler
from clerestory.stages.train.train_data import TrainData

HEAD_WIDTH = {"slip": 128, "lejepa": 64}  # P
DIRECTIONS = 256
STREAM = "pictures"  # of the random numbers; another name would give other weights


class SelfSupervised(Objective):
    """Masked image modelling, LeJEPA or view contrast, without any use of captions.

    Args:
        settings: of the run; the method is not ``none``.
        train_data: of the run.
        model_config: of the model.
    """

    name = "self_supervised"

    def __init__(self, settings: ResolvedConfig, train_data: TrainData, model_config: ClerestoryConfig) -> None:
        super().__init__()
        config = settings.config.self_supervision
        self.config = config
        self.sampler = UnlabelledSampler(
            train_data, config.batch_size, model_config.image_size, settings.config.seed, STREAM
        )
        self.head: nn.Module | None = None
        if config.method == "masked":
            self.head = PixelDecoder(model_config)
        elif config.projection_head:
            self.head = ViewHead(model_config.width, 2 * model_config.width, HEAD_WIDTH[config.method])

    def losses(self, step: StepContext) -> dict[str, LossTerm]:
        """One term, named after the method."""
        value = self._masked(step) if isinstance(self.head, PixelDecoder) else self._views(step)
        return {self.config.method: LossTerm(value, self.config.weight)}

    def _views(self, step: StepContext) -> Tensor:
        """The loss of two augmented views of each image, which go through the tower in one pass."""
        rows, epochs = self.sampler.draw(step.number, step.ranks)
        views = [self.sampler.view(rows, epochs, self.config.style_strength, purpose) for purpose in ("one", "two")]
        tokens_BTD, _ = step.model.image_tower(torch.cat(views).to(step.pixels_BCSS.device))
        head = step.model.projection.image if self.head is None else self.head
        # Gathered from all processes: each computes the loss of the whole batch, with the gradients of its own views.
        first_BP, second_BP = (step.ranks.gather(view) for view in head(tokens_BTD.mean(dim=1)).float().chunk(2))
        if self.config.method == "slip":
            return view_contrast(first_BP, second_BP, self.config.temperature)
        generator = self.sampler.generator(step.number, "directions")
        directions_PS = random_directions(first_BP.shape[1], DIRECTIONS, generator).to(first_BP.device)
        return lejepa(torch.stack([first_BP, second_BP]), directions_PS, self.config.sigreg_weight)

    def _masked(self, step: StepContext) -> Tensor:
        """The loss of masked cells predicted from the visible ones."""
        assert isinstance(self.head, PixelDecoder)
        rows, epochs = self.sampler.draw(step.number, step.ranks)
        device, generator = step.pixels_BCSS.device, self.sampler.generator(step.number, "hidden")
        pixels_BCSS = self.sampler.view(rows, epochs, self.config.style_strength, "one").to(device)
        mask_BN = random_mask(len(rows), self.head.cells**2, self.config.mask_ratio, generator).to(device)
        with frozen_batch_norm_statistics(step.model):
            tokens_BTD, _ = step.model.image_tower(apply_mask(pixels_BCSS, mask_BN, self.head.mask_C))
        return masked_loss(self.head(tokens_BTD).float(), pixels_BCSS, mask_BN)
