"""Detection of training failures while a run is going on: what was measured, what it means, what to change."""

from clerestory.stages.train.monitor.monitor import Monitor
from clerestory.stages.train.monitor.record import StepRecord
from clerestory.stages.train.monitor.thresholds import MonitorThresholds

__all__ = ["Monitor", "MonitorThresholds", "StepRecord"]
