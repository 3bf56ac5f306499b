"""Decoding that never stops the other threads of a server for long.

Pillow lets other threads run while it decodes a JPEG or a PNG. A WEBP is decoded in one call during which none can
run: a second for one of 25 megapixels. So a server decodes a large one in a process of its own, which takes a tenth of
a second and 25 MB to start.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass

from PIL import Image

from clerestory.core.errors import UploadError
from clerestory.data.images.decoding import MAX_PIXELS, decode_image
from clerestory.data.images.metadata import webp_size

MAX_PIXELS_HERE = 2_000_000
TIMEOUT_SECONDS = 60.0
_PROGRAM = "from clerestory.data.images.decode_process import main; main()"
_ONE_AT_A_TIME = threading.Lock()  # each takes four times the memory of its image


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The first line that the process writes: the size of the image, whose pixels follow, or why there is none."""

    width: int = 0
    height: int = 0
    message: str = ""
    fix: str = ""
    status: int = 0


def decode_beside_requests(content: bytes) -> Image.Image:
    """As ``decode_image``, for a process whose other threads must go on running.

    Raises:
        UploadError: as ``decode_image``; with status 503 if the process ends early.
    """
    width, height = webp_size(content) if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else (0, 0)
    if not MAX_PIXELS_HERE < width * height <= MAX_PIXELS:
        return decode_image(content)
    with _ONE_AT_A_TIME:
        try:
            # Isolated from the working folder, which may hold a module of any name.
            command = [sys.executable, "-P", "-c", _PROGRAM]
            written = subprocess.run(command, input=content, capture_output=True, timeout=TIMEOUT_SECONDS, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            problem = "the image could not be decoded, because its process ended early"
            raise UploadError(problem, "try again later, or send it as JPEG or PNG", 503) from error
        outcome = _Outcome(**json.loads(written.stdout[: written.stdout.index(b"\n")]))
        if outcome.message:
            raise UploadError(outcome.message, outcome.fix, outcome.status)
        pixels = memoryview(written.stdout)[written.stdout.index(b"\n") + 1 :]
        return Image.frombytes("RGB", (outcome.width, outcome.height), pixels)


def main() -> None:
    """Decode the image on standard input and write its ``_Outcome`` and pixels to standard output."""
    pixels = b""
    try:
        image = decode_image(sys.stdin.buffer.read())
        outcome, pixels = _Outcome(image.width, image.height), image.tobytes()
    except UploadError as error:
        outcome = _Outcome(message=error.message, fix=error.fix, status=error.status)
    sys.stdout.buffer.write(json.dumps(asdict(outcome)).encode() + b"\n")
    sys.stdout.buffer.write(pixels)
