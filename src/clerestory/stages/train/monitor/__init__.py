"""Failures of a training, named while it runs: what was seen, what it means, what to change."""

from clerestory.stages.train.monitor.limits import Limits
from clerestory.stages.train.monitor.monitor import Monitor
from clerestory.stages.train.monitor.record import Record

__all__ = ["Limits", "Monitor", "Record"]
