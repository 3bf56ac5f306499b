"""Fine-tune existing models, and measure what they forget."""

from typing import TYPE_CHECKING

from clerestory.core.extensions import lazy_exports

if TYPE_CHECKING:
    from clerestory.stages.train.tune.config import TuneConfig
    from clerestory.stages.train.tune.head.run import HeadResult, tune_head
    from clerestory.stages.train.tune.run import TuneResult, tune
    from clerestory.stages.train.tune.saving import write_target

__all__ = ["HeadResult", "TuneConfig", "TuneResult", "tune", "tune_head", "write_target"]

__getattr__ = lazy_exports(
    __name__,
    {
        "HeadResult": ".head.run",
        "TuneConfig": ".config",
        "TuneResult": ".run",
        "tune": ".run",
        "tune_head": ".head.run",
        "write_target": ".saving",
    },
)
