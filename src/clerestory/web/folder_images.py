"""Images of a folder as pages show them: thumbnails that are made once and kept on the disk, and the originals.

A URL names a image by its content. The path comes from the index, is opened without following a link, and what is
read must still be that content, so that no request reaches anything else.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from clerestory.apps.folder_index.reading import MAX_FILE_BYTES
from clerestory.core.errors import CapabilityError, NotFound
from clerestory.core.files import write_atomic
from clerestory.data.images import decode_beside_requests, decode_image
from clerestory.web.folder_library import FolderLibrary, IndexedFolder
from clerestory.web.images import IMMUTABLE, content_type, image_response, thumbnail
from clerestory.web.security import SECURITY_HEADERS
from clerestory.web.state import ServerState, server_state

THUMBNAILS = "thumbnails"  # below the home
SIDES = {"small": 640, "large": 2_000}
MAX_CACHE_BYTES = 2_000_000_000
JPEG = "image/jpeg"


class ImageGone(NotFound):
    """The image was deleted, moved or changed since it was found."""

    def __init__(self) -> None:
        super().__init__("this picture is no longer in the folder", "search again")


async def image(request: Request) -> Response:
    """``GET /folder/images/{id}/{size}``: a ``small`` or ``large`` copy, or the ``original`` file."""
    server = server_state(request)
    library, indexed = indexed_folder(server)
    size = request.path_params["size"]
    if size not in SIDES and size != "original":
        raise ImageGone
    sha256, paths = await server.in_thread(_paths_of, indexed, request.path_params["image"])
    headers = {"etag": f'"{sha256[:32]}-{size}"', "cache-control": IMMUTABLE}
    if headers["etag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if size == "original":
        content = await server.in_image_thread(read_original, library.folder, paths, sha256)
        if content_type(content):
            return image_response(content, headers)
        kind = {"content-type": "application/octet-stream", "content-disposition": "attachment"}
        return Response(content, headers=headers | SECURITY_HEADERS | kind)
    cache = server.store.home / THUMBNAILS
    copy = await server.in_image_thread(reduced, cache, library.folder, paths, sha256, SIDES[size])
    return image_response(copy, headers)


def indexed_folder(server: ServerState) -> tuple[FolderLibrary, IndexedFolder]:
    """The folder and its index for the served model.

    Raises:
        NotFound: this server searches a dataset, not a folder.
        RequestRejected: 503, the model is being loaded.
        CapabilityError: the served model cannot search.
    """
    if server.library is None:
        raise NotFound("this server does not search a folder", "start it with --data and a folder of pictures")
    loaded = server.follower.loaded
    if loaded.embedder is None:
        raise CapabilityError(
            f"{loaded.ref} writes captions but cannot search: it has no embeddings of pictures and text",
            "use the Describe page, or start the server with a model that can search, such as --model photos",
        )
    return server.library, server.library.of(loaded)


def _paths_of(indexed: IndexedFolder, image_id: str) -> tuple[str, list[str]]:
    """The digest of a image, and the paths of its files."""
    view = indexed.view
    if (place := view.place(image_id)) is None:
        raise ImageGone
    state = view.snapshot.state
    same = (state.rows == state.rows[place]).nonzero()[0].tolist()
    return state.sha256[place], [state.paths[i] for i in same]


def reduced(cache: Path, folder: Path, paths: Sequence[str], sha256: str, side: int) -> bytes:
    """A WEBP copy with sides of at most ``side`` pixels, upright; made once, then read from the cache on the disk.

    Args:
        cache: the folder of all copies.
        folder: of the images.
        paths: of the files with this content, below the folder.
        sha256: of the content.
        side: in pixels.

    Raises:
        NotFound: no file has this content any more.
        UploadError: it cannot be decoded.
    """
    file = cache / sha256[:2] / f"{sha256}-{side}.webp"
    with suppress(OSError):
        return file.read_bytes()
    content = read_original(folder, paths, sha256)
    # Twice the side is enough to reduce it further without visible loss.
    jpeg = content_type(content) == JPEG
    small = thumbnail(decode_image(content, 2 * side) if jpeg else decode_beside_requests(content), side)
    with suppress(OSError):  # without the cache it is made again
        write_atomic(file, small)
    return small


def read_original(folder: Path, paths: Sequence[str], sha256: str) -> bytes:
    """The bytes of a image, from the first of its files that still has this content.

    Raises:
        NotFound: none has.
    """
    for path in paths:
        with suppress(OSError):
            content = read_below(folder, path)
            if hashlib.sha256(content).hexdigest() == sha256:
                return content
    raise ImageGone


def read_below(folder: Path, path: str) -> bytes:
    """The bytes of a file below a folder; no part of its path may be a link.

    Raises:
        OSError: it is not there, not a regular file, too large, or reached through a link.
    """
    *parents, name = path.split("/")
    if {"", ".", ".."} & {*parents, name}:
        raise FileNotFoundError(path)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for parent in parents:
            inner = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle)
    finally:
        os.close(handle)
    with os.fdopen(file, "rb") as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
            raise FileNotFoundError(path)
        return opened.read()


def trim_cache(cache: Path, max_bytes: int = MAX_CACHE_BYTES) -> None:
    """Delete the oldest copies beyond ``max_bytes``; they are made again when they are needed."""
    files = []
    with suppress(OSError):
        for file in cache.glob("*/*.webp"):
            with suppress(OSError):
                status = file.stat()
                files.append((status.st_mtime, status.st_size, file))
    total = sum(size for _, size, _ in files)
    for _, size, file in sorted(files):
        if total <= max_bytes:
            break
        with suppress(OSError):
            file.unlink()
            total -= size
