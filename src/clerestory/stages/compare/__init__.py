"""Hold two models against one another, sample by sample."""

from clerestory.stages.compare.config import CompareConfig
from clerestory.stages.compare.run import compare

__all__ = ["CompareConfig", "compare"]
