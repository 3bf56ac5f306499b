"""Personal data in captions: what is found, what is not, and that no value leaves the detector."""

from __future__ import annotations

import json
import logging
import random

import pytest
from tests.support.ordinary_captions import ORDINARY

from clerestory.core.codec import Tags, encode
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.stages.audit.personal_data import (
    IBAN_LENGTHS,
    PersonalDataKind,
    check_personal_data,
    find_personal_data,
    iban_valid,
    is_isbn,
    luhn_valid,
)

EMAIL, PHONE, CARD, IBAN = PersonalDataKind

# (language of the caption, text with the values in brackets ⟦⟧, kinds in their order)
PLANTED = [
    ("en", "write to ⟦ada.lovelace@example.org⟧ for prints", EMAIL),
    ("en", "name on the sign: ⟦ada [at] example [dot] org⟧, 2nd floor", EMAIL),
    ("de", "Anfragen an ⟦Jörg.Müller@post.example.de⟧!", EMAIL),
    ("en", "(⟦o'brien+prints@mail.example.co.uk⟧)", EMAIL),
    ("ja", "連絡先:⟦taro@example.co.jp⟧", EMAIL),
    ("en", "for rent, ⟦(212) 736-5000⟧", PHONE),
    ("en", "taxi with ⟦212-736-5000⟧ on the door", PHONE),
    ("en", "a van, ⟦+44 20 7946 0958⟧ and ⟦+49 30 901820⟧", PHONE, PHONE),
    ("", "a van, ⟦+49 (0)30 901820⟧", PHONE),
    ("en", "shop window with ⟦020 7946 0958⟧", PHONE),
    ("en", "call ⟦2127365000⟧ today", PHONE),
    ("de", "Schild an der Tür: ⟦0171/1234567⟧", PHONE),
    ("de-AT", "Plakat, Tel. ⟦01 58858⟧", PHONE),
    ("fr", "à louer ⟦01 42 68 53 00⟧", PHONE),
    ("fr", "à louer ⟦01 23 44 65 97⟧", PHONE),  # its digits are also an ISBN
    ("pl", "na sprzedaż ⟦22 123 45 67⟧", PHONE),
    ("pt", "vende-se ⟦(11) 2345-6789⟧", PHONE),
    ("sv", "till salu ⟦08-12 36 68⟧", PHONE),
    ("ja", "⟦03-1231-7948⟧ の看板", PHONE),
    ("es", "se vende, tel. ⟦912 345 678⟧", PHONE),
    ("en", "a bank card, ⟦4111 1111 1111 1111⟧, valid until 12/29", CARD),
    ("en", "receipt ⟦5555555555554444⟧", CARD),
    ("en", "⟦3782 822463 10005⟧ on a blue card", CARD),
    ("en", "⟦6011-1111-1111-1117⟧.", CARD),
    ("de", "Überweisung an ⟦DE89 3704 0044 0532 0130 00⟧ bis Freitag", IBAN),
    ("en", "donate: ⟦GB82WEST12345698765432⟧", IBAN),
    ("fr", "virement ⟦fr14 2004 1010 0505 0001 3m02 606⟧", IBAN),
    ("en", "⟦MT84 MALT 0110 0001 2345 MTLC AST0 01S⟧", IBAN),
    ("no", "konto ⟦NO93 8601 1117 947⟧", IBAN),
    ("en", "⟦ada@example.org⟧, ⟦+1 212 736 5000⟧, ⟦DE89370400440532013000⟧", EMAIL, PHONE, IBAN),
]
ALMOST = [
    "4111 1111 1111 1112",  # wrong check digit
    "1111 1111 1111 1111",  # all digits equal
    "0000000000000000",
    "41 11 11 11 11 11 11 11",  # not written like a card
    "DE89 3704 0044 0532 0130 01",
    "DE89 3704 0044 0532 0130 0",
    "XX89 3704 0044 0532 0130 00",
    "DE89370400440532013000123",
    "icon@2x.png and logo@3x.jpg",
    "at noon (at) the dot com fair",
    "ada@localhost",
    "https://photos.example.org/?id=4111111111111111",
    "https://photos.example.org/49502995517/in/2127365000",
    "ISBN 0-306-40615-2, ISBN 9783161484100",
    "part no. 212-736-5000",
    "SN 0123-4567-89",
    "+0 000 000 0000",
    "123 456 789 000",
    "512 345 678 people",  # also a Polish number, which needs a word such as "tel."
    "from 2010 2024",
]


def split_marks(marked: str) -> tuple[str, list[str]]:
    """The text without the marks, and the values between them."""
    values = [part.partition("⟧")[0] for part in marked.split("⟦")[1:]]
    return marked.replace("⟦", "").replace("⟧", ""), values


def dataset(*captions: Caption, per_image: int = 1) -> Dataset:
    groups = [captions[i : i + per_image] for i in range(0, len(captions), per_image)]
    return Dataset("test", [Sample(f"s{i:04}", f"{i:064x}", group) for i, group in enumerate(groups)], lambda s: b"")


@pytest.mark.parametrize(("lang", "marked", "kinds"), [(lang, text, kinds) for lang, text, *kinds in PLANTED])
def test_planted_values_are_found_at_their_place(lang: str, marked: str, kinds: list[PersonalDataKind]) -> None:
    text, values = split_marks(marked)
    found = find_personal_data(text, lang)
    assert [item.kind for item in found] == kinds
    assert [text[item.start : item.end] for item in found] == values


@pytest.mark.parametrize("text", ALMOST)
@pytest.mark.parametrize("lang", ["en", "de", "pl", "no", ""])
def test_what_only_looks_like_it_is_not_found(text: str, lang: str) -> None:
    assert not find_personal_data(text, lang)


@pytest.mark.parametrize("lang", ["en", "en-US", "en-GB", "de", "fr", "es", "ja", "pl", "no", "da", "pt", "zh", ""])
def test_ordinary_captions_have_none(lang: str) -> None:
    assert not [text for text in ORDINARY if find_personal_data(text, lang)]


@pytest.mark.icons
def test_the_names_of_icons_in_all_languages_have_none(icons: Dataset) -> None:
    assert check_personal_data(icons) == []


def test_no_value_is_in_the_result_or_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    texts = [split_marks(marked) for _, marked, *_ in PLANTED]
    captions = [Caption(text, lang) for (text, _), (lang, *_) in zip(texts, PLANTED, strict=True)]
    data = dataset(*captions, *(Caption(text) for text in ORDINARY))
    detections = check_personal_data(data)
    written = json.dumps([encode(d) for d in detections] + [encode(d.finding()) for d in detections])
    written = json.dumps(json.loads(written), ensure_ascii=False) + caplog.text
    assert "caption 1: e-mail address" in written
    for _, values in texts:
        for value in values:
            assert value not in written
            assert "".join(filter(str.isalnum, value)) not in written


def test_detections_count_captions_and_say_which() -> None:
    data = dataset(
        Caption("a dog"),
        Caption("ada@example.org"),
        Caption("bob@example.org and eve@example.org"),
        Caption("a cat"),
        per_image=2,
    )
    (detection,) = check_personal_data(data)
    assert (detection.code.code, detection.samples, detection.checked) == ("CLR-A030", ("s0000", "s0001"), 2)
    assert detection.message == "2 captions of 2 images contain an e-mail address"
    assert detection.notes == {
        "s0000": "caption 2: e-mail address",
        "s0001": "caption 1: e-mail address (2 times)",
    }


def test_checksums_against_their_definitions() -> None:
    generator = random.Random(1)
    for _ in range(300):
        body = "".join(generator.choices("0123456789", k=15))
        valid = [digit for digit in "0123456789" if luhn_valid(body + digit)]
        doubled = [int(d) * (2 if i % 2 == 0 else 1) for i, d in enumerate(body)]
        assert valid == [str(-sum(d - 9 if d > 9 else d for d in doubled) % 10)]
    assert not any(luhn_valid(digit * 16) for digit in "0123456789")
    for country, length in IBAN_LENGTHS.items():
        account = "".join(generator.choices("0123456789", k=length - 4))
        right = [n for n in range(100) if iban_valid(f"{country}{n:02}{account}")]
        assert 98 - int("".join(str(int(c, 36)) for c in account + country + "00")) % 97 in right
        assert len(right) in (1, 2), country  # 97 remainders, 100 numbers
    assert is_isbn("978-3-16-148410-0")
    assert is_isbn("0-8044-2957-X")
    assert not is_isbn("978-3-16-148410-1")


def test_the_time_grows_with_the_length_of_a_text() -> None:
    """Hostile captions: no pattern backtracks, and the number of phone numbers does not square the time."""
    for piece in (
        "a",
        "1",
        "1 ",
        "a.",
        "a@",
        "DE12",
        "DE12 ",
        "+1",
        "a (at) ",
        "0123 456 ",
        "tel. 020 7946 0958 ",
        "-@",
    ):
        found = find_personal_data(piece * 500, "en")
        assert len(found) == (500 if "7946" in piece else 0)


@pytest.mark.parametrize(
    ("sample", "note"),
    [
        (Sample("jane.doe@example.com.jpg", "0" * 64), "id: e-mail address"),
        (Sample("a.jpg", "0" * 64, groups=Tags(author="jane.doe@example.com")), "column author: e-mail address"),
        (Sample("a.jpg", "0" * 64, source="+49 89 12345678"), "source: phone number"),
        (Sample("icon@2x.png", "0" * 64, source="@iconify-json/openmoji@1.2.29"), ""),
        (Sample("4111111111111111.jpg", "0" * 64), ""),
        (Sample("a.jpg", "0" * 64, source="http://farm5.staticflickr.com/4115/4906536419_6113bd7de4_z.jpg"), ""),
    ],
)
def test_personal_data_outside_of_captions_is_named_without_its_value(sample: Sample, note: str) -> None:
    found = check_personal_data(Dataset("d", [sample], lambda _: b""))
    assert [(each.code.code, dict(each.notes)) for each in found] == ([("CLR-A039", {sample.id: note})] if note else [])
    assert not [each for each in found if "jane" in each.message or "123456" in each.message]
