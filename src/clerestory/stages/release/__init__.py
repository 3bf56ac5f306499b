"""Decide whether a model may ship, number releases, promote, roll back, verify."""

from typing import TYPE_CHECKING

from clerestory.core.extensions import lazy_exports

if TYPE_CHECKING:
    from clerestory.stages.release.approval import approve, decline, request_approval
    from clerestory.stages.release.decision import gate
    from clerestory.stages.release.policies import load_policy
    from clerestory.stages.release.promotion import promote, register, rollback
    from clerestory.stages.release.submit import run_gate
    from clerestory.stages.release.verification import verify

__all__ = [
    "approve",
    "decline",
    "gate",
    "load_policy",
    "promote",
    "register",
    "request_approval",
    "rollback",
    "run_gate",
    "verify",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "approve": ".approval",
        "decline": ".approval",
        "request_approval": ".approval",
        "gate": ".decision",
        "load_policy": ".policies",
        "promote": ".promotion",
        "run_gate": ".submit",
        "register": ".promotion",
        "rollback": ".promotion",
        "verify": ".verification",
    },
)
