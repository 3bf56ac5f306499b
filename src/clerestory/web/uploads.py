"""A streaming parser of upload forms: one image in memory at a time, every byte counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from clerestory.core.errors import UploadError
from clerestory.web.request_body import body_chunks, too_large
from clerestory.web.security import RequestRejected

MAX_IMAGE_BYTES = 10_000_000
MAX_IMAGES = 100  # in one request; the script of the page sends one request for each image
MAX_FORM_BYTES = MAX_IMAGE_BYTES * MAX_IMAGES + 1_000_000
MAX_FIELD_BYTES = 20_000
MAX_FIELDS = 400
MAX_FILE_NAME = 120


@dataclass(frozen=True, slots=True)
class FormPart:
    """One field or file of a form.

    Attributes:
        field: the field name.
        file: the file name, None for a plain field.
        content: the bytes.
        error: why the file is rejected, its content is then empty; None for an accepted file.
    """

    field: str
    file: str | None
    content: bytes
    error: UploadError | None = None

    @property
    def text(self) -> str:
        """The content of a plain field."""
        return self.content.decode("utf-8", "replace")


class _FormReader:
    """Collects the parts of a ``multipart/form-data`` body from the callbacks of the parser."""

    def __init__(self, boundary: bytes) -> None:
        self.completed: list[FormPart] = []
        self.ended = False
        self.num_parts = 0
        self._headers: dict[bytes, bytes] = {}
        self._header = (bytearray(), bytearray())
        self._content = bytearray()
        self._field = ""
        self._file: str | None = None
        self._too_long = False
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def _on_part_begin(self) -> None:
        self.num_parts += 1
        if self.num_parts > MAX_FIELDS:
            problem = f"the form has more than {MAX_FIELDS} fields"
            raise RequestRejected(problem, "send fewer at once", status=413, kind="too_large")
        self._headers, self._content, self._too_long = {}, bytearray(), False

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _on_header_end(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        self._file = options[b"filename"].decode("utf-8", "replace") if b"filename" in options else None

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        limit = MAX_FIELD_BYTES if self._file is None else MAX_IMAGE_BYTES
        if self._too_long:
            return
        self._content.extend(memoryview(data)[start:end])
        if len(self._content) > limit:
            self._too_long, self._content = True, bytearray()

    def _on_part_end(self) -> None:
        error = None
        if self._too_long and self._file is None:
            raise RequestRejected(f"the field {self._field!r} is too long", "shorten it", status=413, kind="too_large")
        if self._too_long:
            limit = f"{MAX_IMAGE_BYTES / 1e6:.0f} MB"
            error = UploadError(f"the file is larger than {limit}", f"choose one smaller than {limit}", status=413)
        self.completed.append(FormPart(self._field, self._file, bytes(self._content), error))
        self._content = bytearray()

    def _on_end(self) -> None:
        self.ended = True


async def form_parts(request: Request) -> AsyncIterator[FormPart]:
    """The parts of a form, each as soon as it is complete.

    Raises:
        RequestRejected: 415 if the body is not a multipart form, 400 if it is truncated or malformed, 413 if the whole
            form is too long. A single file that is too long is a part with an ``error`` instead.
    """
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if content_type != b"multipart/form-data" or not boundary:
        problem = "the body is not a form with files"
        raise RequestRejected(problem, "send multipart/form-data", status=415, kind="unsupported_media_type")
    try:
        reader = _FormReader(boundary)
        total = 0
        async for chunk in body_chunks(request, is_upload=True):
            total += len(chunk)
            if total > MAX_FORM_BYTES:
                raise too_large(MAX_FORM_BYTES)
            reader.parser.write(chunk)
            while reader.completed:
                yield reader.completed.pop(0)
        reader.parser.finalize()
    except FormParserError as error:
        raise RequestRejected("the form is malformed", "send it again from the page") from error
    if not reader.ended:
        raise RequestRejected("the form is truncated", "send it again")


def file_name(name: str) -> str:
    """The name of an uploaded file without control characters, cut to its last ``MAX_FILE_NAME`` characters.

    A file of a chosen folder keeps its path within the folder; of any other path only the base name remains.
    """
    parts = name.split("/")
    if "\\" in name or not all(part.strip(" .") for part in parts):  # absolute, "..", or a path of Windows
        name = name.replace("\\", "/").rsplit("/", 1)[-1]
    printable = "".join(c for c in name if c.isprintable()).strip()
    return printable[-MAX_FILE_NAME:] or "picture"
