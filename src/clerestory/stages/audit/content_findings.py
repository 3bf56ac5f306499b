"""The finding codes of what images show: text with personal data, and faces (``docs/reference/findings.md``)."""

from __future__ import annotations

from clerestory.core.findings import FindingCode

_FIX = "cover it in the image, or remove the image, and ask whether the data may be used at all"

EMAIL_IN_IMAGE = FindingCode("CLR-A060", "warning", "e-mail address in an image", fix=_FIX)
PHONE_IN_IMAGE = FindingCode("CLR-A061", "warning", "phone number in an image", fix=_FIX)
CARD_IN_IMAGE = FindingCode("CLR-A062", "error", "payment card number in an image", "fail", _FIX)
IBAN_IN_IMAGE = FindingCode("CLR-A063", "error", "bank account number (IBAN) in an image", "fail", _FIX)
FACE = FindingCode(
    "CLR-A064",
    "info",
    "image with a face",
    fix="make sure that the people may be shown and have agreed to this use, or remove the images",
)
NOT_SEARCHED = FindingCode(
    "CLR-A065",
    "info",
    "images that were not searched for text or faces",
    "not_run",
    "raise ocr_images or face_images with --set",
)
MOSTLY_TEXT = FindingCode(
    "CLR-A066",
    "info",
    "image that is mostly text",
    fix="look at them: a scan or a screenshot teaches reading, not seeing, and may show data about people",
)
TEXT_CODES = (EMAIL_IN_IMAGE, PHONE_IN_IMAGE, CARD_IN_IMAGE, IBAN_IN_IMAGE, MOSTLY_TEXT)
# Of images whose small copies could show the value.
VALUE_CODES = (EMAIL_IN_IMAGE, PHONE_IN_IMAGE, CARD_IN_IMAGE, IBAN_IN_IMAGE)
CODES = (*VALUE_CODES, FACE, NOT_SEARCHED, MOSTLY_TEXT)
