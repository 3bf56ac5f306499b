"""One training run on several processes: ranks, collective communication, and checkpoints.

The loop calls an ``Engine``, which does nothing in a single process. ``torchrun`` and Ray start the processes, see
``engine``.
"""

from clerestory.stages.train.distributed.engine import SINGLE_PROCESS, Engine, current_engine
from clerestory.stages.train.distributed.ranks import Ranks

__all__ = ["SINGLE_PROCESS", "Engine", "Ranks", "current_engine"]
