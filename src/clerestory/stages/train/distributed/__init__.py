"""One training run on several processes: who they are, what they exchange, and how their state is kept.

The loop calls an ``Engine``; alone it does nothing. ``torchrun`` and Ray start the processes, see ``engine``.
"""

from clerestory.stages.train.distributed.engine import ALONE, Engine, here
from clerestory.stages.train.distributed.ranks import Ranks

__all__ = ["ALONE", "Engine", "Ranks", "here"]
