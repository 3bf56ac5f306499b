"""Reviews on the disk: what a person did is written before it is acknowledged, so that no kill can lose it."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clerestory.apps.confidence import Confidence
from clerestory.apps.tags import Tag
from clerestory.core.files import make_folder, translate_disk_errors, write_atomic
from clerestory.web.review_values import Proposal, RejectedFile, ReviewItem, ReviewPage

_ID = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)
UNTOUCHED_DAYS = 7
QUEUE = "queue.json"  # of a review of a folder
_FIX = "free space and allow writing there; the captions are still in the form, so accept them again then"


class ReviewFiles:
    """One folder for each review: ``review.json`` with its state, a preview and a large copy of each image.

    Args:
        folder: the folder of all reviews; created when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, review_id: str, release: str, page: ReviewPage, touched: bool) -> None:
        """Write a state of a review; it is on the disk when this returns.

        Args:
            review_id: the review.
            release: the release that made the suggestions.
            page: its state.
            touched: whether a person has worked on it.

        Raises:
            NotWritable: the disk is full or read-only; the state before is still there.
        """
        folder = self.folder / review_id
        content = {"release": release, "touched": touched, "page": _as_json(page)}
        with translate_disk_errors(folder, _FIX):
            make_folder(folder)
            for item in page.items:
                preview = folder / f"{item.number}.webp"
                if not preview.exists():
                    write_atomic(preview, item.preview)
            write_atomic(folder / "review.json", json.dumps(content, ensure_ascii=False).encode(), mode=0o600)

    def write_large(self, review_id: str, number: int, content: bytes) -> None:
        """Write the large copy of an image, before the state that names the image.

        Raises:
            NotWritable: the disk is full or read-only.
        """
        with translate_disk_errors(self.folder / review_id, _FIX):
            make_folder(self.folder / review_id)
            write_atomic(self.folder / review_id / f"{number}-large.webp", content)

    def read_large(self, review_id: str, number: int) -> bytes | None:
        """The large copy of an image of a review; None if there is none."""
        with suppress(OSError):
            return (self.folder / review_id / f"{number}-large.webp").read_bytes()
        return None

    def read(self, review_id: str) -> tuple[str, ReviewPage] | None:
        """The release and the last state of a review; None if there is none, or if it is damaged."""
        if not _ID.fullmatch(review_id):
            return None
        folder = self.folder / review_id
        try:
            content = json.loads((folder / "review.json").read_bytes())
            return str(content["release"]), _from_json(content["page"], folder)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def is_touched(self, review_id: str) -> bool:
        """Whether a person has worked on a review."""
        try:
            return bool(json.loads((self.folder / review_id / "review.json").read_bytes())["touched"])
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def write_queue(self, review_id: str, folder: Path, paths: Sequence[str]) -> None:
        """Write which files of a folder a review is to have, before its first state.

        Raises:
            NotWritable: the disk is full or read-only.
        """
        content = {"folder": os.fsencode(folder).hex(), "paths": [os.fsencode(path).hex() for path in paths]}
        with translate_disk_errors(self.folder / review_id, "free space and allow writing there"):
            make_folder(self.folder / review_id)
            write_atomic(self.folder / review_id / QUEUE, json.dumps(content).encode(), mode=0o600)

    def read_queue(self, review_id: str) -> tuple[Path, list[str]] | None:
        """The folder of a review and the paths below it; None for a review of uploads."""
        try:
            content = json.loads((self.folder / review_id / QUEUE).read_bytes())
            paths = [os.fsdecode(bytes.fromhex(path)) for path in content["paths"]]
            return Path(os.fsdecode(bytes.fromhex(content["folder"]))), paths
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def of_folder(self, folder: Path) -> list[str]:
        """The reviews of a folder, the newest first."""
        with suppress(OSError):
            found = sorted(self.folder.glob(f"*/{QUEUE}"), key=lambda file: -file.stat().st_mtime)
            ids = [file.parent.name for file in found]
            return [each for each in ids if (queue := self.read_queue(each)) and queue[0] == folder]
        return []

    def remove_untouched(self) -> None:
        """Remove the reviews on which nobody has worked for ``UNTOUCHED_DAYS``.

        Those with work, and those whose queue is not finished, are never removed.
        """
        oldest = time.time() - UNTOUCHED_DAYS * 86_400
        with suppress(OSError):
            for file in self.folder.glob("*/review.json"):
                with suppress(ValueError, KeyError, TypeError):
                    content = json.loads(file.read_bytes())
                    page = content["page"]
                    is_finished = page.get("num_described", 0) >= page.get("num_queued", 0)
                    if file.stat().st_mtime < oldest and not content["touched"] and is_finished:
                        shutil.rmtree(file.parent)


def _as_json(page: ReviewPage) -> dict[str, Any]:
    items = [{name: value for name, value in asdict(item).items() if name != "preview"} for item in page.items]
    return {
        "items": items,
        "rejected": [asdict(each) for each in page.rejected],
        "last_number": page.last_number,
        "upload": page.upload,
        "num_uploaded": page.num_uploaded,
        "num_queued": page.num_queued,
        "num_described": page.num_described,
    }


def _from_json(content: dict[str, Any], folder: Path) -> ReviewPage:
    items = []
    for each in content["items"]:
        proposals = tuple(
            Proposal(p["text"], Confidence(**p["confidence"]) if p["confidence"] else None) for p in each["proposals"]
        )
        preview = (folder / f"{each['number']}.webp").read_bytes()
        tags = each.get("tags")  # absent in earlier versions, as ``tag_text`` is
        shown = None if tags is None else tuple(Tag(str(t["text"]), float(t["probability"])) for t in tags)
        items.append(ReviewItem(**{**each, "preview": preview, "proposals": proposals, "tags": shown}))
    rejected = tuple(RejectedFile(**each) for each in content["rejected"])
    counts = [content.get(name, 0) for name in ("num_uploaded", "num_queued", "num_described")]
    # ``upload`` and the counts are absent in earlier versions.
    return ReviewPage(tuple(items), rejected, content["last_number"], content.get("upload", ""), *counts)
