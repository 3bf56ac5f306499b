"""Feedback, reviews and journal records are sent to a real server until it is killed; then the disk is compared."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select
from tests.support.images import solid_image
from tests.support.server_process import server_process

from clerestory.core.release import Event
from clerestory.store import open_store
from clerestory.store.operations.schema import feedback as feedback_table
from clerestory.web.review_files import ReviewFiles

SENDERS = 4  # of feedback
SAME_RESPONSE = 4  # rows about one response
REVIEW_IMAGES = 3


@dataclass
class Acknowledged:
    """What a server has acknowledged before it was killed.

    Attributes:
        feedback: value by key.
        captions: the last accepted caption of each image, by the address of their review.
        steps: accepted captions, the earlier ones of an image included.
        journal: the numbers of records.
        lost: descriptions of acknowledged work that is not on the disk.
    """

    feedback: dict[str, str] = field(default_factory=dict)
    captions: dict[str, dict[int, str]] = field(default_factory=dict)
    steps: int = 0
    journal: dict[int, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


def kill_under_load(home: Path, acknowledged: Acknowledged, kill_after_s: float, attempt: int) -> None:
    """Start a server, send all kinds of work at once, and kill it ``kill_after_s`` after all have begun."""
    with server_process(home) as (process, client):
        address = str(client.base_url)
        picture = solid_image()
        files = [("images", (f"{i}.png", picture)) for i in range(REVIEW_IMAGES)]
        review = client.post("/describe", files=files).headers["location"]
        acknowledged.captions.setdefault(review, {})
        begun = threading.Barrier(SENDERS + 3)  # this thread, too
        stopped = threading.Event()
        jobs: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
            (_send_feedback, (address, acknowledged, f"{attempt}-{i}", begun)) for i in range(SENDERS)
        ]
        jobs.append((_accept_captions, (address, review, acknowledged, attempt, begun)))
        jobs.append((_write_journal, (home, acknowledged, attempt, stopped, begun)))
        threads = [threading.Thread(target=work, args=arguments) for work, arguments in jobs]
        for thread in threads:
            thread.start()
        begun.wait(60)
        time.sleep(kill_after_s)
        process.kill()
        stopped.set()
        for thread in threads:
            thread.join(30)


def _send_feedback(address: str, acknowledged: Acknowledged, name: str, begun: threading.Barrier) -> None:
    rng = random.Random(name)
    try:
        with httpx.Client(base_url=address, timeout=20, verify=False) as client:
            response = _new_response(client)
            begun.wait(60)
            for count in range(100_000):
                if count and count % SAME_RESPONSE == 0:
                    response = _new_response(client)
                key, value = f"{name}-{count}", rng.choice(["up", "down"])
                body = {"response": response, "kind": "thumbs", "value": value, "key": key}
                # The first one at once: the record of the response is still in the queue.
                if client.post("/v1/feedback", json=body).status_code == 200:
                    acknowledged.feedback[key] = value
    except httpx.HTTPError:
        pass  # killed


def _new_response(client: httpx.Client) -> str:
    """The id of a response whose record is still in the queue."""
    return str(client.post("/v1/embeddings", json={"input": "a cat"}).json().get("id", ""))


def _accept_captions(
    address: str, review: str, acknowledged: Acknowledged, attempt: int, begun: threading.Barrier
) -> None:
    try:
        origin = {"origin": address.rstrip("/")}
        with httpx.Client(base_url=address, timeout=20, headers=origin, verify=False) as client:
            begun.wait(60)
            for step in range(100_000):
                i, caption = step % REVIEW_IMAGES + 1, f"caption {step} of {attempt}"
                answer = client.post(review, data={f"caption-{i}": caption, "do": f"accept-{i}"})
                if answer.status_code == 303:
                    acknowledged.captions[review][i] = caption
                    acknowledged.steps += 1
    except httpx.HTTPError:
        pass


def _write_journal(
    home: Path, acknowledged: Acknowledged, attempt: int, stopped: threading.Event, begun: threading.Barrier
) -> None:
    """Another process's writes to the same database, while the server writes."""
    with open_store(home) as store:
        count = 0
        begun.wait(60)
        # With a pause: SQLite's lock is not fair, and a loop without one would keep the server from writing.
        while not stopped.wait(0.02):
            count += 1
            record = store.journal.append(Event("test", f"kill/{attempt}", "ada", str(count), "2026-01-01T00:00:00Z"))
            acknowledged.journal[record.seq] = record.hash


def compare_with_disk(home: Path, acknowledged: Acknowledged) -> None:
    """Note all acknowledged work that is not on the disk."""
    with open_store(home) as store:
        with store.database.reading() as connection:
            rows = connection.execute(select(feedback_table.c.key, feedback_table.c.value))
            stored = {row.key: row.value for row in rows}
        hashes = {record.seq: record.hash for record in store.journal.records()}
        problems = store.journal.verify()
    acknowledged.lost += [f"feedback {k}" for k, v in acknowledged.feedback.items() if stored.get(k) != v]
    acknowledged.lost += [f"journal {seq}" for seq, hash_ in acknowledged.journal.items() if hashes.get(seq) != hash_]
    acknowledged.lost += [f"journal: {each.message}" for each in problems]


def compare_reviews(home: Path, acknowledged: Acknowledged) -> None:
    """Note the acknowledged captions that are not on the disk, from which a new server reads a review."""
    files = ReviewFiles(home / "reviews")
    for review, captions in acknowledged.captions.items():
        stored = files.read(review.rpartition("/")[2])
        accepted = {item.number: item.caption for item in stored[1].accepted} if stored else {}
        # The step after the last acknowledged one may be on the disk, too: the kill came before its answer.
        acknowledged.lost += [
            f"{each} in {review}" for i, each in captions.items() if _step(accepted.get(i, "")) < _step(each)
        ]


def _step(caption: str) -> int:
    """The number of the step in a caption; -1 if there is none."""
    words = caption.split()
    return int(words[1]) if len(words) > 1 else -1
