"""Detection of training failures during a run: the symptom, its cause, and the fix."""

from clerestory.stages.train.monitor.monitor import Monitor
from clerestory.stages.train.monitor.record import StepRecord
from clerestory.stages.train.monitor.thresholds import MonitorThresholds

__all__ = ["Monitor", "MonitorThresholds", "StepRecord"]
