"""Personal data in texts: e-mail addresses, phone numbers, payment cards and IBANs.

Detections name the kind and the caption, never the value: a value that was copied into the evidence would have to
be found and removed there too. Names of persons are not looked for.

Everything that has a checksum is verified by it, and numbers that only look like a phone number are the most frequent
false alarm, so national numbers need more than their digits (``_is_national_number``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache

from clerestory.core.codec import Tags
from clerestory.core.findings import FindingCode
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset, Sample
from clerestory.core.units import plural
from clerestory.stages.audit import personal_findings
from clerestory.stages.audit.detection import Detection


class PersonalDataKind(StrEnum):
    """A kind of personal data."""

    EMAIL_ADDRESS = "e-mail address"
    PHONE_NUMBER = "phone number"
    PAYMENT_CARD = "payment card number"
    IBAN = "IBAN"


@dataclass(frozen=True, slots=True)
class PersonalData:
    """Where personal data is in a text; the value itself is not kept.

    Attributes:
        kind: what it is.
        start, end: its first character, and the one after its last.
    """

    kind: PersonalDataKind
    start: int
    end: int


CODE_OF: dict[PersonalDataKind, FindingCode] = {
    PersonalDataKind.EMAIL_ADDRESS: personal_findings.EMAIL_ADDRESS,
    PersonalDataKind.PHONE_NUMBER: personal_findings.PHONE_NUMBER,
    PersonalDataKind.PAYMENT_CARD: personal_findings.PAYMENT_CARD,
    PersonalDataKind.IBAN: personal_findings.IBAN,
}

PLACEHOLDERS = {
    PersonalDataKind.EMAIL_ADDRESS: "[email]",
    PersonalDataKind.PHONE_NUMBER: "[phone]",
    PersonalDataKind.PAYMENT_CARD: "[card]",
    PersonalDataKind.IBAN: "[iban]",
}

# Length of the IBAN of each country: SWIFT's IBAN registry, and the countries that use one without being in it.
IBAN_LENGTHS = {
    code: length
    for length, codes in {
        15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
        24: "AD CZ DZ ES MD PK RO SA SE SK TN VG YE", 25: "AO CV GW LY MZ PT ST",
        26: "IR IS TR", 27: "BF BI CF CG CM DJ FR GA GQ GR IT KM MC MG MR SM TD",
        28: "AL AZ BJ BY CI CY DO GT HN HU LB ML NE NI PL SN SV TG", 29: "BR EG PS QA UA",
        30: "JO KW MU", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for code in codes.split()
} | {"BI": 27, "MA": 28}  # fmt: skip
_FILE_EXTENSIONS = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".svg"]
)
_MAX_IBAN = max(IBAN_LENGTHS.values())

# First digits and lengths of the card schemes. Visa's numbers of 13 digits are not issued any more, and every eighth
# EAN-13 barcode of a German product would be one.
_CARD = re.compile(
    r"4\d{15}(?:\d{3})?|5[1-5]\d{14}|2(?:2(?:2[1-9]|[3-9]\d)|[3-6]\d\d|7(?:[01]\d|20))\d{12}"  # Visa, Mastercard
    r"|3[47]\d{13}|3(?:0[0-59]|[689]\d)\d{11,16}|35(?:2[89]|[3-8]\d)\d{12}"  # American Express, Diners Club, JCB
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12,15}|62\d{14,17}|(?:50|5[6-8]|6[0137])\d{14,17}"  # Discover, UnionPay, Maestro
    r"|220[0-4]\d{12,15}|(?:8[12]|60|65)\d{14}|9792\d{12}"  # Mir, RuPay, Troy
)
_CARD_GROUPS = ((4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 5), (4, 5, 6))
_SEPARATED_DIGITS = re.compile(r"(?<![\w.,/+-])\d(?:[ \u00a0\u202f-]?\d){13,22}(?![\w/]|[.,-]\d)")

_EMAIL = re.compile(
    r"(?<![\w.+%'-])[^\W_](?:[\w.+%'-]{0,62}[\w+%-])?"  # the name
    r"(?:@|\s?[\[({]\s?(?:at|@|AT)\s?[\])}]\s?)"  # also "ada [at] example.org"
    r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?(?:\.|\s?[\[({]\s?(?:dot|\.|DOT)\s?[\])}]\s?)){1,6}"  # the domains
    r"(?:[^\W\d_]{2,24}|xn--[a-z0-9-]{2,59})(?![\w@])"
)
_AT = re.compile(r"@|[\[({]\s?at", re.IGNORECASE)
# "icon@2x.png" is the file of an image for dense screens.
_FILE_NAME = re.compile(
    r"\.(?:png|jpe?g|gif|webp|svg|bmp|tiff?|hei[cf]|avif|ico|pdf|txt|csv|json|html?|mp4|mov)$", re.IGNORECASE
)

_IBAN_START = re.compile(r"(?<![^\W_])(?:[A-Z]{2}|[a-z]{2})[ \u00a0]?\d[ ]?\d(?=[ \u00a0-]?[A-Za-z0-9])")
_IBAN_SEPARATORS = " \u00a0\u202f-"

_URL = re.compile(r"(?:https?|ftp)://\S+|www\.\S+", re.IGNORECASE)
_DAY, _MONTH = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
_DATE = re.compile(
    rf"(?<!\d)(?:{_DAY}([./-]){_MONTH}\1(?:\d\d)?\d\d|{_DAY} {_MONTH} (?:19|20)\d\d"
    rf"|(?:19|20)\d\d([./ -]){_MONTH}\2{_DAY})(?![./-]?\d)"
)
_DECIMAL = re.compile(r"(?<![\d.,])[+-]?\d{1,3}[.,]\d{4,}(?![\d.,]*\d)")
# The check digit stands alone, or nothing does.
_ISBN = re.compile(r"(?:97[89][- ]?)?(?:\d(?:[- ]?\d){8}[- ][\dXx]|\d{9}[\dXx])")
_POSSIBLE = re.compile(r"[@\d]|[\[({]\s?at", re.IGNORECASE)
_PLUS = re.compile("[+\uff0b]")
_PIECE, _OVERLAP = 500, 100  # characters of a long text in which phone numbers are looked for at once
_ENOUGH_DIGITS = re.compile(r"(?:\d\D{0,4}){7}")

# Where national numbers are looked for, by the language of the text; a region in the tag ("de-AT") counts alone.
_REGIONS = {
    "cs": ("CZ",), "da": ("DK",), "de": ("DE", "AT", "CH"), "el": ("GR",), "en": ("US", "GB"), "es": ("ES", "MX"),
    "fi": ("FI",), "fr": ("FR", "BE", "CH"), "he": ("IL",), "hu": ("HU",), "it": ("IT",), "ja": ("JP",),
    "ko": ("KR",), "nb": ("NO",), "nl": ("NL", "BE"), "no": ("NO",), "pl": ("PL",), "pt": ("BR", "PT"),
    "ro": ("RO",), "ru": ("RU",), "sv": ("SE",), "tr": ("TR",), "uk": ("UA",), "zh": ("CN", "TW"),
}  # fmt: skip
_CUE = re.compile(
    r"(?:\b(?:tel|tél|telf|telefon\w*|telephone|téléphone|teléfono|telefone|phone|ph|call|calling|ring|dial|text|sms|"
    r"fax|mobil\w*|móvil|celular|cell|portable|handy|whats ?app|signal|viber|hotline|contact|rufen|anruf\w*|appele\w*|"
    r"llama\w*|chiama\w*|cellulare|komórk\w*|zadzwoń)\b|\u260e|\u2706|\U0001f4de|\U0001f4f1|\u7535\u8bdd|\u96fb\u8a71|"
    r"\u0442\u0435\u043b)[^\d+]{0,16}$",
    re.IGNORECASE,
)
_NOT_A_PHONE = re.compile(
    r"(?:\b(?:ISBN|ISSN|no|nr|sn|s/n|serial(?: number)?|ref|order|article|art|model|item|sku|part)|#)[ :.\u2116-]*$",
    re.IGNORECASE,
)
_THOUSANDS = re.compile(r"\d{1,3}(?:[ .,]\d{3})+|\d{4}[ -]\d{4}")  # also two years
_BEFORE = 40  # characters before a number that may say what it is
# A number of North America as it is usually written: (212) 736-5000, 212-736-5000, 212.736.5000, 212 736 5000.
_NORTH_AMERICAN = re.compile(r"(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}([ .-]))\d{3}(?(1)\1|[ .-])\d{4}")


def check_personal_data(data: Dataset, progress: Progress = QUIET) -> list[Detection]:
    """One detection for each kind of personal data in the captions of a dataset, and one for its other texts."""
    found: dict[PersonalDataKind, dict[str, Counter[int]]] = {kind: {} for kind in PersonalDataKind}
    outside: dict[str, list[tuple[str, PersonalDataKind]]] = {}
    with progress.task("personal data", len(data)) as task:
        for sample in data:
            for number, kind in _of_captions(sample):
                found[kind].setdefault(sample.id, Counter())[number] += 1
            if elsewhere := list(_outside_captions(sample)):
                outside[sample.id] = elsewhere
            task.advance()
    detections = [_detection(kind, by_sample, len(data)) for kind, by_sample in found.items() if by_sample]
    return [*detections, *([_detection_outside(outside, len(data))] if outside else [])]


def find_personal_data(text: str, lang: str = "") -> list[PersonalData]:
    """The personal data of a text, in the order of the text; no two overlap.

    Args:
        text: any text, such as a caption or the writing in an image.
        lang: BCP 47 tag of its language, which says of which countries national phone numbers are looked for; without
            one, only international numbers are found.
    """
    found: list[PersonalData] = []
    if not _POSSIBLE.search(text):
        return found
    for search in (_emails, _ibans, _cards):  # the longest first: parts of an IBAN may look like a phone number
        found += [item for item in search(text) if not _overlaps(item, found)]
    if _ENOUGH_DIGITS.search(text):
        found += [item for item in _phone_numbers(text, lang) if not _overlaps(item, found)]
    return sorted(found, key=lambda item: item.start)


def redact(text: str, lang: str = "", kinds: Collection[PersonalDataKind] = tuple(PersonalDataKind)) -> str:
    """A text with a placeholder such as ``[email]`` in place of personal data.

    A placeholder may separate digits that were read as one number before, so the text is read until none is left.

    Args:
        text: any text, such as a caption.
        lang: as for ``find_personal_data``.
        kinds: those that are replaced.
    """
    while found := [item for item in find_personal_data(text, lang) if item.kind in kinds]:
        for item in reversed(found):
            text = text[: item.start] + PLACEHOLDERS[item.kind] + text[item.end :]
    return text


def _of_captions(sample: Sample) -> Iterator[tuple[int, PersonalDataKind]]:
    for number, caption in enumerate(sample.captions, 1):
        for item in find_personal_data(caption.text, caption.lang):
            yield number, item.kind


def _outside_captions(sample: Sample) -> Iterator[tuple[str, PersonalDataKind]]:
    """The places of personal data in the id, the source and the groups of a sample, with its kind.

    Numbers of payment cards are not looked for: ids, times and names of files have as many digits.
    """
    texts = [("id", sample.id), ("source", sample.source), *(("column " + k, v) for k, v in sample.groups.items())]
    for place, text in texts:
        for kind in dict.fromkeys(_kinds_in(text)):
            yield place, kind


@lru_cache(maxsize=65_536)
def _kinds_in(name: str) -> tuple[PersonalDataKind, ...]:
    """The kinds of personal data in a name; its extension is apart, or ``icon@2x.png`` would be an address."""
    stem, _, extension = name.rpartition(".")
    found = [item.kind for part in (stem, extension) if part for item in find_personal_data(part)]
    if not found and not _looks_like_file(extension):
        found = [item.kind for item in find_personal_data(name)]
    return tuple(kind for kind in found if kind is not PersonalDataKind.PAYMENT_CARD)


def _looks_like_file(extension: str) -> bool:
    return f".{extension.casefold()}" in _FILE_EXTENSIONS


def _detection_outside(outside: dict[str, list[tuple[str, PersonalDataKind]]], checked: int) -> Detection:
    counted = Counter(each for places in outside.values() for each in places)
    named = ", ".join(f"{kind} in {place} ({count:,})" for (place, kind), count in sorted(counted.items()))
    verb = "has" if len(outside) == 1 else "have"
    message = f"{plural(len(outside), 'image')} {verb} personal data outside the captions: {named}"
    notes = {sample: ", ".join(f"{place}: {kind}" for place, kind in places) for sample, places in outside.items()}
    return Detection(personal_findings.OUTSIDE_CAPTIONS, message, tuple(outside), checked, notes=Tags(notes))


def _detection(kind: PersonalDataKind, by_sample: dict[str, Counter[int]], checked: int) -> Detection:
    captions = sum(map(len, by_sample.values()))
    message = (
        f"{plural(captions, 'caption')} of {plural(len(by_sample), 'image')} "
        f"{'contains' if captions == 1 else 'contain'} {'an' if kind.value[0] in 'eI' else 'a'} {kind}"
    )
    notes = {
        sample: ", ".join(f"caption {i}: {kind}" + (f" ({n} times)" if n > 1 else "") for i, n in numbers.items())
        for sample, numbers in by_sample.items()
    }
    return Detection(CODE_OF[kind], message, tuple(by_sample), checked, notes=Tags(notes))


def _overlaps(item: PersonalData, others: list[PersonalData]) -> bool:
    return any(item.start < other.end and other.start < item.end for other in others)


def _emails(text: str) -> Iterator[PersonalData]:
    if not _AT.search(text):
        return
    for match in _EMAIL.finditer(text):
        if not _FILE_NAME.search(match[0]) and ".." not in match[0]:
            yield PersonalData(PersonalDataKind.EMAIL_ADDRESS, *match.span())


def _cards(text: str) -> Iterator[PersonalData]:
    for match in _SEPARATED_DIGITS.finditer(_masked(text, _URL)):
        groups = re.findall(r"\d+", match[0])
        digits = "".join(groups)
        is_grouped = len(groups) == 1 or tuple(map(len, groups)) in _CARD_GROUPS
        if is_grouped and _CARD.fullmatch(digits) and luhn_valid(digits):
            yield PersonalData(PersonalDataKind.PAYMENT_CARD, *match.span())


def luhn_valid(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1); never if all digits are equal."""
    numbers = [int(digit) for digit in reversed(digits)]
    doubled = (sum(divmod(2 * number, 10)) for number in numbers[1::2])
    return len(set(numbers)) > 1 and (sum(numbers[::2]) + sum(doubled)) % 10 == 0


def _ibans(text: str) -> Iterator[PersonalData]:
    end = 0
    for match in _IBAN_START.finditer(text):
        if match.start() < end:
            continue
        characters, position = _alphanumerics(text, match.start())
        if iban_valid(characters):
            end = position
            yield PersonalData(PersonalDataKind.IBAN, match.start(), end)


def _alphanumerics(text: str, start: int) -> tuple[str, int]:
    """The characters of a possible IBAN that begins at ``start``, which may be too few, and their end."""
    length = IBAN_LENGTHS.get(text[start : start + 2].upper(), 0)
    characters, position, last = "", start, start
    while len(characters) < length and position < len(text):
        character = text[position]
        position += 1
        if character.isascii() and character.isalnum():
            characters, last = characters + character, position
        elif character not in _IBAN_SEPARATORS or position - last > 2:
            return "", start
    continues = text[last : last + 1].isalnum()
    return ("", start) if continues or len(characters) != length else (characters, last)


def iban_valid(characters: str) -> bool:
    """Whether the length is that of the country and the check digits are right (ISO 13616, modulo 97).

    Letters must all be large or all be small: "No 12 people" in the middle of a sentence is not an account.
    """
    is_plain = characters.isascii() and characters.isalnum() and characters in (characters.upper(), characters.lower())
    if not is_plain or len(characters) != IBAN_LENGTHS.get(characters[:2].upper()):
        return False
    if sum(character.isdigit() for character in characters[4:]) < 5:  # fewest in any country: Malta
        return False
    return int("".join(str(int(character, 36)) for character in characters[4:] + characters[:4])) % 97 == 1


def _phone_numbers(text: str, lang: str) -> Iterator[PersonalData]:
    from phonenumbers import Leniency, PhoneNumberFormat, PhoneNumberMatcher, format_number

    plain = _masked(text, _URL, _DATE, _DECIMAL)
    spans: set[tuple[int, int]] = set()
    # The time of the matcher grows with the square of the length.
    for offset in range(0, len(plain), _PIECE - _OVERLAP):
        piece = plain[offset : offset + _PIECE]
        if not _ENOUGH_DIGITS.search(piece):
            continue
        international = PhoneNumberMatcher(piece, None, Leniency.VALID) if _PLUS.search(piece) else ()
        spans |= {(offset + match.start, offset + match.end) for match in international}
        for region in _regions(lang):
            for match in PhoneNumberMatcher(piece, region, Leniency.VALID):
                usual = format_number(match.number, PhoneNumberFormat.NATIONAL)
                if _is_national_number(piece, match.start, match.raw_string, region, usual):
                    spans.add((offset + match.start, offset + match.end))
    end = 0
    for start, stop in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= end:
            end = stop
            yield PersonalData(PersonalDataKind.PHONE_NUMBER, start, stop)


@cache
def _regions(lang: str) -> tuple[str, ...]:
    language, *rest = lang.replace("_", "-").split("-")
    region = next((part.upper() for part in rest if len(part) == 2 and part.isalpha()), "")
    return (region,) if region else _REGIONS.get(language.lower(), ())


def _is_national_number(text: str, start: int, number: str, region: str, usual: str) -> bool:
    """Whether a valid national number is meant as one.

    "12 345 678", a product code and an ISBN can all be valid numbers of some country. A number counts after a word such
    as "tel.", or if it is written as people write it: with the 0 before the area code, as in North America, or in the
    ``usual`` format of its country, unless this is that of thousands.
    """
    before = text[max(0, start - _BEFORE) : start]
    if "+" in number or _CUE.search(before):
        return True
    if is_isbn(number) or _NOT_A_PHONE.search(before):
        return False
    if region in ("US", "CA"):
        return bool(_NORTH_AMERICAN.fullmatch(number))
    groups = re.findall(r"\d+", number)
    if number.lstrip("(").startswith("0") and len(groups) >= 2 and len("".join(groups)) >= 9:
        return True
    return number == usual and len(groups) >= 2 and not _THOUSANDS.fullmatch(number)


def is_isbn(text: str) -> bool:
    """Whether the check digit of an ISBN of 10 or 13 digits is right."""
    if not _ISBN.fullmatch(text):
        return False
    digits = [10 if c in "Xx" else int(c) for c in text if c.isalnum()]
    if len(digits) == 10:
        return sum(weight * digit for weight, digit in zip(range(10, 0, -1), digits, strict=True)) % 11 == 0
    return len(digits) == 13 and (sum(digits[::2]) + 3 * sum(digits[1::2])) % 10 == 0


def _masked(text: str, *patterns: re.Pattern[str]) -> str:
    """The text with every match as question marks, so that positions stay the same."""
    for pattern in patterns:
        text = pattern.sub(lambda match: "?" * len(match[0]), text)
    return text
