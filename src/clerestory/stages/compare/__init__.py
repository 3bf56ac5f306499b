"""Compare two models, sample by sample."""

from typing import TYPE_CHECKING

from clerestory.core.extensions import lazy_exports

if TYPE_CHECKING:
    from clerestory.stages.compare.config import CompareConfig
    from clerestory.stages.compare.run import compare

__all__ = ["CompareConfig", "compare"]

__getattr__ = lazy_exports(__name__, {"CompareConfig": ".config", "compare": ".run"})
