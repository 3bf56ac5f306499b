"""The finding codes of captions (``docs/reference/findings.md``), and their reasons."""

from __future__ import annotations

from enum import StrEnum

from clerestory.core.findings import FindingCode


class Boilerplate(StrEnum):
    """Why a caption does not describe its image; the ``reason`` of CLR-A022."""

    FILE_NAME = "file_name"
    PLACEHOLDER = "placeholder"
    TEMPLATE = "template"


class WrongLanguage(StrEnum):
    """How many captions are in another language; the ``reason`` of CLR-A024."""

    MOST_CAPTIONS = "most_captions"
    SOME_CAPTIONS = "some_captions"


NO_CAPTION = FindingCode(
    "CLR-A020", "warning", "image without a caption", fix="write a caption, or leave the image out"
)
SHORT_CAPTION = FindingCode(
    "CLR-A021", "warning", "one-word caption among sentences", fix="describe the image in a sentence like the others"
)
BOILERPLATE = FindingCode(
    "CLR-A022",
    "warning",
    "caption that does not describe the image",
    fix="describe the image, or remove the caption or the repeated part of it",
)
MARKUP = FindingCode(
    "CLR-A023", "warning", "markup in a caption", fix="remove tags and web addresses, and decode entities such as &amp;"
)
WRONG_LANGUAGE = FindingCode(
    "CLR-A024", "warning", "caption in another language", fix="record the language of the caption, or translate it"
)
DUPLICATE_CAPTION = FindingCode(
    "CLR-A025", "info", "repeated caption of one image", fix="remove the copies, or describe the image in other words"
)
SHARED_CAPTION = FindingCode(
    "CLR-A026",
    "info",
    "same caption on many images",
    fix="add what distinguishes the images; in retrieval each of them counts as the wrong answer for the others",
)
LONG_CAPTION = FindingCode(
    "CLR-A027", "warning", "caption longer than a model reads", fix="shorten it, and begin with the most important"
)
DAMAGED_TEXT = FindingCode(
    "CLR-A028", "warning", "damaged characters in a caption", fix="read the source again with the right encoding, UTF-8"
)
MISMATCH = FindingCode(
    "CLR-A029",
    "warning",
    "caption that does not fit its image",
    fix="look at the images, worst first; write the right caption, or remove the wrong one",
)

CODES = (
    *(NO_CAPTION, SHORT_CAPTION, BOILERPLATE, MARKUP, WRONG_LANGUAGE, DUPLICATE_CAPTION, SHARED_CAPTION),
    *(LONG_CAPTION, DAMAGED_TEXT, MISMATCH),
)
