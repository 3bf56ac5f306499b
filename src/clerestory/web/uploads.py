"""Forms with pictures, read while they stream in: one picture in memory at a time, and every byte counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from clerestory.core.errors import UploadError
from clerestory.web.security import Turned, pieces, too_large

PICTURE_BYTES = 10_000_000
PICTURES = 24
FORM_BYTES = PICTURE_BYTES * PICTURES + 1_000_000
FIELD_BYTES = 20_000
FIELDS = 400


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form, or one file.

    Attributes:
        field: its name in the form.
        file: the name of the file, None when it is a plain field.
        content: what it holds.
        problem: why the file is not taken; its content is empty then.
    """

    field: str
    file: str | None
    content: bytes
    problem: UploadError | None = None

    @property
    def text(self) -> str:
        """The content of a plain field."""
        return self.content.decode("utf-8", "replace")


class _Reader:
    """Collects the parts of a ``multipart/form-data`` body out of a parser's callbacks."""

    def __init__(self, boundary: bytes) -> None:
        self.done: list[Part] = []
        self.ended = False
        self.count = 0
        self._names: dict[bytes, bytes] = {}
        self._header = (bytearray(), bytearray())
        self._content = bytearray()
        self._field, self._file = "", None
        self._overfull = False
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    _field: str
    _file: str | None

    def _begin(self) -> None:
        self.count += 1
        if self.count > FIELDS:
            raise Turned(f"the form has more than {FIELDS} fields", "send fewer at once", status=413, kind="too_large")
        self._names, self._content, self._overfull = {}, bytearray(), False

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _header_end(self) -> None:
        name, value = self._header
        self._names[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _headers(self) -> None:
        _, options = parse_options_header(self._names.get(b"content-disposition", b""))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        self._file = options[b"filename"].decode("utf-8", "replace") if b"filename" in options else None

    def _data(self, data: bytes, start: int, end: int) -> None:
        most = FIELD_BYTES if self._file is None else PICTURE_BYTES
        if self._overfull:
            return
        self._content.extend(memoryview(data)[start:end])
        if len(self._content) > most:
            self._overfull, self._content = True, bytearray()

    def _end(self) -> None:
        problem = None
        if self._overfull and self._file is None:
            raise Turned(f"the field {self._field!r} is too long", "shorten it", status=413, kind="too_large")
        if self._overfull:
            limit = f"{PICTURE_BYTES / 1e6:.0f} MB"
            problem = UploadError(f"the file is larger than {limit}", f"send it smaller than {limit}", status=413)
        self.done.append(Part(self._field, self._file, bytes(self._content), problem))
        self._content = bytearray()

    def _finish(self) -> None:
        self.ended = True


async def parts(request: Request) -> AsyncIterator[Part]:
    """The parts of a form, each as soon as it has come in.

    Raises:
        Turned: 415 when the body is no multipart form, 400 when it is broken off or malformed, 413 when it is too
            long as a whole. A single file that is too long is a part with a ``problem`` instead.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise Turned(
            "this is not a form with files", "send multipart/form-data", status=415, kind="unsupported_media_type"
        )
    try:
        reader = _Reader(boundary)
        total = 0
        async for piece in pieces(request):
            total += len(piece)
            if total > FORM_BYTES:
                raise too_large(FORM_BYTES)
            reader.parser.write(piece)
            while reader.done:
                yield reader.done.pop(0)
        reader.parser.finalize()
    except FormParserError as error:
        raise Turned("the form is malformed", "send it again from the page") from error
    if not reader.ended:
        raise Turned("the form was cut short", "send it again")


def file_name(name: str) -> str:
    """A file's own name for people: no folders, no control characters, at most 120 characters."""
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    clean = "".join(c for c in base if c.isprintable()).strip()
    return clean[:120] or "picture"
