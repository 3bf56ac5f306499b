"""Several processes at once, some of them killed."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.postgresql import ON_POSTGRESQL

from clerestory.core.digest import digest_folder
from clerestory.core.errors import ClerestoryError
from clerestory.core.release import Event
from clerestory.store import Store, database_errors, open_store

Start = Callable[..., subprocess.Popen[str]]
PROMOTERS, ROUNDS = 8, 12
WRITERS = 2  # that share a store in the test with kills
KILLS = {"sqlite": (13, 40), "postgresql": (5, 8)}  # from outside and from inside, of each


def go(*processes: subprocess.Popen[str]) -> None:
    """Let processes start at the same moment, once all of them have imported what they need."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def finish(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.splitlines()


def test_eight_processes_may_create_a_store_at_once(tmp_path: Path, database: str, workers: Start) -> None:
    home = tmp_path / "new" / "home"
    processes = [workers("begin", home) for _ in range(8)]
    go(*processes)
    lines = {line for process in processes for line in finish(process)}
    assert lines == {f"done {hashlib.sha256(b'the same content').hexdigest()}"}
    with open_store(home) as store:
        assert [record.seq for record in store.journal.records()] == list(range(1, 9))
        assert store.journal.verify() == []
        assert list((home / "tmp").iterdir()) == []


@ON_POSTGRESQL
def test_two_processes_give_the_same_digests_on_either_database(
    tmp_path: Path, database: str, model: Path, workers: Start
) -> None:
    one, two = (
        workers("digests", tmp_path / "one", model),
        workers("digests", tmp_path / "two", model, CLERESTORY_DB=""),
    )
    go(one, two)
    first, second = finish(one), finish(two)
    assert first == second
    assert len(set(first[0].split())) == 4


def test_exactly_one_of_eight_promoters_wins_each_generation(
    store: Store, add_releases: Callable[[int], str], workers: Start
) -> None:
    add_releases(PROMOTERS)
    before = store.journal.head()[0]
    processes = {number: workers("race", store.home, number, ROUNDS) for number in range(1, PROMOTERS + 1)}
    go(*processes.values())
    winners: dict[int, list[int]] = defaultdict(list)
    outcomes: Counter[str] = Counter()
    for number, process in processes.items():
        for line in finish(process):
            outcome, generation = line.split()
            outcomes[outcome] += 1
            if outcome == "won":
                winners[int(generation)].append(number)
    assert outcomes == {"won": ROUNDS, "lost": ROUNDS * (PROMOTERS - 1)}
    assert sorted(winners) == list(range(ROUNDS))
    assert all(len(numbers) == 1 for numbers in winners.values())
    records = [record.event for record in store.journal.records()[before:]]
    moves = [(int(event.details["generation.live"]), int(event.details["to.live"])) for event in records]
    assert moves == [(generation + 1, winners[generation][0]) for generation in range(ROUNDS)]
    assert store.journal.verify() == []
    assert store.verify_registry("icons") == []


def test_a_writer_that_does_not_finish_holds_up_writers_for_a_while_and_readers_never(
    store: Store, workers: Start, monkeypatch: pytest.MonkeyPatch, make_event: Callable[..., Event]
) -> None:
    process = workers("hold", store.home, 60)
    go(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    monkeypatch.setattr(database_errors, "BUSY_SECONDS", 1)
    with open_store(store.home) as waiting:
        assert waiting.journal.records() == []
        with pytest.raises(ClerestoryError, match="has kept the store locked for more than 1 s") as error:
            waiting.journal.append(make_event("icons@1"))
        assert "end it if it has stopped" in error.value.fix
        process.kill()
        assert waiting.journal.append(make_event("icons@1")).seq == 1


class Nursery:
    """Starts one writer after another, each a process of its own, and kills them or sees them die."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self._pid = 0
        self._heard: list[str] = []

    def start(self, seed: int, steps: int) -> None:
        self._in.write(f"{seed} {steps}\n")
        self._in.flush()
        self._pid = int(self._out.readline().removeprefix("pid "))
        self._heard = []

    def kill(self, after: int, seconds: float) -> None:
        """Kill the writer some acknowledgements and a moment later.

        Counting acknowledgements spreads the kills over everything it does, however fast the machine is.
        """
        self._heard = [self._out.readline().strip() for _ in range(after)]
        time.sleep(seconds)
        os.kill(self._pid, signal.SIGKILL)

    def heard(self) -> list[str]:
        """What the writer had acknowledged when it was dead."""
        while (line := self._out.readline().strip()) and not line.startswith("dead"):
            self._heard.append(line)
        assert line == "dead -9", line
        return self._heard


def test_killed_writers_lose_nothing_acknowledged_and_leave_nothing_incomplete(
    store: Store, database: str, add_releases: Callable[[int], str], workers: Start
) -> None:
    """Kills from outside at random moments, then from inside at random lines of the store's own code."""
    add_releases(2)
    store.close()
    dice = random.Random(0)
    processes = [workers("nursery", store.home) for _ in range(WRITERS)]
    go(*processes)
    nurseries = [Nursery(process) for process in processes]
    everything: list[str] = []
    from_outside, from_inside = KILLS[database]
    for turn in range(from_outside + from_inside):
        inside = turn >= from_outside
        for number, nursery in enumerate(nurseries):
            nursery.start(WRITERS * turn + number, dice.randrange(1, 800) if inside else 0)
        for nursery in nurseries:
            if not inside:
                nursery.kill(after=dice.randrange(15), seconds=dice.uniform(0, 0.02))
        lines = [line for nursery in nurseries for line in nursery.heard()]
        assert_stored(store.home, lines)
        everything += lines
    assert_stored(store.home, everything)
    assert_whole(store.home)
    kinds = Counter(line.split()[0] for line in everything)
    assert min(kinds[kind] for kind in ("blob", "event", "evidence", "model", "alias")) > 2, kinds


def assert_stored(home: Path, lines: list[str]) -> None:
    """Everything that was acknowledged to a writer is in the store."""
    generations = [0]
    with open_store(home) as store:
        records = {(record.seq, record.hash) for record in store.journal.records()}
        for line in lines:
            kind, *words = line.split()
            if kind == "blob":
                store.blobs.get(words[0])
            elif kind == "event":
                assert (int(words[0]), words[1]) in records
            elif kind == "evidence":
                assert store.evidence(words[0]).id == words[0]
            elif kind == "model":
                assert store.verify_model(words[0]) == []
            else:
                generations.append(int(words[0]))
        assert len(set(generations)) == len(generations)
        live = store.alias("icons", "live")
        assert (live.generation if live else 0) >= max(generations)


def assert_whole(home: Path) -> None:
    """Whatever is visible is complete: files are what they are called, tables agree, the chain holds."""
    for path in (home / "blobs").rglob("*"):
        if path.is_file():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    for folder in (home / "models").iterdir():
        assert digest_folder(folder)[0] == folder.name
    with open_store(home) as store:
        assert store.journal.verify() == []
        assert store.database.verify() == []
        assert store.verify_registry("icons") == []
        for evidence in store.find_evidence("train"):
            assert store.verify_evidence(evidence.id) == []


def test_a_full_disk_is_reported_in_one_sentence_and_leaves_nothing(
    tmp_path: Path, database: str, workers: Start
) -> None:
    process = workers("full", tmp_path / "home")
    go(process)
    *messages, records, left = finish(process)
    assert len(messages) == {"sqlite": 2, "postgresql": 1}[database], "a blob, and a record in a file"
    for message in messages:
        assert message.startswith(f"NotWritable {tmp_path / 'home'}")
        assert "cannot be written: File too large — " in message
        assert "damaged" not in message
    assert records == "True []", "what was acknowledged is there, and the chain holds"
    assert left == "[] False"
