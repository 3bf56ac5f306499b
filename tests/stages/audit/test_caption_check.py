"""Faults of captions: each kind is found in a dataset that is otherwise in order, and ordinary captions have none."""

from __future__ import annotations

import json
import random

import pytest
from tests.support.ordinary_captions import ORDINARY, PHOTOGRAPHS

from clerestory.core.codec import encode
from clerestory.core.digest import digest_bytes
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.stages.audit.caption_check import check_captions
from clerestory.stages.audit.caption_findings import Boilerplate
from clerestory.stages.audit.caption_text import (
    boilerplate,
    damaged_characters,
    is_long,
    markup,
    min_tokens,
    other_language,
)
from clerestory.stages.audit.detection import Detection

GERMAN = """
Ein schwarzer Hund läuft mit einem Stock im Maul am Strand entlang
Zwei Mädchen sitzen auf einer Schaukel und lachen
Ein Mann in roter Jacke fährt einen verschneiten Hang hinunter
Kinder spielen am Nachmittag Fußball auf einem staubigen Platz
Eine Frau mit Regenschirm überquert nachts eine belebte Straße
Drei Leute warten im Regen auf den Bus
Das braune Pferd springt über einen weißen Zaun
Ein Straßenmusiker spielt Geige vor einer Kirche
""".strip().splitlines()
FOREIGN = {
    "fr": "Deux enfants jouent avec un ballon rouge dans le jardin",
    "es": "Un perro negro corre por la playa con un palo en la boca",
    "it": "Una donna anziana legge il giornale su una panchina",
    "nl": "Een man met een hoed wacht op de trein in het station",
    "pl": "Chłopiec w niebieskiej koszulce skacze do basenu",
    "ru": "Женщина с зонтом переходит улицу под дождём",
    "ja": "赤いジャケットを着た男性が雪の斜面を滑っている",
    "zh": "两个女孩坐在秋千上笑着看对方",
}


def dataset(*images: list[str], lang: str = "en") -> Dataset:
    samples = [
        Sample(f"s{i:04}", digest_bytes(str(i).encode()), tuple(Caption(text, lang) for text in texts))
        for i, texts in enumerate(images)
    ]
    return Dataset("test", samples, lambda sample: b"")


def with_ordinary(*images: list[str]) -> Dataset:
    """The images, before a hundred without a fault."""
    return dataset(*images, *([text] for text in ORDINARY))


def the_only(data: Dataset) -> Detection:
    (detection,) = check_captions(data)
    assert detection.checked == len(data)
    assert set(detection.notes) == set(detection.samples)
    return detection


def test_ordinary_captions_have_no_fault() -> None:
    assert check_captions(with_ordinary()) == []
    assert check_captions(dataset(*(PHOTOGRAPHS[i : i + 5] for i in range(0, len(PHOTOGRAPHS), 5)))) == []
    assert check_captions(dataset(*([] for _ in range(20)))) == []  # data without any caption is meant to be
    assert check_captions(dataset()) == []


@pytest.mark.icons
def test_the_icons_have_no_fault_but_shared_and_repeated_names(icons: Dataset) -> None:
    some = {sample.id for sample in random.Random(0).sample(icons.samples, 1500)}
    found = check_captions(icons.filter(lambda sample: sample.id in some))
    assert {detection.code.code for detection in found} <= {"CLR-A025", "CLR-A026"}


def test_images_without_captions_and_with_one_word() -> None:
    detection = the_only(with_ordinary([], ["…"], ["A dog sleeps", "?"]))
    assert (detection.code.code, detection.samples) == ("CLR-A020", ("s0000", "s0001"))
    detection = the_only(with_ordinary(["dog"], ["A dog sleeps", "Dog!"]))
    assert (detection.code.code, detection.samples) == ("CLR-A021", ("s0000", "s0001"))
    assert detection.notes["s0001"] == "caption 2: 1 word"
    assert check_captions(dataset(["dog"], ["cat"], ["red fox"])) == []  # names, not sentences


FILE_NAMES = ["IMG_1234.jpg", "DSC01234", "IMG-20240115-WA0007", "my dog (2).JPEG", "PXL_20230704_201512345"]
FILE_NAMES += ["Screenshot 2024-01-15 at 10.22.33", "3f2a9c1e-77b0-4d1e-9c3a-0a1b2c3d4e5f", "49502995517", "photo_17"]
PLACEHOLDERS = ["image", "Photo of product", "Untitled", "no caption", "N/A", "null", "Click to enlarge", "[image]"]
PLACEHOLDERS += ["Image may contain: 2 people, outdoor", "I'm sorry, I can't describe this image.", "Sans titre"]
PLACEHOLDERS += ["This image has an empty alt attribute; its file name is a.png"]
DESCRIPTIONS = ["a picture of a dog", "photo of a product on a shelf", "image stabiliser", "p 51 mustang", "Boeing 747"]
DESCRIPTIONS += ["A jpg file on a screen", "1984", "decade 1980", "facade", "a bad cafe", "test tube", "missing tooth"]


@pytest.mark.parametrize(
    ("texts", "reason"),
    [(FILE_NAMES, Boilerplate.FILE_NAME), (PLACEHOLDERS, Boilerplate.PLACEHOLDER), (DESCRIPTIONS, None)],
)
def test_boilerplate(texts: list[str], reason: Boilerplate | None) -> None:
    assert {text: boilerplate(text) for text in texts} == dict.fromkeys(texts, reason)


def test_file_names_and_placeholders_of_a_dataset() -> None:
    found = check_captions(with_ordinary(["IMG_1.jpg"], ["IMG_2.jpg"], ["untitled"], ["picture"], ["image"]))
    assert [(d.code.code, d.reason, d.samples) for d in found] == [
        ("CLR-A022", "file_name", ("s0000", "s0001")),
        ("CLR-A022", "placeholder", ("s0002", "s0003", "s0004")),
    ]
    assert check_captions(dataset(["picture"], ["camera"], ["frame"])) == []  # may be the name of an object


@pytest.mark.parametrize(
    "template", ["{} | Home & Garden Shop", "{} - Free shipping", "{} Buy it online today.", "Stock photo — {}"]
)
def test_templates(template: str) -> None:
    texts = [text.removesuffix(" .") + "." for text in PHOTOGRAPHS]
    detection = the_only(dataset(*([template.format(text)] for text in texts[:12]), *([text] for text in texts[12:])))
    assert (detection.code.code, detection.reason, len(detection.samples)) == ("CLR-A022", "template", 12)


def test_numbered_captions_are_a_template() -> None:
    detection = the_only(dataset(*([f"Product {i}, front view"] for i in range(30))))
    assert (detection.code.code, detection.reason, len(detection.samples)) == ("CLR-A022", "template", 30)


def test_markup() -> None:
    texts = {
        "A <b>black</b> dog<br/>": ("HTML tag",),
        "bread &amp; butter &#8211; fresh": ("HTML entity",),
        "a dog, from https://example.org/dogs": ("web address",),
        "[a dog](https://example.org)": ("web address", "Markdown link"),
        "a < b and c > d": (),
        "bread & butter; milk": (),
        "I <3 dogs": (),
        "AT&T; an old sign": (),
    }
    assert {text: markup(text) for text in texts} == texts
    detection = the_only(with_ordinary([next(iter(texts))]))
    assert (detection.code.code, detection.samples) == ("CLR-A023", ("s0000",))


@pytest.mark.parametrize(
    "text", ["Grüße aus Görlitz", "un café très agréable", "Świętego Jana", "Ελλάδα", "Москва", "東京", "👍🏽"]
)
def test_damage_that_reading_with_the_wrong_encoding_does(text: str) -> None:
    assert damaged_characters(text) == ()
    latin = text.encode().decode("latin-1")  # leaves control characters
    assert damaged_characters(latin)
    windows = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in text.encode())
    assert "UTF-8 read as another encoding" in damaged_characters(windows)


def test_damaged_characters() -> None:
    for text in (
        "„Ein großer Spaß“",
        "“LIBERTÉ”",
        "“AMANHÔ",
        "20 °C",
        "«café»",
        "Ångström",
        "l’été…",
        "Zoë—naïve",
        "‫שלום‬"[1:-1],
    ):
        assert damaged_characters(text) == (), text
    for text in ("a \x07 dog", "a \ufffd dog", "a\u202edog", "caf\\u00e9", "caf\\xe9", "20 Â°C", "itâ€™s"):
        assert damaged_characters(text), text
    assert the_only(with_ordinary(["A cafÃ© in the rain at night"])).code.code == "CLR-A028"


def test_a_dataset_recorded_in_the_wrong_language_is_one_finding() -> None:
    detection = the_only(dataset(*([text] for text in GERMAN)))
    assert (detection.code.code, detection.reason, len(detection.samples)) == ("CLR-A024", "most_captions", 8)
    assert "8 of 8 captions recorded as English are in German" in detection.message
    assert "(de)" in detection.finding().fix
    assert check_captions(dataset(*([text] for text in GERMAN), lang="de")) == []


def test_single_captions_in_another_language() -> None:
    detection = the_only(with_ordinary(*([text] for text in FOREIGN.values())))
    assert (detection.reason, len(detection.samples)) == ("some_captions", len(FOREIGN))
    assert detection.notes["s0000"] == "caption 1: French"


@pytest.mark.parametrize(("lang", "text"), FOREIGN.items())
def test_languages(lang: str, text: str) -> None:
    assert other_language(text, "en") == lang
    assert other_language(text, lang) == lang
    assert other_language(" ".join(text.split()[:3])[:7], "en") is None  # too short
    assert other_language(text, "xx") is None


def test_captions_repeated_within_an_image() -> None:
    detection = the_only(
        with_ordinary(["A dog runs on grass", "a dog runs, on grass!", "A dog runs on grass", "A cat naps"])
    )
    assert (detection.code.code, detection.samples) == ("CLR-A025", ("s0000",))
    assert "1 exactly, 1 apart from case" in detection.message
    assert detection.notes["s0000"] == "caption 2: has the words of caption 1; caption 3: equals caption 1"


def test_captions_repeated_over_images() -> None:
    data = with_ordinary(*(["A dog runs on the grass"] for _ in range(10)))
    detection = the_only(data)
    assert (detection.code.code, len(detection.samples)) == ("CLR-A026", 10)
    assert "“A dog runs on the grass”" in detection.message
    same = [Sample(f"x{i}", "0" * 64, (Caption("A dog runs on the grass"),)) for i in range(10)]
    assert check_captions(Dataset("copies of one image", same, lambda sample: b"")) == []


def test_long_captions() -> None:
    sentence = "A black dog runs along the beach. "
    assert min_tokens("A black dog, 2 cats.") == 9
    assert not is_long(sentence * 28)
    assert is_long(sentence * 32)
    assert min_tokens("犬" * 255) == 257
    assert is_long("犬" * 255)
    detection = the_only(with_ordinary([sentence * 40]))
    assert (detection.code.code, detection.notes["s0000"]) == ("CLR-A027", "caption 1: at least 322 tokens")


def test_no_message_repeats_personal_data() -> None:
    texts = ["Prints from ada@example.org, write today", "Call (212) 736-5000 for this sofa today"]
    data = with_ordinary(*([texts[i % 2]] for i in range(24)), *([f"Sofa {i} | ada@example.org"] for i in range(12)))
    found = check_captions(data)
    assert {detection.code.code for detection in found} == {"CLR-A022", "CLR-A026"}
    written = json.dumps([encode(d) for d in found] + [encode(d.finding()) for d in found])
    assert "ada" not in written  # nor as "ada example org"
    assert "736" not in written


def test_hostile_captions_take_no_longer_than_others() -> None:
    """No pattern backtracks: with squared or cubed time, 20,000 characters would take hours."""
    pieces = ("1", " ", "<a ", "[", "&a", "1 ", "abcdef12-", "a.jpg", ": :", "Ã©", "(a) ", "http://", "a! ", "a | ")
    for piece in pieces:
        text = (piece * 20_000)[:20_000] + "x"
        assert boilerplate(text) is None
        markup(text)
        damaged_characters(text)
        check_captions(dataset([text], [text]))
