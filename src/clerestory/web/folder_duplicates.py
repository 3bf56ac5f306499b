"""``/duplicates``: three lists of images that a folder has more than once; nothing is deleted."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from clerestory.apps.captioning import captions_csv
from clerestory.apps.folder_index.duplicates import DuplicateGroup, DuplicateLists
from clerestory.web.folder_images import indexed_folder
from clerestory.web.folder_library import DuplicateSearch
from clerestory.web.folder_view import FolderImage, FolderView
from clerestory.web.security import RequestRejected
from clerestory.web.state import ServerState, server_state
from clerestory.web.views import page

WAIT_SECONDS = 1.5  # before a page says that the comparison takes longer
MAX_GROUPS = 60  # of each list on the page; the table has all of them
MAX_MEMBERS = 12  # of each group on the page


class DuplicateView(NamedTuple):
    """One file of a group, with what the page says about it."""

    image: FolderImage
    keep: bool
    can_go: bool


class ListView(NamedTuple):
    """One list: its title, what it means, its groups, and how many groups and files it has in all."""

    kind: str
    title: str
    meaning: str
    groups: list[list[DuplicateView]]
    num_groups: int


LISTS = (
    ("same bytes", "The same file more than once", "Exact copies, whatever their names. One of each is enough."),
    (
        "same image",
        "The same picture, saved again",
        "In another size, quality or format. The first one is the largest.",
    ),
    (
        "look alike",
        "Pictures that look alike",
        "Such as several shots of one scene, or a picture and its crop: look at them before you remove one.",
    ),
)


async def duplicates_page(request: Request) -> Response:
    """``GET /duplicates``: the lists, or how far the comparison is."""
    server = server_state(request)
    library, indexed = indexed_folder(server)
    comparison = await _comparison(server)
    view = FolderView(comparison.snapshot)
    lists = comparison.lists
    copies = await asyncio.to_thread(lists.copies) if lists is not None else ()
    context = {
        "folder": library,
        "indexed": indexed,
        "comparison": comparison,
        "view": view,
        "finished": comparison.finished.is_set(),
        "lists": _list_views(lists, view, set(copies)) if lists else None,
        "num_copies": len(copies),
        "has_linked": lists is not None and bool(lists.linked),
        "num_bytes": _num_bytes(view, copies),
    }
    answer = page(request, "duplicates.html", context)
    if not comparison.finished.is_set():
        answer.headers["refresh"] = "3"
    return answer


async def duplicates_csv(request: Request) -> Response:
    """``GET /duplicates.csv``: every file of every list, as ``clerestory data duplicates --near --csv`` writes it."""
    comparison = await _comparison(server_state(request))
    lists = comparison.lists
    if lists is None:
        raise RequestRejected("the pictures are still being compared", "try again in a moment", status=409)
    rows = await asyncio.to_thread(lists.rows)
    headers = {"content-disposition": 'attachment; filename="duplicates.csv"'}
    return Response(captions_csv(rows).encode(), media_type="text/csv; charset=utf-8", headers=headers)


async def _comparison(server: ServerState) -> DuplicateSearch:
    library, indexed = indexed_folder(server)
    comparison = library.compare(indexed)
    await asyncio.to_thread(comparison.finished.wait, WAIT_SECONDS)
    # One that another request has replaced meanwhile, because the folder changed, has no result.
    return library.compare(indexed) if comparison.is_stopped else comparison


def _list_views(lists: DuplicateLists, view: FolderView, copies: set[str]) -> list[ListView]:
    groups: dict[str, tuple[DuplicateGroup, ...]] = {
        "same bytes": lists.same_bytes,
        "same image": lists.same_image,
        "look alike": lists.look_alike,
    }
    return [
        ListView(
            kind,
            title,
            meaning,
            [
                [_view(view, path, group, copies) for path in group.paths[:MAX_MEMBERS]]
                for group in groups[kind][:MAX_GROUPS]
            ],
            len(groups[kind]),
        )
        for kind, title, meaning in LISTS
    ]


def _view(view: FolderView, path: str, group: DuplicateGroup, copies: set[str]) -> DuplicateView:
    return DuplicateView(view.image(view.snapshot.places[path]), path == group.keep, path in copies)


def _num_bytes(view: FolderView, paths: tuple[str, ...]) -> int:
    return sum(int(view.snapshot.state.sizes[view.snapshot.places[path]]) for path in paths)
