"""What the tests run as processes of their own: ``python worker.py VERB HOME …``.

Each prints ``ready`` once everything is imported and starts when a line comes in.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import clerestory.core.files
import clerestory.store
import clerestory.store.postgresql
from clerestory.core.codec import Tags
from clerestory.core.errors import ClerestoryError, Conflict
from clerestory.core.evidence import Cost, Evidence, Subject
from clerestory.core.provenance import now
from clerestory.core.release import Event
from clerestory.store import open_store

STORE = Path(clerestory.store.__file__).parent
FILES = Path(clerestory.core.files.__file__)  # atomic writes and locks, which the store shares with the data sources


def event(subject: str) -> Event:
    return Event("promoted", subject, "worker", "a test", now(), Tags(value="é"))


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def nursery(home: str) -> None:
    """For each line ``seed steps`` start a writer as a process of its own (without importing everything again).

    A writer with steps kills itself with SIGKILL when it has executed so many lines of the store's code; one without
    waits to be killed.
    """
    for line in sys.stdin:
        seed, steps = map(int, line.split())
        child = os.fork()
        if child == 0:
            say("pid", os.getpid())
            if steps:
                die_after(steps)
            write(home, seed)
        say("dead", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def die_after(steps: int) -> None:
    left = iter(range(steps))

    def on_line(_frame: FrameType, _event: str, _arg: object) -> Callable[..., Any]:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return on_line

    def on_call(frame: FrameType, _event: str, _arg: object) -> Callable[..., Any] | None:
        file = Path(frame.f_code.co_filename)
        return on_line if file.parent == STORE or file == FILES else None

    sys.settrace(on_call)


def write(home: str, seed: int) -> None:
    """Write everything a store takes, for ever; one line for each thing that it has accepted."""
    store = open_store(home)
    dice = random.Random(seed)
    for turn in count():
        for size in (1_000, 30_000, 600_000):
            blob = store.blobs.put(dice.randbytes(dice.randrange(size // 2, size)))
            say("blob", blob)
        record = store.journal.append(event(f"turn@{turn}"))
        say("event", record.seq, record.hash)
        made = Evidence("train", Subject(model=blob), (), (), Cost(0, 0, 0), now(), rows=blob)
        say("evidence", store.put_evidence(made))
        with tempfile.TemporaryDirectory() as folder:
            for name in ("config.json", "model.safetensors", "vocab.txt"):
                (Path(folder) / name).write_bytes(dice.randbytes(dice.randrange(1, 50_000)))
            say("model", store.put_model(folder))
        at = store.alias("icons", "live")
        try:
            moved = store.move_alias("icons", "live", turn % 2 + 1, at.generation if at else 0, event("icons@live"))
            say("alias", moved.generation)
        except Conflict:
            continue


def race(home: str, number: str, rounds: str) -> None:
    """Try to move ``icons@live`` from every generation to the next, at the same time as everybody else."""
    store = open_store(home)
    for generation in range(int(rounds)):
        while generation and ((at := store.alias("icons", "live")) is None or at.generation < generation):
            pass
        try:
            store.move_alias("icons", "live", int(number), generation, event(f"icons@{number}"))
            say("won", generation)
        except Conflict:
            say("lost", generation)


def begin(home: str) -> None:
    """Open a store that may not be there yet, and leave a record and a checkpoint in it."""
    store = open_store(home)
    store.journal.append(event("begin"))
    store.journal.checkpoint(now())
    say("done", store.blobs.put(b"the same content"))


def digests(home: str, model: str) -> None:
    """The names this process gives to a blob, an event, a model and evidence."""
    store = open_store(home)
    blob = store.blobs.put(b"pixels")
    groups = {"style": "noto", "gender": "none", "skin": "dark", "a": "ü"}
    subject = Subject(model="1" * 64)
    made = Evidence(
        "train", subject, (), (), Cost(1.5, 2, 3e-7), "2026-01-01", artifacts=Tags(log=blob), facts=Tags(groups)
    )
    record = store.journal.append(Event("k", "s", "w", "y", "2026-01-01", Tags(groups)))
    say(blob, record.hash, store.put_model(model), store.put_evidence(made))


def hold(home: str, idle_seconds: str) -> None:
    """Stop in the middle of a write transaction until a line comes in."""
    clerestory.store.postgresql.IDLE_SECONDS = int(idle_seconds)
    store = open_store(home)
    try:
        with store.database.writing() as connection:
            store.journal.write(connection, event("held"))
            say("holding")
            sys.stdin.readline()
        say("recorded")
    except ClerestoryError as error:
        say(error)


def full(home: str) -> None:
    """Write to a disk that takes no more than 32 KiB in a file: blobs, and records until one does not fit."""
    store = open_store(home)
    records = 0
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, 2**15))
    try:
        store.blobs.put(bytes(100_000))
    except ClerestoryError as error:
        say(type(error).__name__, error)
    try:
        while records < (100 if store.database.file else 2):
            store.journal.append(event("x" * 4000))
            records += 1
    except ClerestoryError as error:
        say(type(error).__name__, error)
    say(len(store.journal.records()) == records, store.journal.verify())
    say(list((Path(home) / "tmp").iterdir()), any(path.is_file() for path in (Path(home) / "blobs").rglob("*")))


if __name__ == "__main__":
    say("ready")
    sys.stdin.readline()
    verbs = {"nursery": nursery, "race": race, "begin": begin, "digests": digests, "hold": hold, "full": full}
    verbs[sys.argv[1]](*sys.argv[2:])
