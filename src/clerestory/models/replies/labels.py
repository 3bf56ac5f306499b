"""The letters that name options: which ones there are, and where a text has them."""

from __future__ import annotations

import re
import unicodedata

from clerestory.models.replies import lexicon
from clerestory.models.replies.mention import Mention
from clerestory.models.replies.words import is_word

_WORD_LABELS = frozenset("aeiouy")  # one-letter words of some language


_FOLLOWERS = re.compile(
    r"\s+(?:is|was|seems?|looks?|appears?|because|since|as|would|should|best|fits?|matches|shows?|"
    r"and|or|but|not|with|ist|weil|es|porque|est|è|é|perché|porque)\b"
)


_LABEL_NOUN = (
    r"(?:options?|choices?|answers?|letters?|alternatives?|candidates?|items?|opción|"
    r"opciones|letra|lettre|lettera|buchstabe|antwort|möglichkeit|auswahl|"
    r"réponse|respuesta|risposta|resposta|opção|alternativa|opzione|optie|antwoord|"
    r"alternativ\w*|svar|opcja|odpowiedź|možnost|odpověď|variant\w*|вариант\w*|"
    r"ответ|буква|επιλογή|απάντηση|seçenek|şık|cevap|الخيار|الإجابة|الجواب|אפשרות|"
    r"תשובה|विकल्प|उत्तर|pilihan|jawaban|đáp án|lựa chọn|vaihtoehto|vastaus|válasz|răspuns\w*|varianta)"
)


_AFTER_NOUN = (
    r"(?:\s+(?:is|would be|must be|should be|ist|est|es|è|é|är|er|jest|je|to|on|este|है|هو|هي|"
    r"هی|là|adalah))?\s*[:：=-]?\s*[(\[\"'“‘«„]*"
)


_UNSPACED_NOUN = (
    "(?:选项|選項|答案|选择|選擇|选|選|回答|答え|正解|選択肢|정답|답|선택지|보기|옵션|번호|คำตอบ|ข้อ|ตัวเลือก)"
)


_ORDINALS = {
    "first": 0,
    "1st": 0,
    "second": 1,
    "2nd": 1,
    "third": 2,
    "3rd": 2,
    "fourth": 3,
    "4th": 3,
    "fifth": 4,
    "5th": 4,
}


_VERDICT_NEXT = re.compile(rf"\s+(?:{lexicon.WRONG}|{lexicon.RIGHT})\s*(?:$|[,.;!\n])")


def option_labels(count: int) -> list[str]:
    """``A`` … ``Z``, ``AA``, ``AB`` …, as in a spreadsheet."""
    labels = []
    for i in range(count):
        label, rest = "", i + 1
        while rest:
            rest, digit = divmod(rest - 1, 26)
            label = chr(ord("A") + digit) + label
        labels.append(label)
    return labels


def latin_letters(text: str) -> str:
    """A text in which full-width, circled, squared and mathematical letters are plain ones; places are kept."""
    return "".join(_latin(char) for char in text)


def _latin(char: str) -> str:
    code = ord(char)
    if code < 128:
        return char
    for first in (0x1F150, 0x1F170, 0x1F1E6):  # negative circled, negative squared, regional indicators
        if first <= code < first + 26:
            return chr(ord("A") + code - first)
    plain = unicodedata.normalize("NFKC", char)
    if len(plain) == 3 and plain[0] == "(" and plain[2] == ")":  # ⒝
        plain = plain[1]
    return plain if len(plain) == 1 and plain.isascii() else char


def label_index(label: str, count: int) -> int | None:
    """The option that a letter names, of the Latin or another alphabet; None if there is no such option."""
    label = latin_letters(label.strip())
    if not label or label.lower() in lexicon.UNCERTAIN_LETTERS:
        return None
    if not label.isascii():
        low = label.lower()
        # Every alphabet that has the letter has it in the same place; а and α are also look-alikes of a.
        places = {alphabet.index(low) for alphabet in lexicon.ALPHABETS if low in alphabet}
        if places:
            index = min(places)
            return index if index < count else None
        label = lexicon.LOOKALIKES.get(low, "")
    labels = option_labels(count)
    return labels.index(label.upper()) if label.upper() in labels else None


def label_mentions(text: str, count: int) -> list[Mention]:
    """Where a text names one of ``count`` options by its letter."""
    plain, letter = latin_letters(text), "[A-Za-z]" if count <= 26 else "[A-Za-z]{1,2}"
    foreign = f"[{''.join(lexicon.ALPHABETS)}{''.join(a.upper() for a in lexicon.ALPHABETS[:2])}вВСсКкМмТтНнРрОо]"
    found: dict[int, Mention] = {}

    def add(start: int, end: int, label: str, solo: bool = False) -> None:
        if not label.isascii() and is_word(text[end : end + 1]) and text[end - 1 : end] == label:
            return  # the first letter of a word whose next character is a vowel sign
        index = label_index(label, count)
        if index is not None and not any(m.start < end and start < m.end for m in found.values()):
            found[start] = Mention(start, end, index, True, solo)

    any_letter = f"(?:{letter}|{foreign})"
    line = (
        rf"^[ \t\"'“‘«„]*(?:[(\[<{{（【]\s*({any_letter})\s*[)\]>}}）】][.:]?|({any_letter})\s*(?:[.:)、．：）]|"
        rf"\s[-–—](?=\s)|,(?=\s)|[\"'”’»“]*\s*$))(?=\W|$)"
    )
    for m in re.finditer(line, plain, re.MULTILINE):
        add(m.start(), m.end(), m[1] or m[2], solo=True)
    before = rf"(?:(?<!\w){_LABEL_NOUN}(?!\w)|{_UNSPACED_NOUN}(?:是|为|為|は|은|는)?){_AFTER_NOUN}"
    noun = rf"{before}({any_letter})(?!\w|['’+#])"
    for m in re.finditer(noun, plain, re.IGNORECASE):
        if (
            m[1].lower() not in _WORD_LABELS
            or m[1].isupper()
            and not _starts_phrase(plain, m.end())
            or _ends(plain, m.end())
        ):
            add(m.start(1), m.end(1), m[1])
    for m in re.finditer(
        rf"(?<!\w)(?:[(\[<{{（【「『]\s*({any_letter})\s*[)\]>}}）】」』]|[\"'“‘«„]({any_letter})[.)]?[\"'”’»“])", plain
    ):
        add(m.start(), m.end(), m[1] or m[2])
    for m in re.finditer(rf"(?<![\w(\[])({any_letter})\)(?=\s)", plain):
        add(m.start(), m.end(), m[1])
    upper = letter.replace("a-z", "")
    for m in re.finditer(
        rf"(?<![A-Za-zÀ-ɏ0-9_'’.+-])({upper})(?![A-Za-zÀ-ɏ0-9_+#*°]|['’](?!d[ıiuü]r|t[ıiuü]r|"
        rf"d[ae]n|[yn]?[ıiuü]n?\b)|-\w|\.\w)",
        plain,
    ):
        if _is_label(plain, m):
            add(m.start(), m.end(), m[1])
    return sorted(found.values(), key=lambda mention: mention.start)


def numbered_mentions(text: str, count: int) -> list[Mention]:
    """Options by their place: "option 2", "the second option"."""
    found = [
        Mention(m.start(), m.end(), int(m[1] or m[2]) - 1, True)
        for m in re.finditer(rf"(?<!\w){_LABEL_NOUN}\s*[:#]?\s*(\d{{1,2}})(?![\w.,]\d|\w)|(?<!\d)(\d{{1,2}})번", text)
        if 1 <= int(m[1] or m[2]) <= count
    ]
    ordinals = "|".join([*_ORDINALS, "last"])
    for m in re.finditer(rf"\b({ordinals})\s+(?:option|choice|answer|one|alternative)\b", text):
        index = _ORDINALS.get(m[1], count - 1)
        if index < count:
            found.append(Mention(m.start(), m.end(), index, True))
    return found


def _ends(text: str, end: int) -> bool:
    """Whether a phrase ends here, so that the letter before it is not an article."""
    return bool(re.match(r"\s*(?:$|[^\w\s'’])", text[end:])) or bool(_FOLLOWERS.match(text[end:]))


def _starts_phrase(text: str, end: int) -> bool:
    return bool(re.match(r"\s+\w", text[end:])) and not _FOLLOWERS.match(text[end:])


def _is_label(text: str, match: re.Match[str]) -> bool:
    """Whether a lone capital is a label: one-letter words such as *A* and *I* must not begin a phrase."""
    letter = match[1]
    if letter.lower() not in _WORD_LABELS or len(letter) > 1:
        return True
    if letter == "I":
        return False
    if _ends(text, match.end()):
        return True
    if _VERDICT_NEXT.match(text[match.end() :].lower()):
        return True  # "A falsch, B richtig"
    before = re.search(r"(\w+)[\s,]+$", text[: match.start()])
    follows = re.match(r"\s+(\w)", text[match.end() :])
    if follows and not re.match("[A-Za-zÀ-ɏ]", follows[1]):
        return True  # a Latin letter in a text of another script
    # Within a sentence of lower-case words a capital A is not an article: "I would take A here".
    return bool(before and follows and before[1].islower() and follows[1].islower()) or not follows
