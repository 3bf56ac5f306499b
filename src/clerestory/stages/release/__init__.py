"""The verbs of release: decide, number, promote, roll back, verify."""

from clerestory.stages.release.checking import verify
from clerestory.stages.release.deciding import gate
from clerestory.stages.release.moves import promote, register, rollback
from clerestory.stages.release.policies import load_policy
from clerestory.stages.release.submitting import put_to_gate

__all__ = ["gate", "load_policy", "promote", "put_to_gate", "register", "rollback", "verify"]
