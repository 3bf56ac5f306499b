"""Would a silent regression be noticed? Known faults are put into a copy, and the gates are watched."""

from clerestory.stages.evaluate.selftest.config import SelfTestConfig
from clerestory.stages.evaluate.selftest.faults import FAULTS
from clerestory.stages.evaluate.selftest.run import self_test

__all__ = ["FAULTS", "SelfTestConfig", "self_test"]
