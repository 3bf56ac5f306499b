"""The finding codes of personal data in texts (``docs/reference/findings.md``)."""

from __future__ import annotations

from clerestory.core.findings import FindingCode

_FIX = "remove it from the captions, or put a placeholder in its place, and ask whether the data may be used at all"

EMAIL_ADDRESS = FindingCode("CLR-A030", "warning", "e-mail address in a caption", fix=_FIX)
PHONE_NUMBER = FindingCode("CLR-A031", "warning", "phone number in a caption", fix=_FIX)
PAYMENT_CARD = FindingCode("CLR-A032", "error", "payment card number in a caption", "fail", _FIX)
IBAN = FindingCode("CLR-A033", "error", "bank account number (IBAN) in a caption", "fail", _FIX)

OUTSIDE_CAPTIONS = FindingCode(
    "CLR-A039",
    "warning",
    "personal data outside the captions",
    fix="rename the files, or replace the values of these columns by ones that name nobody",
)

CODES = (EMAIL_ADDRESS, PHONE_NUMBER, PAYMENT_CARD, IBAN, OUTSIDE_CAPTIONS)
