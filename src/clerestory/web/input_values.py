"""Values in the JSON of a request: its parameters, texts, and images as ``data:`` URIs."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from clerestory.core.errors import closest
from clerestory.web.data_uri import decode_payload
from clerestory.web.json_body import parse_json
from clerestory.web.security import RequestRejected
from clerestory.web.uploads import MAX_IMAGE_BYTES

MAX_DATA_URI_HEAD = 1_000  # characters up to the comma, blanks before it included
MAX_ECHO = 80  # characters of the request in an error

# RFC 2397, with blanks around it as they come from copying. A sentence such as "data: the new oil, they say" is a text.
_DATA_URI = re.compile(r"[\s\ufeff]*data:\s*([^\s,/;]+/[^\s,;]+\s*(?=[;,])|(?=[;,])|[^,]{0,200};\s*base64)", re.I)
_DATA_URI_WITHOUT_DATA = re.compile(r"[\s\ufeff]*data:\s*[^\s,/;]+/[^\s,]+\s*", re.I)
_BASE64_OF_AN_IMAGE = re.compile(r"\s*(iVBORw0KGgo|/9j/[A-Za-z0-9+/]{4}|UklGR)[A-Za-z0-9+/=\s]{64}")


def json_object(content: bytes, first: str) -> dict[str, Any]:
    """The JSON object of a body; ``first`` is its most important parameter.

    Raises:
        RequestRejected: 400 or 413.
    """
    body = parse_json(content)
    if not isinstance(body, dict):
        raise RequestRejected("the body is not a JSON object", f'send {{"{first}": ...}}', code="invalid_json")
    return body


def check_parameters(body: Mapping[str, Any], known: Sequence[str], where: str = "") -> None:
    """Reject a parameter that does not exist, unless it is null.

    Args:
        body: the parameters.
        known: the names that exist.
        where: the object that has them, such as ``messages[0].``; empty for the body.

    Raises:
        RequestRejected: names the parameter.
    """
    for name, value in body.items():
        if name not in known and value is not None:
            near = closest(name, known)
            hint = f"did you mean {near[0]}?" if near else f"the parameters are {', '.join(known)}"
            problem, param = f"unknown parameter {echo(where + name)}", (where + name)[:MAX_ECHO]
            raise RequestRejected(problem, hint, code="unknown_parameter", param=param)


def integer(value: object, name: str, minimum: int, maximum: int, default: int) -> int:
    """A whole number; the default if it is null."""
    if value is None:
        return default
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        fix = f"give a whole number from {minimum:,} to {maximum:,}"
        raise RequestRejected(f"{name}={echo(value)} is not supported", fix, code="invalid_value", param=name)
    return value


def number(value: object, name: str, minimum: float, maximum: float, default: float) -> float:
    """A number; the default if it is null."""
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value <= maximum:
        fix = f"give a number from {minimum:g} to {maximum:g}"
        raise RequestRejected(f"{name}={echo(value)} is not supported", fix, code="invalid_value", param=name)
    return float(value)


def boolean(value: object, name: str) -> bool:
    """True or false; false if it is null."""
    if value is not None and not isinstance(value, bool):
        raise RequestRejected(
            f"{name}={echo(value)} is not supported", "give true or false", code="invalid_type", param=name
        )
    return bool(value)


def text(value: object, name: str, maximum: int) -> str:
    """A text; empty if it is null."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RequestRejected(f"{name} is not a text", "send a string", code="invalid_type", param=name)
    return check_length(value, name, maximum)


def check_length(value: str, name: str, maximum: int) -> str:
    """The same text, if it is not too long."""
    if len(value) > maximum:
        raise RequestRejected(
            f"{name} has {len(value):,} characters; the maximum is {maximum:,}",
            "shorten it",
            413,
            "too_large",
            code="text_too_long",
            param=name,
        )
    return value


def text_list(value: object, name: str, minimum: int, maximum: int, longest: int) -> tuple[str, ...]:
    """A list of distinct texts, none of them empty."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        code = "missing_parameter" if value is None else "invalid_type"
        raise RequestRejected(f"{name} is not a list of texts", "send a list of strings", code=code, param=name)
    if not minimum <= len(value) <= maximum:
        problem = f"{name} has {len(value):,} entries"
        raise RequestRejected(problem, f"send {minimum:,} to {maximum:,}", code="invalid_value", param=name)
    for i, each in enumerate(value):
        check_length(each, f"{name}[{i}]", longest)
        if not each.strip():
            raise RequestRejected(f"{name}[{i}] is empty", "send words", code="empty_input", param=f"{name}[{i}]")
    _check_distinct(value, name)
    return tuple(value)


def image(value: object, where: str) -> bytes:
    """The bytes of an image in a ``data:`` URI.

    Raises:
        RequestRejected: it is something else, such as the URL of a page.
    """
    if not isinstance(value, str):
        code = "missing_parameter" if value is None else "invalid_type"
        raise RequestRejected(f"{where} is not a text", "send data:image/png;base64,...", code=code, param=where)
    if value.lstrip().lower().startswith(("http://", "https://", "file:", "ftp://")):
        raise RequestRejected(
            f"{where} is an address, and the server fetches nothing from the network",
            "send the image itself as data:image/png;base64,...",
            kind="invalid_image",
            code="remote_image",
            param=where,
        )
    if not is_data_uri(value):
        raise _not_a_data_uri(where)
    parsed = text_or_image(value, where)
    assert isinstance(parsed, bytes)
    return parsed


def _check_distinct(values: Collection[str], name: str) -> None:
    seen: set[str] = set()
    for i, each in enumerate(values):
        if each in seen:
            problem = f"{name}[{i}] is there twice"
            raise RequestRejected(problem, "send each once", code="invalid_value", param=f"{name}[{i}]")
        seen.add(each)


def is_data_uri(text: str) -> bool:
    """Whether a text is an image in a URI, whatever is wrong with it."""
    return _DATA_URI.match(text, 0, MAX_DATA_URI_HEAD) is not None


def text_or_image(text: str, where: str) -> str | bytes:
    """A text as it is, or the bytes of the image in a ``data:`` URI.

    Args:
        text: the value.
        where: its name, such as ``input[3]``.

    Raises:
        RequestRejected: it is empty, too large, or not what it seems to be.
    """
    if not is_data_uri(text):
        return _check_text(text, where)
    _, comma, payload = text.partition(",")
    if not comma:
        raise _not_a_data_uri(where)
    is_base64 = text[: len(text) - len(payload)].rstrip(" ,\t\r\n").lower().endswith("base64")
    # A line break after every 76 characters adds 3 %.
    if len(payload) > MAX_IMAGE_BYTES * 4 // 3 * 1.05:
        raise _image_too_large(where)
    try:
        content = decode_payload(payload, is_base64)
    except ValueError as error:
        problem = f"{where} is not valid base64"
        fix = "encode the whole image file"
        raise RequestRejected(problem, fix, kind="invalid_image", code="invalid_base64", param=where) from error
    if len(content) > MAX_IMAGE_BYTES:
        raise _image_too_large(where)
    return content


def _check_text(text: str, where: str) -> str:
    if not text.strip():
        raise RequestRejected(f"{where} is empty", "send at least one word", code="empty_input", param=where)
    if _DATA_URI_WITHOUT_DATA.fullmatch(text):
        raise _not_a_data_uri(where)
    if _BASE64_OF_AN_IMAGE.match(text):
        problem = f"{where} is an image in base64 without its type"
        fix = "send it as data:image/png;base64,..."
        raise RequestRejected(problem, fix, kind="invalid_image", code="invalid_data_uri", param=where)
    return text


def _not_a_data_uri(where: str) -> RequestRejected:
    return RequestRejected(
        f"{where} is not a data: URI",
        "send data:image/png;base64,...",
        kind="invalid_image",
        code="invalid_data_uri",
        param=where,
    )


def _image_too_large(where: str) -> RequestRejected:
    limit = f"{MAX_IMAGE_BYTES // 1_000_000} MB"
    problem = f"{where} is larger than {limit}"
    return RequestRejected(problem, f"send an image smaller than {limit}", 413, "too_large", param=where)


def echo(value: object) -> str:
    """A value of the request for an error: a short scalar, cut, or the name of its type."""
    if isinstance(value, str):
        return repr(value[:MAX_ECHO])
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 10**20):
        return str(value)
    return {int: "a large number", list: "a list", dict: "an object"}.get(type(value), "invalid")
