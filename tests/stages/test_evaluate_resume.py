"""An evaluation killed anywhere goes on where it stopped: the same bytes, one batch at most done twice."""

import signal
import time
from pathlib import Path

import pytest
from tests.stages.evaluate_worker import evaluate_tiles
from tests.support.forked import ForkedProcess

from clerestory.core.digest import canonical
from clerestory.store import open_store

BATCH = 8


def asked(log: Path) -> int:
    return sum(int(line) for line in log.read_text(encoding="utf-8").split()) if log.exists() else 0


def run(home: Path, log: Path) -> str:
    """The digest of the rows of a run that ends."""
    assert ForkedProcess(evaluate_tiles, home, log, 0).wait() == 0
    with open_store(home) as store:
        return store.find_evidence("evaluate")[0].rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int, bytes]:
    """The rows, the number of pictures asked for and the measurements of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("whole")
    rows = run(folder / "home", folder / "log")
    return rows, asked(folder / "log"), measurements(folder / "home")


def measurements(home: Path) -> bytes:
    with open_store(home) as store:
        return canonical(list(store.find_evidence("evaluate")[0].measurements))


@pytest.mark.parametrize("stop_after", [1, 30, 60])
def test_killed_and_resumed_is_the_same(stop_after: int, whole: tuple[str, int, bytes], tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    worker = ForkedProcess(evaluate_tiles, home, log, stop_after)
    try:
        deadline = time.monotonic() + 120
        while asked(log) < stop_after and time.monotonic() < deadline:
            time.sleep(0.05)
        assert asked(log) >= stop_after, "the worker never came so far"
    finally:
        worker.kill()
        assert worker.wait() == -signal.SIGKILL
    rows = run(home, log)
    assert rows == whole[0], "the same rows to the last byte"
    assert measurements(home) == whole[2]
    assert whole[1] <= asked(log) <= whole[1] + BATCH, "at most one batch is asked twice"
