"""Fine-tuning models that others trained, without destroying what they know."""

from clerestory.stages.train.tune.config import TuneConfig
from clerestory.stages.train.tune.run import TuneResult, tune
from clerestory.stages.train.tune.saving import check_target, write_target

__all__ = ["TuneConfig", "TuneResult", "check_target", "tune", "write_target"]
