"""One run for each working folder: a second process is refused, and named the first one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
from tests.support.forked import ForkedProcess
from tests.support.shapes import counted_shapes, shapes
from tests.support.tiny_hf import make_clip

from clerestory.core.errors import Conflict
from clerestory.core.evidence import Subject
from clerestory.core.files import exclusive_lock
from clerestory.core.progress import QUIET
from clerestory.models.resolve import open_folder
from clerestory.stages.train import TrainConfig, train
from clerestory.stages.train.distributed.ranks import Ranks
from clerestory.stages.train.run_folder import run_folder
from clerestory.stages.train.tune import TuneConfig, tune
from clerestory.stages.train.tune.run import KIND, _subject
from clerestory.store import open_store

CONFIG = TrainConfig(preset="tiny", seed=5, steps=2, batch_size=16, threads=1, checkpoint_every=1, validate_every=2)
SUBJECT = Subject(data="d", code="c", config="f", environment="e")


class Holding(type(QUIET)):  # type: ignore[misc]  # a class that is computed
    """Says when the training begins, and stays there: it cannot end before the second process has tried."""

    def __init__(self, begun: Event) -> None:
        self.begun = begun

    def task(self, label: str, total: float) -> Any:
        if label == "Training":
            self.begun.set()
            time.sleep(600)
        return super().task(label, total)


def train_and_hold(home: Path, begun: Event) -> None:
    train(shapes(), CONFIG, open_store(home), Holding(begun))


def test_the_same_training_in_a_second_process_is_refused(tmp_path: Path) -> None:
    home, begun = tmp_path / "home", get_context("forkserver").Event()
    first = ForkedProcess(train_and_hold, home, begun)
    try:
        assert begun.wait(120)
        with pytest.raises(Conflict, match=f"the same training is already running in process {first.pid}"):
            train(shapes(), CONFIG, open_store(home))
    finally:
        first.kill()
        first.wait()
    again = train(shapes(), CONFIG, open_store(home))
    assert not again.cached, "the lock of a killed process is free"
    assert not list((home / "runs").glob("*train-*"))
    assert not list((home / "runs").glob(".*.lock"))


def test_the_same_fine_tuning_in_a_second_process_is_refused(tmp_path: Path) -> None:
    store, data = open_store(tmp_path / "home"), counted_shapes()
    model = open_folder(make_clip(tmp_path / "clip"))
    config = TuneConfig(steps=1, batch_size=8, threads=1, num_validations=1, alphas=(1.0,), lock="none")
    subject = _subject(model, data, data, "val", config.resolved("dual"))
    with (
        run_folder(store, KIND, subject, "x"),
        pytest.raises(Conflict, match=f"the same fine-tuning is already running in process {os.getpid()}"),
    ):
        tune(model, data, data, config, store)
    assert tune(model, data, data, config, store).model


def test_one_of_many_threads_has_the_folder_at_a_time(tmp_path: Path) -> None:
    store, inside, refused, most = open_store(tmp_path), [], [], []

    def work() -> None:
        for _ in range(40):
            try:
                with run_folder(store, "train", SUBJECT, "it") as folder:
                    inside.append(1)
                    most.append(len(inside))
                    (folder / "file").write_text("x", encoding="utf-8")
                    inside.pop()
            except Conflict as error:
                refused.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert len(most) + len(refused) == 320


def test_a_folder_survives_an_error_and_can_be_taken_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with suppress(RuntimeError), run_folder(store, "train", SUBJECT, "it") as folder:
        (folder / "checkpoint").write_text("x", encoding="utf-8")
        raise RuntimeError
    with run_folder(store, "train", SUBJECT, "it") as again:
        assert (again / "checkpoint").read_text(encoding="utf-8") == "x"
    assert not again.exists()


def test_the_lock_of_a_killed_process_is_released_at_once(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from clerestory.core.files import exclusive_lock\n"
    code += "with exclusive_lock(Path(sys.argv[1]), 'it'):\n    print('locked', flush=True); time.sleep(60)"
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with (
            pytest.raises(Conflict, match=f"it is already running in process {holder.pid}"),
            exclusive_lock(lock, "it"),
        ):
            pass
        holder.kill()
        holder.wait()
        with exclusive_lock(lock, "it"):
            pass
    lock.write_text("77 elsewhere", encoding="utf-8")
    with exclusive_lock(lock, "it"):
        pass


def test_a_rank_that_is_not_the_main_one_takes_no_lock(tmp_path: Path) -> None:
    class Second(Ranks):
        def broadcast(self, value: object) -> object:  # type: ignore[override]  # of any type
            return value

    with run_folder(open_store(tmp_path), "train", SUBJECT, "it", Second(1, 2)) as folder:
        assert folder.is_dir()
        assert not list((tmp_path / "runs").glob(".*.lock"))
    assert folder.is_dir(), "the main process removes it"
