"""Who a person is: a name that somebody stated, or one proven by a signature with a registered key."""

from __future__ import annotations

from dataclasses import dataclass

from clerestory.core.release import Release


@dataclass(frozen=True, slots=True)
class Signer:
    """A person with a private key.

    Attributes:
        name: as it is registered.
    """

    name: str


def signed_details(
    kind: str, release: Release, person: str, why: str, when: str, signer: Signer | None
) -> dict[str, str]:
    """The details of a journal record that say how the person is known."""
    return {"identity": "stated"}
