"""The words of licences: rights, duties, steps from data to output, and the reasons of a verdict."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, get_args

Step = Literal["training", "derivation", "generation"]
"""How something was made: a model from data, a model (or data) from another one, output by a model."""

STEPS: tuple[Step, ...] = get_args(Step)


class Right(StrEnum):
    """What a licence may grant."""

    COMMERCIAL_USE = "commercial_use"
    MODIFICATION = "modification"
    DISTRIBUTION = "distribution"


class Duty(StrEnum):
    """What a licence may ask for in return."""

    ATTRIBUTION = "attribution"
    LICENCE_TEXT = "licence_text"
    STATE_CHANGES = "state_changes"
    SOURCE_CODE = "source_code"
    SHARE_ALIKE = "share_alike"
    USE_RESTRICTIONS = "use_restrictions"
    NAMING = "naming"
    NO_ENDORSEMENT = "no_endorsement"


class Scope(StrEnum):
    """How far the same licence must reach."""

    FILES = "files"
    LIBRARY = "library"
    WORK = "work"
    NETWORK = "network"
    ADAPTATIONS = "adaptations"
    DATABASE = "database"
    DATA = "data"
    FONT = "font"


class LicenceReason(StrEnum):
    """Why an expression does not pass."""

    NO_LICENCE = "no_licence"
    UNREADABLE = "unreadable"
    AMBIGUOUS = "ambiguous"
    UNKNOWN_LICENCE = "unknown_licence"
    UNKNOWN_EXCEPTION = "unknown_exception"
    UNCLEAR_RIGHTS = "unclear_rights"
    NON_COMMERCIAL = "non_commercial"
    NO_DERIVATIVES = "no_derivatives"
    NO_DISTRIBUTION = "no_distribution"
    LIMITED_GRANT = "limited_grant"
    SHARE_ALIKE = "share_alike"
    USE_RESTRICTIONS = "use_restrictions"
    SHARE_ALIKE_CONFLICT = "share_alike_conflict"


UNKNOWN_REASONS = frozenset(
    {
        LicenceReason.NO_LICENCE,
        LicenceReason.UNREADABLE,
        LicenceReason.AMBIGUOUS,
        LicenceReason.UNKNOWN_LICENCE,
        LicenceReason.UNKNOWN_EXCEPTION,
        LicenceReason.UNCLEAR_RIGHTS,
    }
)

DUTY_LABELS = {
    Duty.ATTRIBUTION: "credit the authors",
    Duty.LICENCE_TEXT: "pass on the licence or its address",
    Duty.STATE_CHANGES: "state changes",
    Duty.SOURCE_CODE: "offer the source code",
    Duty.SHARE_ALIKE: "share under the same licence",
    Duty.USE_RESTRICTIONS: "bind users to use restrictions",
    Duty.NAMING: "use required names or sentences",
    Duty.NO_ENDORSEMENT: "claim no endorsement",
}

REASON_LABELS = {
    LicenceReason.NO_LICENCE: "no licence is recorded",
    LicenceReason.UNREADABLE: "the expression cannot be read",
    LicenceReason.AMBIGUOUS: "it names no licence, or several",
    LicenceReason.UNKNOWN_LICENCE: "the table has no such licence",
    LicenceReason.UNKNOWN_EXCEPTION: "the table has no such exception to that licence",
    LicenceReason.UNCLEAR_RIGHTS: "its text does not say what is allowed",
    LicenceReason.NON_COMMERCIAL: "it does not grant commercial use",
    LicenceReason.NO_DERIVATIVES: "it does not allow modified versions to be shared",
    LicenceReason.NO_DISTRIBUTION: "it does not allow distribution",
    LicenceReason.LIMITED_GRANT: "it grants a needed right within a limit only (size, revenue, region)",
    LicenceReason.SHARE_ALIKE: "it asks for the same licence (share-alike)",
    LicenceReason.USE_RESTRICTIONS: "it forbids some uses and asks to bind all users to that",
    LicenceReason.SHARE_ALIKE_CONFLICT: "it asks for a licence under which the result may not be shared",
}
