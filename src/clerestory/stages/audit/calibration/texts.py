"""Personal data to plant in captions: random values with the right check digits, and texts that only look like some.

No value belongs to anybody by intention: domains are those of RFC 2606, account and card numbers are random.
"""

from __future__ import annotations

from random import Random

from clerestory.stages.audit.personal_data import PersonalDataKind

_FIRST = ("ada", "bob", "chen", "dora", "emil", "fatma", "gil", "hana", "ivan", "june")
_LAST = ("lovelace", "smith", "wei", "meyer", "novak", "kaya", "garcia", "sato", "petrov", "osei")
_DOMAINS = ("example.org", "example.com", "mail.example.net", "photos.example.co.uk")
_REGIONS = {
    "en": "US",
    "de": "DE",
    "fr": "FR",
    "es": "ES",
    "it": "IT",
    "pt": "BR",
    "nl": "NL",
    "pl": "PL",
    "sv": "SE",
    "ja": "JP",
}
_IBANS = {
    "DE": 18,
    "AT": 16,
    "CH": 17,
    "ES": 20,
    "PL": 24,
    "DK": 14,
}  # countries whose accounts are digits, and how many
_CARDS = (("4", 16), ("51", 16), ("55", 16), ("37", 15))
_DECOYS = (
    "order {a:06d}",
    "printed on 12/10/20{b:02d}",
    "open 9.30-17.00, 19{b:02d}-20{c:02d}",
    "{c:d}.{a:03d},00 EUR",
    "version 10.0.{a:d}",
    "at 48.{a:06d}, 11.{b:d}",
    "icon@{c:d}x.png",
    "number {a:d} of 999999",
    "{b:d} x {c:d} cm, item no. {a:d}",
    "ISBN 978-3-16-148410-0",
)
_INTRODUCTIONS = ("write to", "contact:", "by", "see", "paid from", "thanks to")


def personal_phrase(kind: PersonalDataKind, lang: str, rng: Random) -> str:
    """A few words with a random value of a kind.

    Args:
        kind: of personal data.
        lang: BCP 47 tag of the caption, which says how phone numbers are written.
        rng: chooses the value and how it is written.
    """
    value = {
        PersonalDataKind.EMAIL_ADDRESS: _email,
        PersonalDataKind.PHONE_NUMBER: lambda rng: _phone(lang, rng),
        PersonalDataKind.PAYMENT_CARD: _card,
        PersonalDataKind.IBAN: _iban,
    }[kind](rng)
    introduction = (
        "tel." if kind is PersonalDataKind.PHONE_NUMBER and rng.random() < 0.5 else rng.choice(_INTRODUCTIONS)
    )
    return f"{introduction} {value}"


def decoy_phrase(rng: Random) -> str:
    """A text with numbers and signs as personal data has them, and none in it."""
    return rng.choice(_DECOYS).format(a=rng.randint(100, 99_999), b=rng.randint(10, 99), c=rng.randint(2, 25))


def _email(rng: Random) -> str:
    first, last, domain = rng.choice(_FIRST), rng.choice(_LAST), rng.choice(_DOMAINS)
    name = rng.choice((f"{first}.{last}", f"{first}{rng.randint(1, 99)}", f"{first[0]}_{last}", f"{first}+x"))
    if rng.random() < 0.2:
        return f"{name} [at] {domain.replace('.', ' [dot] ')}"
    return f"{name}@{domain}" if rng.random() < 0.8 else f"{name}@{domain}".upper()


def _phone(lang: str, rng: Random) -> str:
    import phonenumbers as phones  # here, because it takes a tenth of a second

    language = lang.partition("-")[0].lower()
    example = phones.example_number_for_type(_REGIONS.get(language, "DE"), phones.PhoneNumberType.MOBILE)
    assert example is not None  # every region has one
    number = example
    for _ in range(50):
        national = int(example.national_number or 0) // 10_000 * 10_000 + rng.randint(0, 9_999)
        candidate = phones.PhoneNumber(country_code=example.country_code, national_number=national)
        if phones.is_valid_number(candidate):
            number = candidate
            break
    formats = phones.PhoneNumberFormat
    is_national = language in _REGIONS and rng.random() < 0.5
    return str(phones.format_number(number, formats.NATIONAL if is_national else formats.INTERNATIONAL))


def _card(rng: Random) -> str:
    start, length = rng.choice(_CARDS)
    digits = start + "".join(str(rng.randint(0, 9)) for _ in range(length - len(start) - 1))
    digits += str(_luhn_digit(digits))
    if rng.random() < 0.5:
        return digits
    sizes = (4, 6, 5) if length == 15 else (4, 4, 4, 4)
    parts, place = [], 0
    for size in sizes:
        parts.append(digits[place : place + size])
        place += size
    return rng.choice((" ", "-")).join(parts)


def _luhn_digit(digits: str) -> int:
    """The check digit that makes a number valid (ISO/IEC 7812-1)."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[::-2])
    return -(sum(doubled) + sum(int(digit) for digit in digits[-2::-2])) % 10


def _iban(rng: Random) -> str:
    country = rng.choice(sorted(_IBANS))
    account = "".join(str(rng.randint(0, 9)) for _ in range(_IBANS[country]))
    # ISO 13616: the account, the country as numbers from 10 on, and the check digits are 1 modulo 97.
    letters = "".join(str(int(letter, 36)) for letter in country)
    iban = f"{country}{98 - int(f'{account}{letters}00') % 97:02d}{account}"
    return iban if rng.random() < 0.5 else " ".join(iban[i : i + 4] for i in range(0, len(iban), 4))
