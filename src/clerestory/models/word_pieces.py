"""Reads the tokenizer of a model folder, without torch and transformers."""

from __future__ import annotations

import re
from pathlib import Path

from tokenizers import Tokenizer

from clerestory.core.errors import IntegrityError
from clerestory.models.folder_check import DOWNLOAD_AGAIN


def load_word_pieces(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder as it is in ``tokenizer.json``, without padding and truncation.

    Raises:
        IntegrityError: the file is missing or broken.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise IntegrityError(f"{file} is missing", DOWNLOAD_AGAIN)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more specific
        raise IntegrityError(f"{file} cannot be read: {first_sentence(error)}", DOWNLOAD_AGAIN) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def first_sentence(error: BaseException) -> str:
    """The first sentence of an error's text; what follows is advice for programmers."""
    if type(error).__module__.startswith("huggingface_hub") and error.__cause__:  # the reason is below a heading
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(r"^\[enforce fail [^]]*\] \S+ == \S+ ", "", text)  # where torch's code found it
    return re.split(r"(?<=\w)[.!?] (?=[A-Z])", text, maxsplit=1)[0][:200].rstrip(". ")
