"""From where on something counts as a fault, each with its reason.

The numbers were chosen on short runs of tiny models with and without planted faults (``bench/training_trust.py``) and
leave room on both sides: where a healthy run has 0.01 and a broken one 0.4, the limit lies between, not at the edge.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from clerestory.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Limits:
    """Thresholds of the monitor.

    Attributes:
        grace: full-rate steps (a step of warm-up counts by its share of the peak learning rate) before anything
            is judged that a run has to learn first: every run starts collapsed and knowing nothing.
        grace_share: the same as a share of the run, whichever is more: long runs warm up for longer.
        shortcut_grace: the same for captions, as a share of the run: language is always learnt before looking.
        shortcut_captions: captions that must have been learnt from, so that there was a chance to look.
        collapse_cosine: mean cosine of different pictures. Healthy runs fall below 0.2; captions have 0.4.
        collapse_margin: how far above the captions' own cosine it must lie: captions can be alike by nature.
        dead_looks: looks in a row in which an expert is idle. A single batch may leave one out.
        plateau_found: pictures that find their text, as a multiple of chance. A run that learns has 10 or more.
        plateau_loss: loss as a share of guessing's. A run that learns is below 0.9 by then.
        scale_high: CLIP never lets its scale grow beyond 100; above, one wrong pair drowns all others.
        scale_floor: least possible loss at this scale as a share of guessing's. Above it most of the loss cannot go
            away, however good the embeddings.
        gradient_growth: gradient length as a multiple of its calmest stretch. Healthy runs stay within 5.
        weight_growth: length of the weights as a multiple of that twenty steps ago. Healthy runs add a tenth.
        forgotten: share of what was found at best that is lost.
        sure: standard errors that a difference must be away from chance: 4 is one false alarm in 30,000 looks.
        shortcut_learnt: share by which the caption loss must have fallen, so that something has been learnt.
        shortcut_gain: what pictures are worth, as a share of the caption loss; less is nothing.
        leaked: share of validation pictures among the training pictures. Flags of the world have 1 % of twins.
        leaked_pictures: and at least so many, so that one twin in a tiny set is no alarm.
        duplicates: share of a batch that repeats another picture of it. A shuffle without repeats has none.
        update_high: change of all weights in one step as a share of their length. 1 % is usual, 10 % forgets
            everything in ten steps.
        update_low: the same, below which a thousand steps move the weights by less than a tenth.
        skipped: steps that were not finite, of the last 20.
        rises: loss above where it began, as a share of it.
    """

    grace: float = 20.0
    grace_share: float = 0.05
    shortcut_grace: float = 0.2
    shortcut_captions: float = 1200
    collapse_cosine: float = 0.95
    collapse_margin: float = 0.1
    dead_looks: int = 5
    plateau_found: float = 2.5
    plateau_loss: float = 0.97
    scale_high: float = 100.0
    scale_floor: float = 0.4
    gradient_growth: float = 10.0
    weight_growth: float = 2.0
    forgotten: float = 0.3
    sure: float = 4.0
    shortcut_learnt: float = 0.15
    shortcut_gain: float = 0.005
    leaked: float = 0.05
    leaked_pictures: int = 3
    duplicates: float = 0.25
    update_high: float = 0.1
    update_low: float = 1e-4
    skipped: int = 3
    rises: float = 0.3

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ConfigError(f"the limit {field.name} is {getattr(self, field.name)}", "limits are above 0")


DEFAULT = Limits()
