"""Decide whether a model may ship, number releases, promote, roll back, verify."""

from typing import TYPE_CHECKING

from clerestory.core.extensions import lazy_exports

if TYPE_CHECKING:
    from clerestory.stages.release.decision import gate
    from clerestory.stages.release.policies import load_policy
    from clerestory.stages.release.promotion import promote, register, rollback
    from clerestory.stages.release.submit import run_gate
    from clerestory.stages.release.verification import verify

__all__ = ["gate", "load_policy", "promote", "run_gate", "register", "rollback", "verify"]

__getattr__ = lazy_exports(
    __name__,
    {
        "gate": ".decision",
        "load_policy": ".policies",
        "promote": ".promotion",
        "run_gate": ".submit",
        "register": ".promotion",
        "rollback": ".promotion",
        "verify": ".verification",
    },
)
