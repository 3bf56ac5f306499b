"""``POST /describe/folder``: captions for the folder of the server, without an upload, as a queue that is on the disk.

The queue is a list of paths beside the review. How many of them are done is a part of the state of the review, so that
both are written together: a server that is stopped or killed continues at the next start.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from clerestory.apps.folder_index.walking import list_images
from clerestory.core.errors import NotFound, NotWritable, UploadError
from clerestory.core.files import read_problem
from clerestory.core.text import valid_unicode
from clerestory.web.describe import described_image, require_describer, review_of
from clerestory.web.folder_images import read_below
from clerestory.web.folder_library import FolderLibrary
from clerestory.web.folder_view import MAX_FOLDERS
from clerestory.web.labels import num_images
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.request_body import read_body
from clerestory.web.review_values import RejectedFile, ReviewItem
from clerestory.web.reviews import MAX_IMAGES_PER_REVIEW, FolderQueue, Review, Reviews
from clerestory.web.security import RequestRejected
from clerestory.web.state import ServerState, server_state
from clerestory.web.uploads import file_name

LOG = logging.getLogger("clerestory.web")
MAX_FORM_BYTES = 20_000
BATCH = 4  # files that are written together; a kill loses at most these, and those that are held back
POLL_SECONDS = 0.2
RETRY_SECONDS = 20.0
MAX_LISTED = 5
MAX_FAILURES = 8  # images in a row: then the model is at fault, and the queue waits for the next start
MODEL_FAILED = ("the model failed on it", "the server's log has the reason; try another copy of the picture")


class ModelFailed(Exception):
    """The model has failed on several images in a row, or on all there are."""


@dataclass(slots=True)
class Streak:
    """The files since the model last described one, held back as long as the model itself may be at fault.

    Attributes:
        num_failures: images in a row on which the model has failed.
        rejected: these, and the damaged files between them.
    """

    num_failures: int = 0
    rejected: list[RejectedFile] = field(default_factory=list)

    def end(self) -> list[RejectedFile]:
        """The files, which are at fault and not the model; the next streak begins."""
        ended, self.num_failures, self.rejected = self.rejected, 0, []
        return ended


class FolderChoice(NamedTuple):
    """A folder that can be described: its path below the served one (empty for all), and its number of images."""

    path: str
    num_images: int


class EarlierReview(NamedTuple):
    """A review of the folder that a person can go on with."""

    id: str
    num_items: int
    num_accepted: int
    num_left: int


class DescribeQueue:
    """Describes the files of a folder, one review after another, in a thread of its own.

    Args:
        server: the library, the reviews, and the model with its queue.
    """

    def __init__(self, server: ServerState) -> None:
        assert server.library is not None
        self._server, self._library = server, server.library
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="describe-folder", daemon=True)
        self.problems: dict[str, str] = {}  # why a review does not go on, by its id

    def start(self) -> None:
        """Go on with every review that is not complete."""
        for review_id in reversed(self._server.reviews.files.of_folder(self._library.folder)):
            self._waiting.put(review_id)
        self._thread.start()

    def add(self, review_id: str) -> None:
        """Describe one more review."""
        self._waiting.put(review_id)

    def close(self) -> None:
        """Finish the present file and stop."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def context(self) -> dict[str, object]:
        """What the page offers: folders to describe, and reviews to go on with."""
        earlier = _earlier_reviews(self._server.reviews, self._library)
        return {"choices": _choices(self._library), "earlier": earlier, "folder": self._library}

    def progress_of(self, review: Review) -> dict[str, object]:
        """How far the queue of a review is: numbers, and a sentence for people."""
        page = review.page
        problem = self.problems.get(review.id, "")
        running = page.num_described < page.num_queued and not problem
        sentence = f"{page.num_described:,} of {num_images(page.num_queued)} are described"
        if problem:
            sentence += f". The others are not: {problem}"
        elif running:
            sentence += "; you may close this page, the work goes on"
        return {
            "running": running,
            "visible": page.num_described < page.num_queued,
            "searchable": len(page.items),
            "done": page.num_described,
            "total": page.num_queued,
            "sentence": f"{sentence}.",
        }

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                review_id = self._waiting.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            try:
                self._describe(review_id)
            except NotFound:
                continue  # it was removed
            except (CancelledError, RuntimeError):
                if self._stop.is_set():
                    return
                self._give_up(review_id)
            except NotWritable as error:
                self.problems[review_id] = str(error)
                self._stop.wait(RETRY_SECONDS)
                self._waiting.put(review_id)
            except ModelFailed as error:
                self.problems[review_id] = f"the model failed on {error}; the server's log has the reason"
            except Exception:  # the other reviews go on
                self._give_up(review_id)

    def _give_up(self, review_id: str) -> None:
        """Log the error that is being handled, and name it on the page of the review."""
        LOG.exception("the review %s of a folder ended early", review_id)
        self.problems[review_id] = "an error stopped it; the server's log has the reason"

    def _describe(self, review_id: str) -> None:
        """Describe what is left of a review."""
        review = self._server.reviews.get(review_id)
        queued = self._server.reviews.files.read_queue(review_id)
        paths = queued[1] if queued else []
        streak = Streak()
        while not self._stop.is_set():
            position = review.page.num_described + len(streak.rejected)
            if position >= len(paths):
                break
            loaded = self._server.follower.current
            if loaded is None:
                self._stop.wait(POLL_SECONDS)
                continue
            if loaded.ref != review.release or not loaded.can_describe:
                self.problems[review_id] = f"it was begun with {review.release}; begin another review for the rest"
                return
            self.problems.pop(review_id, None)
            self._describe_batch(review, loaded, paths[position : position + BATCH], streak)
        if streak.rejected and not self._stop.is_set():
            if not review.page.items:
                raise ModelFailed("all of them")
            review.extend([], streak.end())

    def _describe_batch(self, review: Review, loaded: LoadedModel, paths: list[str], streak: Streak) -> None:
        """Describe a few files.

        Args:
            review: receives them, except those that are held back.
            loaded: the model.
            paths: of the files.
            streak: the files before these that are held back; changed.

        Raises:
            ModelFailed: it has failed on ``MAX_FAILURES`` images in a row, of which none is written.
        """
        images: list[tuple[ReviewItem, bytes]] = []
        rejected: list[RejectedFile] = []
        for path in paths:
            if self._stop.is_set():
                break
            name = file_name(valid_unicode(path))
            damaged = streak.rejected if streak.num_failures else rejected
            try:
                content = read_below(self._library.folder, path)
                images.append(self._server.queue.call(described_image, self._server, loaded, content, name))
            except UploadError as error:
                damaged.append(RejectedFile(name, error.message, error.fix))
            except OSError as error:
                damaged.append(RejectedFile(name, read_problem(error), "look for it in the folder"))
            except CancelledError:
                raise
            except Exception as error:  # whatever the model raises: it is logged, and the page names the image
                if self._stop.is_set():  # the queue of the model is closed
                    raise
                LOG.exception("the model failed on %s", name)
                streak.num_failures += 1
                streak.rejected.append(RejectedFile(name, *MODEL_FAILED))
                if streak.num_failures >= MAX_FAILURES:
                    raise ModelFailed("several in a row") from error
            else:
                rejected += streak.end()
        if images or rejected:
            review.extend(images, rejected)


async def begin(request: Request) -> Response:
    """``POST /describe/folder``: begin a review of the folder, or of the subfolder in the field ``under``."""
    server = server_state(request)
    library, describing = _library(server)
    loaded = require_describer(server.follower.loaded)
    body = (await read_body(request, MAX_FORM_BYTES)).decode("utf-8", "replace")
    under = dict(parse_qsl(body)).get("under", "")
    review = await asyncio.to_thread(_begin, server.reviews, library, loaded.ref, under)
    describing.add(review.id)
    return RedirectResponse(f"/describe/{review.id}", status_code=303)


async def progress(request: Request) -> Response:
    """``GET /describe/{review}/progress``: how far the queue is, for the script of the page."""
    _, describing = _library(server_state(request))
    return JSONResponse(describing.progress_of(await review_of(request)))


def _choices(library: FolderLibrary) -> list[FolderChoice]:
    """The folder and its subfolders with images, which a person may choose from."""
    counts: dict[str, int] = {}
    images = list_images(library.folder).images
    for path in images:
        parts = valid_unicode(path).split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            counts[name] = counts.get(name, 0) + 1
    found = [FolderChoice(name, count) for name, count in sorted(counts.items())]
    return [FolderChoice("", len(images)), *found[:MAX_FOLDERS]] if images else []


def _earlier_reviews(reviews: Reviews, library: FolderLibrary) -> list[EarlierReview]:
    """The latest reviews of the folder."""
    found = []
    for review_id in reviews.files.of_folder(library.folder)[:MAX_LISTED]:
        try:
            page = reviews.get(review_id).page
        except NotFound:
            continue
        left = page.num_queued - page.num_described
        found.append(EarlierReview(review_id, len(page.items), len(page.accepted), left))
    return found


def _library(server: ServerState) -> tuple[FolderLibrary, FolderQueue]:
    if server.library is None or server.describing is None:
        raise NotFound("this server has no folder of pictures", "start it with --data and a folder")
    return server.library, server.describing


def _begin(reviews: Reviews, library: FolderLibrary, ref: str, under: str) -> Review:
    """A review with its queue on the disk; of very many files the first ones."""
    listed = sorted(list_images(library.folder).images)
    # The paths come from the listing: a name from the browser is only compared with them.
    paths = [path for path in listed if not under or valid_unicode(path).startswith(f"{under}/")]
    if not paths:
        raise RequestRejected("there are no pictures in this folder", "choose another one", status=404)
    review = reviews.new(ref)
    reviews.files.write_queue(review.id, library.folder, paths[:MAX_IMAGES_PER_REVIEW])
    review.begin(len(paths[:MAX_IMAGES_PER_REVIEW]))
    return review
