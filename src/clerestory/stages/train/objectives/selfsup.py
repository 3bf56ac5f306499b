"""Learning from pictures alone, as an objective beside the captions.

Shape suffixes: B pictures, C channels, S side, T tokens, D width, P width of the head's space, N cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clerestory.models.config import ClerestoryConfig
from clerestory.stages.train.config import Settings
from clerestory.stages.train.objectives.objective import Objective, Part, StepContext
from clerestory.stages.train.objectives.selfsup_lejepa import lejepa, random_directions
from clerestory.stages.train.objectives.selfsup_masked import (
    PixelDecoder,
    cover,
    hidden_cells,
    masked_loss,
    statistics_kept,
)
from clerestory.stages.train.objectives.selfsup_views import ViewHead, view_contrast
from clerestory.stages.train.objectives.unlabelled_sampler import Pool
from clerestory.stages.train.train_data import Material

HEAD = {"slip": 128, "lejepa": 64}  # P
DIRECTIONS = 256


class PicturesAlone(Objective):
    """Masked image modelling, LeJEPA or view contrast on pictures of which no caption is looked at.

    Args:
        settings: of the run; the method is not ``none``.
        material: what is learnt from.
        architecture: of the model.
    """

    name = "pictures"

    def __init__(self, settings: Settings, material: Material, architecture: ClerestoryConfig) -> None:
        super().__init__()
        config = settings.config.self_supervision
        self.config = config
        self.pool = Pool(material, config.batch, architecture.image_size, settings.config.seed, self.name)
        self.head: nn.Module | None = None
        if config.method == "masked":
            self.head = PixelDecoder(architecture)
        elif config.head:
            self.head = ViewHead(architecture.width, 2 * architecture.width, HEAD[config.method])

    def losses(self, step: StepContext) -> dict[str, Part]:
        """One part, named after the method."""
        value = self._masked(step) if isinstance(self.head, PixelDecoder) else self._views(step)
        return {self.config.method: Part(value, self.config.weight)}

    def _views(self, step: StepContext) -> Tensor:
        """Two variations of each picture in one pass, contrasted or made to agree."""
        rows, epochs = self.pool.draw(step.number, step.ranks)
        views = [self.pool.view(rows, epochs, self.config.style, purpose) for purpose in ("one", "two")]
        tokens_BTD, _ = step.model.image_tower(torch.cat(views).to(step.pixels_BCSS.device))
        head = step.model.projection.image if self.head is None else self.head
        # Compared with the pictures of all processes; each takes the whole batch's loss, of which it moves its own.
        first_BP, second_BP = (step.ranks.gather(view) for view in head(tokens_BTD.mean(dim=1)).float().chunk(2))
        if self.config.method == "slip":
            return view_contrast(first_BP, second_BP, self.config.temperature)
        directions_PS = random_directions(first_BP.shape[1], DIRECTIONS, self.pool.random(step.number, "directions"))
        directions_PS = directions_PS.to(first_BP.device)
        return lejepa(torch.stack([first_BP, second_BP]), directions_PS, self.config.gaussian)

    def _masked(self, step: StepContext) -> Tensor:
        """Hidden cells predicted from the rest."""
        assert isinstance(self.head, PixelDecoder)
        rows, epochs = self.pool.draw(step.number, step.ranks)
        device, random = step.pixels_BCSS.device, self.pool.random(step.number, "hidden")
        pixels_BCSS = self.pool.view(rows, epochs, self.config.style, "one").to(device)
        hidden_BN = hidden_cells(len(rows), self.head.cells**2, self.config.hidden, random).to(device)
        with statistics_kept(step.model):
            tokens_BTD, _ = step.model.image_tower(cover(pixels_BCSS, hidden_BN, self.head.cover_C))
        return masked_loss(self.head(tokens_BTD).float(), pixels_BCSS, hidden_BN)
