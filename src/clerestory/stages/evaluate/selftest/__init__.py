"""Self-test of the gates: known faults are injected into a copy of the pipeline, to see which gates detect them."""

from typing import TYPE_CHECKING

from clerestory.core.extensions import lazy_exports

if TYPE_CHECKING:
    from clerestory.stages.evaluate.config import SelfTestConfig
    from clerestory.stages.evaluate.selftest.faults import FAULTS
    from clerestory.stages.evaluate.selftest.run import self_test

__all__ = ["FAULTS", "SelfTestConfig", "self_test"]

__getattr__ = lazy_exports(
    __name__, {"FAULTS": ".faults", "SelfTestConfig": "clerestory.stages.evaluate.config", "self_test": ".run"}
)
