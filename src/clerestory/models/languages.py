"""Languages: the detector of a text's, and those that a model was trained on, as far as its files say."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

MODEL_CARD = "README.md"
WORD_ENDS = ("</w>",)  # CLIP's byte-pair encoding marks the end of a word
WORD_BEGINNINGS = ("\u2581", "\u0120")  # SentencePiece and GPT-2's byte-pair encoding mark the beginning
PIECE = "##"  # WordPiece marks a part that is not the beginning


LANGUAGE_NAMES = {
    "ar": "Arabic", "bn": "Bengali", "ca": "Catalan", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek",
    "en": "English", "es": "Spanish", "fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian",
    "id": "Indonesian", "it": "Italian", "ja": "Japanese", "ko": "Korean", "nl": "Dutch", "no": "Norwegian",
    "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sv": "Swedish", "th": "Thai",
    "tr": "Turkish", "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


@cache
def language_detector() -> Any:
    """py3langid's detector of the languages of ``LANGUAGE_NAMES``; loading it takes about a second.

    ``rank(text)`` returns the probability of each language. It is reliable from four words on.
    """
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    detector = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    detector.set_languages(sorted(LANGUAGE_NAMES))
    return detector


def languages_of(model: object) -> tuple[str, ...]:
    """The codes (ISO 639) of the languages that a model's text encoder was trained on; empty if that is not known.

    ``multilingual`` stands for many languages.
    """
    return tuple(getattr(model, "languages", ()))


def vocabulary_of(model: object) -> frozenset[str]:
    """The words that a model's tokenizer does not split, in lower case; empty if they are not known."""
    words: frozenset[str] = getattr(model, "vocabulary", frozenset())
    return words


def card_metadata(card: Path) -> dict[str, Any]:
    """The front matter of a model card; empty if the file is missing, has none, or it is not a YAML mapping."""
    import yaml  # here, with the hub's client, because they take a while to import
    from huggingface_hub.repocard import metadata_load

    try:
        metadata = metadata_load(card)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def card_languages(folder: Path) -> tuple[str, ...]:
    """The languages that the model card of a Hugging Face model names; empty if there is no card or it names none."""
    listed = card_metadata(folder / MODEL_CARD).get("language") or ()
    codes = [listed] if isinstance(listed, str) else listed if isinstance(listed, list) else []
    return tuple(dict.fromkeys(str(code).lower() for code in codes))


def whole_words(tokens: Iterable[str]) -> frozenset[str]:
    """The tokens that stand for whole words, without the marks of their tokenizer, in lower case."""
    tokens = list(tokens)
    ends = any(token.endswith(WORD_ENDS) for token in tokens)
    begins = any(token.startswith(WORD_BEGINNINGS) for token in tokens)
    words = (
        token
        for token in tokens
        if not token.startswith(PIECE)
        and (not ends or token.endswith(WORD_ENDS))
        and (not begins or token.startswith(WORD_BEGINNINGS))
    )
    return frozenset(word.removesuffix(WORD_ENDS[0]).lstrip("".join(WORD_BEGINNINGS)).lower() for word in words)
