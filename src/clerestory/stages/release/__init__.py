"""The verbs of release: decide, number, promote, roll back, verify."""

from clerestory.stages.release.decision import gate
from clerestory.stages.release.policies import load_policy
from clerestory.stages.release.promotion import promote, register, rollback
from clerestory.stages.release.submit import put_to_gate
from clerestory.stages.release.verification import verify

__all__ = ["gate", "load_policy", "promote", "put_to_gate", "register", "rollback", "verify"]
