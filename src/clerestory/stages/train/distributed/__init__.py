"""One training run on several processes: who they are, what they exchange, and how their state is saved.

The loop calls an ``Engine``; in a single process it does nothing. ``torchrun`` and Ray start the processes, see
``engine``.
"""

from clerestory.stages.train.distributed.engine import SINGLE_PROCESS, Engine, current_engine
from clerestory.stages.train.distributed.ranks import Ranks

__all__ = ["SINGLE_PROCESS", "Engine", "Ranks", "current_engine"]
