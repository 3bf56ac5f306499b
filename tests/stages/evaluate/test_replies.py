"""Which answer the reply of a model means, in many phrasings and languages."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clerestory.models.reasoning import without_reasoning
from clerestory.models.replies.keys import match_text, normalize_answer
from clerestory.models.replies.labels import option_labels
from clerestory.models.replies.markup import explicit_answers
from clerestory.models.replies.reading import read_choice, read_short_answer, read_yes_no
from clerestory.stages.evaluate.tasks.answer_parsing import correct_option, format_options, parse_yes_no

# {L} is the letter of the answer, {T} its text; {l} and {t} are those of another option.
CHOICE = (
    "{L}", "({L})", "{L}.", "{L})", "[{L}]", "{L}: {T}", "{L}. {T}", "({L}) {T}", "**{L}**", "**{L}. {T}**",
    "`{L}`", "_{L}_", "{T}", "{T}.", "*{T}*", "“{T}”", "Answer: {L}", "Answer: **{L}**", "**Answer:** {L}",
    "Final answer: ({L})", "## Answer\n{L}", "The answer is {L}.", "The correct answer is ({L}).",
    "The correct option is **{L}**", "Option {L}", "option {L} is correct", "I would choose {L}.",
    "It must be {L}", "{L} is the right answer.", "I think it is the {T}.", "This looks like a {T} to me.",
    "My answer is {T}", r"\boxed{{{L}}}", r"$\boxed{{\text{{{L}}}}}$", r"So the result is \boxed{{{T}}}.",
    '{{"answer": "{L}"}}', '```json\n{{"reason": "not {t}", "answer": "{L}"}}\n```', '{{"answer": "{T}"}}',
    "{{'choice': '{L}'}}", '{{"answer": {{"letter": "{L}", "text": "{T}"}}}}', "<answer>{L}</answer>",
    "<think>Is it {l}? Maybe {t}.</think>{L}", "<think>Is it {l}? Maybe {t}.</think>\n\nThe answer is **{L}**.",
    "Maybe {l}, or {t}.</think>{L}", "[THINK]{l}?[/THINK]{L}",
    "<|channel|>analysis<|message|>It could be {l}<|end|><|start|>assistant<|channel|>final<|message|>{L}<|return|>",
    "{L}\n\nThe {T} is in front, unlike the {t}.", "{L}, because there is no {t}.", "{L} - {T}",
    "It is not {l}, it is {L}.", "It is not option {l}, it is option {L}.", "It is not the {t}, it is the {T}.",
    "Not {l} but {L}.", "Not a {t}, but a {T}.", "{L}, not {l}.", "I would say {L} rather than {l}.",
    "{l} is wrong; {L} is right.", "Option {l} is incorrect. Option {L} is correct.", "{l}? No. {L}.",
    "Between {l} and {L}, I choose {L}.", "The answer is {l}. Wait, no: the answer is {L}.", "~~{l}~~ {L}",
    "There is no doubt that it is {L}.", "There is no {t} here, only a {T}.",
    "I don't think it is {l}; it is {L}.", "Die Antwort ist {L}.", "Die richtige Antwort lautet {L}",
    "Das ist nicht {l}, sondern {L}.", "Richtig ist {L}, weil kein {t} zu sehen ist.",
    "La respuesta correcta es {L}.", "No es {l}, es {L}.", "La opción {L} es la correcta.", "Respuesta: {L}",
    "La bonne réponse est {L}.", "Ce n'est pas {l}, c'est {L}.", "Réponse : {L}", "Je choisis {L} plutôt que {l}.",
    "La risposta corretta è {L}.", "Non è {l}, ma {L}.", "A resposta correta é {L}.", "Não é {l}, é {L}.",
    "Het antwoord is {L}.", "Het is niet {l} maar {L}.", "Rätt svar är {L}.", "Svaret er {L}, ikke {l}.",
    "Prawidłowa odpowiedź to {L}.", "To nie {l}, lecz {L}.", "Správná odpověď je {L}.", "Правильный ответ: {L}.",
    "Это не {l}, а {L}.", "Ответ {L}", "Правильна відповідь {L}", "Η απάντηση είναι {L}.", "Doğru cevap {L}.",
    "{l} değil, {L}.", "الإجابة الصحيحة هي {L}", "ليس {l} بل {L}", "התשובה הנכונה היא {L}", "सही उत्तर {L} है।",
    "{l} नहीं, {L} है।", "答案是{L}。", "不是{l}，而是{L}。",
    "选{L}", "正确答案：{L}", "正解は{L}です。", "{l}ではなく、{L}です。",
    "정답은 {L}입니다.", "{l}가 아니라 {L}입니다.", "Đáp án đúng là {L}.", "Không phải {l} mà là {L}.",
    "Jawabannya adalah {L}.", "Bukan {l}, tetapi {L}.", "คำตอบคือ {L}", "Oikea vastaus on {L}.",
    "A helyes válasz: {L}", "Răspunsul corect este {L}.",
)  # fmt: skip
NEITHER = (
    "", "   ", "I cannot help with that.", "I'm sorry, I can't see any image.", "None of these.",
    "It is neither {l} nor {L}.", "{l} or {L}", "It could be {l} or {L}.", "Either the {t} or the {T}.",
    "I see a {t} and a {T}.", "Both {l} and {L} are possible.", "<think>It may be {L}, for the {T}",
    "<think>{L}</think>", "I don't know.", "Weder {l} noch {L}.", "Ich weiß es nicht.", "不知道", "わかりません。",
    "Не знаю.", "Es könnte {l} oder {L} sein.", "It is not {L}.", "I don't think it is {L}.", "Not the {T}.",
    "{l}. {t}\n{L}. {T}", '{{"answer": null}}', '{{"answer": ""}}', "Ni {l} ni {L}.", "Is it {l} or {L}?",
    "Please answer yourself.",
)  # fmt: skip
OPTIONS = (
    ("cat", "dog", "horse", "hen"),
    ("a red car", "a blue car", "a red bus", "a bicycle"),
    ("Paris", "London", "Rome", "New York"),
    ("hot dog", "dog", "puppy"),
    ("3", "4", "5", "12"),
    ("Hund", "Katze", "Pferd"),
    ("собака", "кошка", "лошадь", "курица"),
    ("😀", "😢", "👍🏽", "👍"),
    ("snow leopard", "tabby", "Egyptian cat", "tiger", "lion"),
)


def fill(form: str, options: tuple[str, ...], right: int, other: int) -> str:
    labels = option_labels(len(options))
    return form.format(L=labels[right], T=options[right], l=labels[other], t=options[other])


@pytest.mark.parametrize("form", CHOICE)
def test_a_right_answer_is_correct_and_a_wrong_one_is_not_in_any_phrasing(form: str) -> None:
    for options in OPTIONS:
        for right in range(len(options)):
            other = (right + 1) % len(options)
            # An English article before another language, or a part of another option, is no fair text.
            if "{T}" in form and "{L}" not in form and options[0] in ("hot dog", "Hund", "собака", "😀", "3"):
                continue
            reply = fill(form, options, right, other)
            assert read_choice(reply, options) == right, reply


@pytest.mark.parametrize("form", NEITHER)
def test_a_reply_without_one_answer_is_not_understood(form: str) -> None:
    options = ("cat", "dog", "horse", "hen")
    for right in range(4):
        reply = fill(form, options, right, (right + 1) % 4)
        assert read_choice(reply, options) is None, reply


@given(
    form=st.sampled_from(CHOICE[:24]),
    count=st.integers(2, 60),
    seed=st.integers(0, 1000),
)
@settings(max_examples=200, deadline=None)
def test_letters_beyond_z_are_read_like_the_others(form: str, count: int, seed: int) -> None:
    draw = random.Random(seed)
    options = tuple(f"item {i} of {count}" for i in range(count))
    right, other = draw.sample(range(count), 2)
    assert read_choice(fill(form, options, right, other), options) == right


@given(
    options=st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=8).map(str.strip),
        min_size=2, max_size=6, unique=True,
    ).filter(lambda options: all(len(o) > 2 for o in options)),
    data=st.data(),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_an_option_repeated_word_for_word_is_that_option(options: list[str], data: st.DataObject) -> None:
    right = data.draw(st.integers(0, len(options) - 1))
    assert match_text(options[right], options) == right
    assert correct_option(options[right], options, "x") == right


@pytest.mark.parametrize(
    "pair",
    [
        ("-5", "5"), ("−5", "5"), ("C#", "C"), ("C++", "C"), ("3.5", "35"), ("50 %", "50"), ("👎", "👍"),
        ("👍🏽", "👍🏿"), ("कि", "का"), ("$5", "5"), ("€5", "$5"), ("1/2", "12"), ("3:45", "345"), ("x²", "x2"),
        ("5°", "5"), ("+1", "-1"), ("A+", "A-"), ("<", ">"), ("f#", "f"), ("±5", "5"), ("é", "e"), ("ñ", "n"),
        ("が", "か"), ("1,5", "15"), ("#1", "1"), ("a*b", "ab"), ("≤", "≥"), ("مَ", "مِ"), ("✓", "✗"),
        ("🇩🇪", "🇫🇷"), ("👨‍👩‍👧", "👨‍👩‍👦"), (".5", "5"), ("&", "@"),
    ],
)  # fmt: skip
def test_signs_symbols_marks_and_emoji_make_a_difference(pair: tuple[str, str]) -> None:
    one, other = pair
    assert normalize_answer(one) != normalize_answer(other) or one.casefold() != other.casefold()
    for options in ((one, other), (other, one)):
        for right, text in enumerate(options):
            assert match_text(text, options) == right
            assert read_choice(text, options) == right or text in ("A+", "A-")
            assert read_choice(f"The answer is {text}", options) == right
    assert read_choice(one, (other, "something else")) is None
    if one != "#1":
        assert read_short_answer(one, "normalised", (other,)) is False


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A dog.", "dog"), ("the  Dog!", "dog"), ("“dog”", "Dog"), ("1,000", "1000"), ("− 5", "-5"),
        ("50 %", "50%"), ("well-known", "well known"), ("cafe\u0301", "café"), ("❤️", "❤"), ("Straße", "STRASSE"),
        ("New  York.", "new york"),
    ],
)  # fmt: skip
def test_case_punctuation_articles_and_spelling_of_numbers_do_not(one: str, other: str) -> None:
    assert normalize_answer(one) == normalize_answer(other)
    assert match_text(one, ("something", other)) == 1


def test_options_that_are_equal_when_normalised_are_told_apart_by_what_the_model_wrote() -> None:
    assert [match_text(text, ("Red", "red", "red.")) for text in ("Red", "red", "red.", "RED", "red!")] == [
        0,
        1,
        2,
        None,
        None,
    ]


YES = (
    "Yes", "yes.", "**Yes**", "YES!", "Yeah", "Yep, it is", "Yes, it is a dog.", "Certainly.", "Of course",
    "Absolutely!", "Indeed it is: yes", "The answer is yes.", "Answer: **Yes**", r"\boxed{yes}",
    '{"answer": "yes"}', '{"answer": true}', "True", "That is true.", "That's correct.", "It is correct.",
    "It is not false.", "That is not wrong", "It is.", "I think so.", "I believe so",
    "There is no doubt about it: yes.", "It is a dog.", "I see a cat too, but yes", "So, yes",
    "<think>no, no</think>Yes", "I would say yes.", "✅", "Y", "No doubt about it.", "The statement is true.", "Ja",
    "Ja, das ist ein Hund.", "Das stimmt.", "Das ist richtig.", "Oui", "Oui, c'est un chien", "C'est vrai.",
    "Ce n'est pas faux.", "Sí", "Sí, es un perro", "Es verdad.", "Es correcto", "Sì", "È vero.", "Sim",
    "É verdade", "Ja, dat klopt.", "Det stämmer.", "Tak", "To prawda.", "Ano", "Да", "Да, это собака.",
    "Это правда.", "Так", "Ναι", "Evet", "Doğru", "نعم", "هذا صحيح", "כן", "हाँ", "यह सही है", "是的", "是", "对",
    "是的，这是一只狗。", "正确", "はい", "はい、犬です。", "正しいです", "네",
    "네, 개입니다.", "맞습니다", "Có", "Đúng", "Ya", "Benar", "ใช่",
    "Kyllä", "Igen", "Da, este un câine.",
)  # fmt: skip
NO = (
    "No", "no.", "**No**", "NO!", "Nope", "Nah", "No, it is a cat.", "Certainly not.", "Of course not",
    "Absolutely not!", "Not at all", "Not really.", "The answer is no.", "Answer: **No**", r"\boxed{no}",
    '{"answer": "no"}', '{"answer": false}', "False", "It is not true.", "That's incorrect.",
    "That is not correct", "It is false.", "This is wrong", "It isn't.", "It is not.", "I don't think so.",
    "I'm afraid not", "There isn't.", "It is not a dog.", "I can see 1 dog and it is not running, so no.",
    "So, no", "<think>yes, yes</think>No", "I would say no.", "❌", "N", "That is not the case.",
    "This is not a dog.", "The statement is not true.", "No. The picture shows a cat.", "Nein",
    "Nein, das ist kein Hund.", "Das stimmt nicht.", "Das ist nicht richtig.", "Das ist falsch.", "Non",
    "Non, ce n'est pas un chien", "Ce n'est pas vrai.", "C'est faux.", "No es verdad.", "No, no es un perro",
    "Es falso", "Claro que no", "Non è vero.", "È falso", "Não", "Não é verdade", "Nee", "Dat klopt niet.",
    "Det stämmer inte.", "Nej", "Nie", "To nieprawda.", "Ne", "Нет", "Нет, это кошка.", "Это неправда.",
    "Это не так, нет.", "Ні", "Όχι", "Hayır", "Doğru değil", "Yanlış", "لا", "هذا غير صحيح", "לא", "नहीं",
    "यह सही नहीं है", "यह गलत है", "不是", "不", "不对",
    "不是的，这是一只猫。", "错误", "不正确", "いいえ", "いいえ、猫です。", "違います",
    "正しくありません", "아니요", "아니요, 고양이입니다.", "아닙니다", "틀렸습니다",
    "Không", "Sai", "Tidak", "Tidak benar", "Bukan", "ไม่ใช่",
    "Ei", "Nem",
)  # fmt: skip
NEITHER_YES_NOR_NO = (
    "", "Perhaps.", "Yes and no.", "I cannot tell.", "I'm not sure.", "I cannot see the image.", "It is unclear.",
    "I don't know", "1", "0", "A dog and a cat.", "I can see 1 dog.", "Ich weiß es nicht.", "Je ne sais pas.",
    "No lo sé.", "不知道", "わかりません", "모르겠습니다", "Не знаю.", "It depends.", "<think>yes",
    "I'm sorry, I can't help with that.", "Please answer yes or no.", "It might be a dog.", "Vielleicht.",
    "It is hard to say whether it is a dog.",
)  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "meant"),
    [*((r, "yes") for r in YES), *((r, "no") for r in NO), *((r, None) for r in NEITHER_YES_NOR_NO)],
)
def test_whether_a_reply_says_yes_or_no(reply: str, meant: str | None) -> None:
    assert read_yes_no(reply, "Is it a dog?") == meant


@pytest.mark.parametrize(
    ("cell", "meant"),
    [
        ("1", "yes"), ("0", "no"), ("y", "yes"), ("N", "no"), ("True", "yes"), ("false", "no"), ("ja", "yes"),
        ("нет", "no"), ("not true", "no"), ("2", ""), ("", ""),
    ],
)  # fmt: skip
def test_what_a_cell_of_a_table_says(cell: str, meant: str) -> None:
    assert parse_yes_no(cell) == meant


@pytest.mark.parametrize(
    ("reply", "meant"),
    [
        ("B", None), ("B.", 1), ("**B**", 1), ("The answer is B, because the", 1), ("The answer is", None),
        ("The answer is B", None), ("I see a dog running after", None),
        ("<think>It may be a dog, but the tail of", None), (r"\boxed{B} since the", 1),
        ('{"answer": "B", "why": "the', 1), ("B. dog\n\nThe picture shows", 1), ("A dog and a", None),
        ("Let us look at each option. A. cat: no, because there is no", None),
    ],
)  # fmt: skip
def test_a_reply_that_was_cut_off_counts_only_with_an_explicit_answer(reply: str, meant: int | None) -> None:
    assert read_choice(reply, ("cat", "dog", "horse", "hen"), cut_off=True) == meant


@pytest.mark.parametrize(
    ("reply", "scorer", "correct"),
    [
        ("**A dog.**", "normalised", True), ("The answer is a dog.", "normalised", True),
        (r"\boxed{dog}", "normalised", True), ("It's a dog.", "normalised", True),
        ("Answer: dog", "normalised", True), ('{"answer": "dog"}', "normalised", True),
        ("<think>cat</think>dog", "normalised", True), ("cat", "normalised", False),
        ("dog\n\nThe picture shows an animal.", "normalised", True),
        ("I cannot see any image, sorry.", "normalised", None), ("", "normalised", None),
        ("There is a dog on the grass.", "contains", True), ("It is not a dog, it is a cat.", "contains", False),
        ("No dog is there.", "contains", False), ("hotdog", "contains", False), ("dog", "exact", True),
        ("Dog", "exact", False), ("<think>hm</think>dog", "exact", True),
        ("Die Antwort lautet: dog", "normalised", True),
    ],
)  # fmt: skip
def test_whether_a_short_answer_is_correct(reply: str, scorer: str, correct: bool | None) -> None:
    assert read_short_answer(reply, scorer, ("dog",)) is correct


def test_a_short_answer_that_was_cut_off_is_not_understood_unless_it_was_given() -> None:
    assert read_short_answer("The picture shows a dog that", "contains", ("dog",), cut_off=True) is None
    assert read_short_answer("The answer is: cat. It sits", "normalised", ("dog",), cut_off=True) is False
    assert read_short_answer(r"\boxed{dog} as it", "contains", ("dog",), cut_off=True) is True


def test_a_very_long_reply_is_read_at_its_beginning_and_end() -> None:
    options, filler = ("cat", "dog", "horse", "hen"), "The grass is green in front of the house. " * 1000
    assert read_choice(f"B\n\n{filler}", options) == 1
    assert read_choice(f"{filler}So the answer is B.", options) == 1
    assert read_choice(filler, options) is None
    assert read_yes_no(f"No. {filler}") == "no"


@given(
    text=st.text(max_size=60),
    name=st.sampled_from(("think", "thinking", "reasoning", "THINK", "scratchpad", "reflection")),
)
@settings(max_examples=200, deadline=None)
def test_reasoning_is_left_out_whatever_it_says(text: str, name: str) -> None:
    thought = text.replace("<", " ").replace(">", " ").replace("[", " ").replace("◁", " ")
    assert without_reasoning(f"<{name}>{thought}</{name}>\nB") == "B"
    assert without_reasoning(f"<{name}>{thought}") == ""
    assert without_reasoning(f"{thought}</{name}>B") == "B"


@given(text=st.text(max_size=200))
@settings(max_examples=500, deadline=None)
def test_any_text_can_be_read(text: str) -> None:
    options = ("cat", "C++", "-5", "猫")
    assert read_choice(text, options) in (None, 0, 1, 2, 3)
    assert read_yes_no(text, "Is it so?") in (None, "yes", "no")
    assert read_short_answer(text, "contains", ("cat",)) in (None, True, False)


def test_options_are_listed_beyond_z_and_json_in_a_reply_is_found() -> None:
    lines = format_options([str(i) for i in range(30)]).splitlines()
    assert (lines[25], lines[26], lines[29]) == ("Z. 25", "AA. 26", "AD. 29")
    assert explicit_answers('Sure: {"a": 1, "final_answer": {"option": "B"}} ok') == ["B"]


@pytest.mark.parametrize("options", [("①", "②"), ("²", "³"), ("٣", "٤")])
def test_digits_of_other_kinds_are_options_like_any_other(options: tuple[str, str]) -> None:
    assert read_choice("I cannot tell.", options) is None
    assert read_choice(options[1], options) == 1
