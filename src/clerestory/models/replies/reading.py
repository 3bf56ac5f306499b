r"""The meaning of a reply: the option, yes or no, or short answer that it gives; None if it is not understood.

A reply that was cut off counts only if it gave an explicit answer before: a letter alone, ``\boxed{B}``, JSON, or a
statement such as "the answer is B".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from clerestory.models.reasoning import without_reasoning
from clerestory.models.replies import lexicon
from clerestory.models.replies.keys import casefold_key, match_text, same_answer
from clerestory.models.replies.labels import label_index
from clerestory.models.replies.markup import explicit_answers, without_markup
from clerestory.models.replies.mention import EXPLICIT, PLAIN, Mention, compose, fold
from clerestory.models.replies.mentions import find_mentions

Meaning = TypeVar("Meaning")
MAX_BEGINNING, MAX_END = 2000, 4000  # characters of a reply that are read
_LONE_LABEL = re.compile(
    r"[(\[<{（【「『\"'“‘]*\s*(\w[\u0300-\u036f\ufe0f\u20e3]?\w?)\s*[.):,\]>}）】」』\"'”’。．：]*"
)


def read_choice(reply: str, options: Sequence[str], cut_off: bool = False) -> int | None:
    """The option that a reply means, by its letter or its text; None if it names none, or several.

    Args:
        reply: as the model gave it.
        options: as they were listed, from A on.
        cut_off: whether the reply ended at the limit of its length.
    """
    polar = _polar_options(options)

    def read(text: str, unfinished: bool) -> int | None:
        if polar and not any(mention.by_label for mention in find_mentions(text, options)):
            answer = _yes_no_in(text, "", unfinished)
            if answer:
                return polar[answer]
        return _choice_in(text, options, unfinished)

    return _first_meaning(reply, read, cut_off)


def read_yes_no(reply: str, question: str = "", cut_off: bool = False) -> str | None:
    """``yes`` or ``no``; None if a reply says neither.

    Args:
        reply: as the model gave it.
        question: a reply that repeats it as a statement affirms it, or denies it with a negation.
        cut_off: whether the reply ended at the limit of its length.
    """
    return _first_meaning(reply, lambda text, unfinished: _yes_no_in(text, question, unfinished), cut_off)


def read_short_answer(reply: str, scorer: str, correct: Sequence[str], cut_off: bool = False) -> bool | None:
    """Whether a free answer is one of the correct ones; None if the reply gives no answer.

    Args:
        reply: as the model gave it.
        scorer: ``exact``, ``normalised`` or ``contains``.
        correct: the correct answers.
        cut_off: whether the reply ended at the limit of its length.
    """
    text = _answer_part(reply)
    explicit = explicit_answers(text)
    stated = [*explicit, *_stated_answers(without_markup(text))]
    candidates = stated if cut_off else [text, without_markup(text), *stated]
    if any(_matches(scorer, candidate, correct) for candidate in candidates):
        return True
    if not text or (cut_off and not stated) or (not stated and _declines(without_markup(text))):
        return None
    return False


def _first_meaning(reply: str, read: Callable[[str, bool], Meaning | None], cut_off: bool) -> Meaning | None:
    """The meaning of an explicit answer (the last one that has a meaning), else of the whole text."""
    text = _answer_part(reply)
    for answer in reversed(explicit_answers(text)):
        meaning = read(without_markup(answer), False)
        if meaning is not None:
            return meaning
    if not text:
        return None
    meaning = None if cut_off else read(text, False) if _is_short(text) else None
    return read(without_markup(text), cut_off) if meaning is None else meaning


def _answer_part(reply: str) -> str:
    """A reply without its reasoning; of a very long one the beginning and the end, where answers are."""
    text = without_reasoning(reply)
    if len(text) <= MAX_BEGINNING + MAX_END:
        return text
    return f"{text[:MAX_BEGINNING]}\n…\n{text[-MAX_END:]}"


def _is_short(text: str) -> bool:
    """Whether a text may be an option as it stands, markup included."""
    return "\n" not in text.strip()


def _choice_in(text: str, options: Sequence[str], cut_off: bool) -> int | None:
    whole = _whole_choice(text, options)
    if whole is not None and not (cut_off and _may_go_on(text)):
        return whole
    mentions = find_mentions(text, options)
    _retract_conflicts(text, options, mentions)
    affirmed = [mention for mention in mentions if mention.affirmed]
    explicit = [mention for mention in affirmed if mention.weight == EXPLICIT]
    if cut_off:
        shown = text.rstrip()
        explicit = [m for m in explicit if m.end < len(shown) or not _may_go_on(shown)]
        return _last_agreed(compose(text), explicit)
    if explicit:
        return _last_agreed(compose(text), explicit)
    for weight in (PLAIN, 0):
        some = {mention.option for mention in affirmed if mention.weight == weight}
        if some:
            return some.pop() if len(some) == 1 else None
    return None


def _may_go_on(text: str) -> bool:
    """Whether the last word of a cut text may be the beginning of a longer one."""
    return text.rstrip()[-1:].isalnum()


def _whole_choice(text: str, options: Sequence[str]) -> int | None:
    """The option that is the whole text: its letter, or its own text; None if both name different ones."""
    text = compose(text).strip()
    label = _LONE_LABEL.fullmatch(text)
    index = label_index(label[1], len(options)) if label else None
    if index is not None:
        return index
    return match_text(text, options)


def _last_agreed(text: str, mentions: Sequence[Mention]) -> int | None:
    """The option of the last statement, if the statement names one only; listed lines are not a statement."""
    if not mentions:
        return None
    solo = {mention.option for mention in mentions if mention.solo}
    if len(solo) > 1:  # the options were listed again
        spoken = [mention for mention in mentions if not mention.solo]
        return _last_agreed(text, spoken)
    last = mentions[-1]
    statement = [m for m in mentions if not re.search(r"[.!?。！？\n]", text[m.end : last.start])]
    options = {mention.option for mention in statement}
    return options.pop() if len(options) == 1 else None


def _retract_conflicts(text: str, options: Sequence[str], mentions: Sequence[Mention]) -> None:
    """A letter followed by the text of another option, as in ``B. a cat``, means neither for certain."""
    text = compose(text)
    for mention in mentions:
        if mention.by_label and mention.solo:
            line = text[mention.end :].partition("\n")[0]
            other = match_text(line, options) if line.strip() else None
            if other is not None and other != mention.option:
                mention.weight = PLAIN


def _polar_options(options: Sequence[str]) -> dict[str, int]:
    """The places of yes and no, if these are the options."""
    if len(options) != 2:
        return {}
    answers = [_polar_word(option) for option in options]
    return {a: i for i, a in enumerate(answers) if a} if set(answers) == {"yes", "no"} else {}


def _polar_word(text: str) -> str:
    word = casefold_key(text).strip(" .!。！")
    if re.fullmatch(lexicon.YES, word):
        return "yes"
    return "no" if re.fullmatch(lexicon.NO, word) else ""


_LETTERS = {"y": "yes", "n": "no", "t": "yes", "f": "no"}
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|(?<=[。！？；।؟])|\n+")
_INTERJECTION_END = re.compile(r"(?:です|だ|입니다|呢|啊|吧)?\s*(?:$|[,.;:!?)\]，。！；：、،؛…—–]|-\s)")
_FINAL_WORD = re.compile(
    rf"(?:[:：,，—–-]|{lexicon.CONTRAST}|\b(?:is|be|so|therefore|thus|hence|say|answer|"
    rf"with|ist|es|est|è|é|also|donc|quindi|entonces|portanto|que|dus|är|er|jest|je|значит|поэтому|"
    rf"итак|то|هو|هي)\b|[是为は은는]|คือ|\b(?:उत्तर|जवाब|cevap)\b)\W*(?:(?P<yes>{lexicon.YES})|"
    rf"(?P<no>{lexicon.NO}))[\"'」』”]*(?:です|だ|である|입니다|이다|\s+है|'?d[ıiuü]r)?\W*$"
)
_SO_THINK = re.compile(
    r"\b(?:think|believe|suppose|guess|say|imagine|afraid|hope|appears?|seems?|"
    r"looks) so\b|\bglaube (?:schon|ja)\b|\bi agree\b|\bthat is the case\b"
)
_SO_THINK_NOT = re.compile(r"\b(?:afraid|think|believe|guess|suppose|hope) not\b|\bi disagree\b")
_ELLIPSIS = re.compile(
    r"(?:it|this|that|there|they|he|she|i|we|those|these)\s+(?:(?:certainly|definitely|clearly|indeed|"
    r"really|surely)\s+)?(?:is|are|was|were|does|do|did|has|have|can|would|"
    r"will|looks|seems)(?:\s+(?:indeed|so))?\W*"
)
# Words that two sentences may share without being about the same thing.
_GENERIC = re.compile(
    lexicon.words(
        "answer,definitely,clearly,certainly,indeed,actually,really,also,just,some,one",
        "a,an,the,is,are,was,were,be,it,this,that,there,these,those,do,does,did,i,you,we,see,can,could,in,on",
        "of,at,to,and,or,any,picture,image,photo,photograph,shown,show,shows,showing,visible,contain,contains",
        "here,have,has,it's,there's,that's,i'm,um,ein,eine,einen,das,ist,es,da,im,bild,la,le,les,el,en,un,une",
        "una,est,ce,cette,hay,吗,嗎,呢,了,的,か,は,が,です,图,圖,片,中,里,裡",
    )
)


def _yes_no_in(text: str, question: str, cut_off: bool) -> str | None:
    word = casefold_key(text).strip(" .!。！,;:()[]<>\"'“”‘’`*")
    if word in _LETTERS and not cut_off:
        return _LETTERS[word]
    if (polar := _polar_word(word)) and not (cut_off and _may_go_on(text)):
        return polar
    if lexicon.IDIOMS.fullmatch(word):
        return "yes"
    plain = lexicon.YES_OR_NO.sub(" ", lexicon.IDIOMS.sub(" ", fold(compose(text))))
    sentences = [part.strip() for part in _SENTENCE.split(plain) if part.strip(" -–—*\"'")]
    if cut_off:
        sentences = sentences[:-1] if _may_go_on(plain) and len(sentences) > 1 else sentences
    statements = [s for s in sentences if not s.rstrip("\"'”)").endswith(("?", "？", "؟"))] or sentences
    finals = [answer for s in statements if (answer := _final_word(s))]
    if finals and not (cut_off and _may_go_on(plain) and len(sentences) == 1):
        return finals[-1]
    leading = [answer for s in statements if (answer := _interjection(s))]
    if leading:
        # An affirmative interjection may be mere politeness before a statement.
        polite = len(statements) > 1 and not re.match(lexicon.PLAIN_ANSWER, statements[0].lstrip(" \"'“‘(*-–—"))
        stated = _statement(statements[1:], question) if polite else None
        return stated or (leading[0] if leading[0] != "both" else None)
    if cut_off:
        return None
    for judge in (_truth, _ellipsis):
        verdicts = [verdict for s in statements if (verdict := judge(s))]
        if verdicts:
            return verdicts[-1] if len(set(verdicts)) == 1 else None
    return _statement(statements, question)


def _final_word(sentence: str) -> str:
    """The yes or no with which a sentence ends: after a comma or a word such as *so*, or as the end of a few words."""
    match = _FINAL_WORD.search(sentence)
    if match is None:
        return _last_of_few(sentence)
    before = re.split(f"[,;:]|{lexicon.CONTRAST}", sentence[: match.start()])[-1]
    if match[0].startswith("say") and re.search(f"{lexicon.NEGATION}|{lexicon.WRONG}|{lexicon.UNSURE}", before):
        return ""  # "I would not say yes"
    # "it is true" and "so it is wrong" are statements about truth, which may be negated.
    word = match["yes"] or match["no"]
    if re.search(lexicon.UNSURE, before) and not re.fullmatch(lexicon.PLAIN_ANSWER, word):
        return ""  # "ich weiß es nicht"
    return "" if re.fullmatch(f"{lexicon.RIGHT}|{lexicon.WRONG}", word) else "yes" if match["yes"] else "no"


_FEW_WORDS, _FEW_CHARACTERS = 7, 12


def _last_of_few(sentence: str) -> str:
    """The answer of a short sentence that ends with yes, no or not: "unfortunately not", "je pense que oui"."""
    words = re.findall(r"[^\W\d]\S*", sentence)
    if not 2 <= len(words) <= _FEW_WORDS or re.search(lexicon.YES_OR_NO, sentence):
        return ""
    before, _, last = sentence.rstrip(" .!。！\"'”’)*").rpartition(" ")
    if re.search(rf"(?:{lexicon.YES}|{lexicon.NO})\W+(?:{lexicon.CONJUNCTION})$", before):
        return ""  # "yes and no"
    if re.fullmatch(lexicon.NEGATION, last):
        return "no" if not re.search(lexicon.UNSURE, sentence) or re.fullmatch(lexicon.PLAIN_ANSWER, last) else ""
    if not re.fullmatch(lexicon.PLAIN_ANSWER, last) or re.search(f"{lexicon.NEGATION}|{lexicon.WRONG}", before):
        return ""
    return "yes" if re.fullmatch(lexicon.YES, last) else "no"


def _interjection(sentence: str) -> str:
    """The answer of the first word; ``both`` for "yes and no"."""
    sentence = sentence.lstrip(" \"'“‘(*-–—")
    for yes in (True, False):
        match = re.match(lexicon.YES if yes else lexicon.NO, sentence)
        if not match or not match[0]:
            continue
        rest = sentence[match.end() :]
        other = re.match(rf"\W*(?:{lexicon.CONJUNCTION})\W*({lexicon.NO if yes else lexicon.YES})", rest)
        if other and re.match(r"\W*$|\W*[,.]", rest[other.end() :]):
            return "both"
        alone = _INTERJECTION_END.match(rest)
        denied = re.match(
            rf"\W*(?:{lexicon.NEGATION}|{lexicon.NEGATION_AFTER})\W*$|\s+(?:not|nicht|no|pas|non|não|нет|не)\b", rest
        )
        if yes and denied:
            return "no"
        if not alone and not re.match(lexicon.PLAIN_ANSWER, sentence):
            continue
        if not (alone or yes) and re.match(rf"\s*(?:\w+\s+){{0,2}}{lexicon.UNSURE}", rest):
            continue  # "no lo sé"
        if re.match(r"not at all|not really|not quite", sentence):
            return "no"
        return "yes" if yes else "no"
    return ""


# "on the right" and "a true classic" say nothing about truth.
_DIRECTION = re.compile(
    r"\ba (?:true|right|correct) \w+|"
    r"\b(?:on|to|at|in|from) (?:the|its|his|her|their) (?:\w+ )?right\b|\bright[- ](?:hand|side|corner|half|part)\b|"
    r"\bright (?:next|now|of|behind|there|in|at|under|above|beside|after|before|here|away|by|beneath)\b"
)


def _truth(sentence: str) -> str:
    """The answer of a sentence about truth: "it is not true", "that is correct"."""
    sentence = _DIRECTION.sub(" ", sentence)
    right, wrong = re.search(lexicon.RIGHT, sentence), re.search(lexicon.WRONG, sentence)
    if not (right or wrong) or re.search(lexicon.UNSURE, sentence):
        return ""
    rest = re.sub(lexicon.WRONG, " ", sentence)
    negated = bool(re.search(lexicon.NEGATION, rest) or re.search(lexicon.NEGATION_AFTER, rest))
    return "no" if bool(wrong) != negated else "yes"


def _ellipsis(sentence: str) -> str:
    """The answer of a short statement: "it is", "I think so", "there isn't"."""
    if re.search(_SO_THINK_NOT, sentence):
        return "no"
    if re.search(_SO_THINK, sentence):
        return "no" if re.search(lexicon.NEGATION, sentence) else "yes"
    if re.search(lexicon.UNSURE, sentence):
        return ""
    core = re.sub(rf"\s*{lexicon.NEGATION}", lambda m: m[0][:-3] if m[0].endswith("n't") else "", sentence)
    if _ELLIPSIS.fullmatch(core.strip()):
        return "no" if re.search(lexicon.NEGATION, sentence) else "yes"
    # A Japanese or Korean sentence of a few characters: its verb, with the negation behind it.
    if len(sentence) <= _FEW_CHARACTERS and re.search(rf"{lexicon.NEGATION_AFTER}\w{{0,4}}\W*$", sentence):
        return "no"
    return ""


def _statement(sentences: Sequence[str], question: str) -> str | None:
    """The answer of a sentence that repeats the question as a statement, affirmed or denied."""
    asked = _content(question)
    verdicts = set()
    for sentence in sentences:
        if re.search(lexicon.UNSURE, sentence):
            continue
        said = _content(sentence)
        negated = bool(re.search(lexicon.NEGATION, sentence) or re.search(lexicon.NEGATION_AFTER, sentence))
        if negated and asked & said and asked >= _without_negation(sentence):
            verdicts.add("no")
        elif not negated and asked and asked == said:
            verdicts.add("yes")
    return verdicts.pop() if len(verdicts) == 1 else None


def _content(text: str) -> set[str]:
    found = re.findall(rf"[{lexicon.UNSPACED}]|(?:(?![{lexicon.UNSPACED}])\w)+(?:'\w+)?", fold(compose(text)))
    return {word for word in found if not _GENERIC.fullmatch(word)}


def _without_negation(sentence: str) -> set[str]:
    return _content(re.sub(lexicon.NEGATION, " ", re.sub(lexicon.NEGATION_AFTER, " ", sentence)))


_LEAD_IN = re.compile(
    r"^(?:(?:well|so|okay|ok|sure|certainly)[,.!:]?\s+)?(?:it(?:'s| is| looks like| seems to be|"
    r" appears to be)|this is|that is|that's|there (?:is|are)|they are|"
    r"(?:the|this) (?:image|picture|photo) shows|i (?:can )?see|c'est|il s'agit d(?:e|'une?)|"
    r"es ist|das ist|es|se trata de|è|é|это|to jest|det är|det er|dit is|het is|bu|这是|這是|これは)\s*",
    re.IGNORECASE,
)
_STATED = re.compile(
    rf"(?:(?:the|my|final|correct|right|short)\s+)*{lexicon.CUE}(?:\s+(?:to (?:the|"
    rf"this|your) question|here))?\s*(?:is|are|would be|lautet|ist|es|est|è|é|är|er|jest|"
    rf"je|는|은|は|是)?\s*[:：=]?\s*(.+)",
    re.IGNORECASE,
)
_COPULA_OR_COLON = re.compile(
    r"(?:\b(?:is|are|be|lautet|ist|es|est|è|é|är|er|jest|je)\b|[:：=]|[是は은는])\s*$", re.IGNORECASE
)
_DECLINES = re.compile(
    rf"\b(?:sorry|unable|apologi[sz]e)\b|as an ai|(?:{lexicon.NEGATION}|"
    rf"{lexicon.NEGATION_AFTER}).{{0,30}}(?:{lexicon.UNSURE})|"
    rf"(?:{lexicon.UNSURE}).{{0,12}}(?:{lexicon.NEGATION_AFTER})|"
    r"tut mir leid|désolée?|lo siento|mi dispiace|desculpe|извините|抱歉|对不起|無法|无法|申し訳|すみません|죄송|"
    r"آسف|מצטער|माफ़|üzgünüm|xin lỗi|maaf"
)


def _stated_answers(text: str) -> Iterator[str]:
    """What follows "the answer is", and the first and last line without "it is"."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        match = _STATED.search(line)
        if match and _COPULA_OR_COLON.search(line[: match.start(1)].rstrip()):
            yield match[1]
            yield re.split(r"(?<=[^\d\s])[.!]\s|[,;]\s|\s(?:because|since)\s", match[1])[0]


def _matches(scorer: str, text: str, correct: Sequence[str]) -> bool:
    if scorer == "exact":
        return text.strip() in correct
    if scorer == "contains":
        return any(_affirms(text, each) for each in correct)
    forms = [text, _LEAD_IN.sub("", text.strip()), *text.strip().splitlines()[:1]]
    return any(same_answer(form, each) for form in forms for each in correct if form.strip())


def _affirms(text: str, answer: str) -> bool:
    """Whether a text has an answer in it that it does not deny."""
    if same_answer(text, answer):
        return True
    return any(mention.affirmed for mention in find_mentions(text, (answer,)) if not mention.by_label)


def _declines(text: str) -> bool:
    """Whether a text is a refusal, or says that the answer is unknown."""
    return bool(_DECLINES.search(fold(compose(text))))
