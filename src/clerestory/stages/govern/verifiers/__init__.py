"""The registry of verifiers. Another package adds its own as entry points ``verifier.<name>``."""

from __future__ import annotations

from clerestory.core.errors import ClerestoryError
from clerestory.core.extensions import find, names
from clerestory.stages.govern.check import Verifier
from clerestory.stages.govern.verifiers import data, evaluations, missing, records

BUILT_IN: tuple[Verifier, ...] = (
    *records.VERIFIERS,
    *evaluations.VERIFIERS,
    *data.VERIFIERS,
    *missing.VERIFIERS,
)


def verifiers() -> dict[str, Verifier]:
    """Every verifier by name, those of other packages too.

    Raises:
        ClerestoryError: an entry point does not name a verifier of that name, or its name is taken.
    """
    known = {verifier.name: verifier for verifier in BUILT_IN}
    for name in names("verifier"):
        verifier = find("verifier", name)
        if not isinstance(verifier, Verifier) or verifier.name != name or name in known:
            raise ClerestoryError(
                f"the entry point verifier.{name} does not name a new verifier of that name",
                "correct it in the pyproject.toml of the package that registers it",
            )
        known[name] = verifier
    return known
