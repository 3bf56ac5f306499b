"""Which fix belongs to which finding of an audit.

A fix that loses nothing anybody wants, or that the law wants, is always made. Whatever needs a look at
the images or a decision of a person is only proposed, and made when its code is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from clerestory.core.errors import InputError
from clerestory.core.findings import FindingCode, finding_codes
from clerestory.stages.audit import caption_findings as captions
from clerestory.stages.audit import image_findings as images
from clerestory.stages.audit import licence_findings as licences
from clerestory.stages.audit import personal_findings as personal
from clerestory.store.acceptances import check_code


class FixAction(StrEnum):
    """What happens to a sample."""

    DROP = "drop"
    MOVE = "move"
    STRIP = "strip"
    REDACT = "redact"
    REMOVE_CAPTION = "remove caption"


@dataclass(frozen=True, slots=True)
class FixRule:
    """The fix of one kind of finding.

    Attributes:
        code: the kind of finding.
        action: what happens to the samples concerned; leakage may drop a sample instead of moving it.
        what: the same in words.
        is_automatic: whether it is made without naming its code.
        keeps_one: whether one sample of each group of copies stays.
    """

    code: FindingCode
    action: FixAction
    what: str
    is_automatic: bool = False
    keeps_one: bool = False


_KEEP = "keep one of each group, drop the others"
_METADATA = "remove metadata from the files; pixels, orientation and colour profile stay"
RULES = (
    FixRule(images.UNREADABLE_NOW, FixAction.DROP, "drop the images", True),
    FixRule(images.BLANK, FixAction.DROP, "drop the images", True),
    FixRule(images.EXACT_COPIES, FixAction.DROP, _KEEP, True, keeps_one=True),
    FixRule(images.LEAKAGE, FixAction.MOVE, "move copies of training images to the training split", True),
    FixRule(images.GPS, FixAction.STRIP, _METADATA, True),
    FixRule(personal.EMAIL_ADDRESS, FixAction.REDACT, "write [email] in its place", True),
    FixRule(personal.PHONE_NUMBER, FixAction.REDACT, "write [phone] in its place", True),
    FixRule(personal.PAYMENT_CARD, FixAction.REDACT, "write [card] in its place", True),
    FixRule(personal.IBAN, FixAction.REDACT, "write [iban] in its place", True),
    FixRule(captions.DUPLICATE_CAPTION, FixAction.REMOVE_CAPTION, "remove the repeated captions", True),
    FixRule(images.TINY, FixAction.DROP, "drop the images"),
    FixRule(images.ODD_ASPECT, FixAction.DROP, "drop the images"),
    FixRule(images.BLURRED, FixAction.DROP, "drop the images"),
    FixRule(images.DARK, FixAction.DROP, "drop the images"),
    FixRule(images.ANIMATED, FixAction.DROP, "drop the images"),
    FixRule(images.EXIF, FixAction.STRIP, _METADATA),
    FixRule(images.NEAR_DUPLICATES, FixAction.DROP, _KEEP, keeps_one=True),
    FixRule(images.CROPS, FixAction.DROP, _KEEP, keeps_one=True),
    FixRule(captions.NO_CAPTION, FixAction.DROP, "drop the images"),
    FixRule(captions.SHORT_CAPTION, FixAction.DROP, "drop the images"),
    FixRule(captions.BOILERPLATE, FixAction.DROP, "drop the images"),
    FixRule(captions.WRONG_LANGUAGE, FixAction.DROP, "drop the images"),
    FixRule(captions.DAMAGED_TEXT, FixAction.DROP, "drop the images"),
    FixRule(captions.MISMATCH, FixAction.DROP, "drop the images"),
    FixRule(licences.UNKNOWN_LICENCE, FixAction.DROP, "drop the images"),
    FixRule(licences.UNREADABLE_LICENCE, FixAction.DROP, "drop the images"),
    FixRule(licences.REFUSED_LICENCE, FixAction.DROP, "drop the images"),
    FixRule(licences.SHARE_ALIKE_SOURCE, FixAction.DROP, "drop the images"),
)
RULE_OF = {rule.code.code: rule for rule in RULES}


def fixable(code: str) -> str:
    """The code of a finding that has a fix, as it is registered.

    Raises:
        NotFound: no such code exists; carries the closest.
        InputError: only a person can fix it; says how.
    """
    written = check_code(code)
    if written not in RULE_OF:
        known = finding_codes()[written]
        raise InputError(f"{written} ({known.title}) has no fix that a program can make", known.fix)
    return written
