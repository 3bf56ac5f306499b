"""Atomic writes and locks between real processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clerestory.core.errors import InputError
from clerestory.core.files import atomic_path, file_lock, remove_leftovers, translate_disk_errors, write_atomic

HOLD = """
import sys, time
from pathlib import Path
from clerestory.core.files import file_lock
with file_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""
WRITE = """
import os, sys
from pathlib import Path
from clerestory.core.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print("half", flush=True)
    import time; time.sleep(60)
"""


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "file"
    write_atomic(target, b"old")
    with pytest.raises(RuntimeError):
        _fail_within(target)
    assert target.read_bytes() == b"old"
    assert os.listdir(target.parent) == ["file"]
    write_atomic(target, b"new", mode=0o600)
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"new", 0o600)


def _fail_within(target: Path) -> None:
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"new")
        raise RuntimeError


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomic(target, b"old")
    process = subprocess.Popen([sys.executable, "-c", WRITE, str(target)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert target.read_bytes() == b"old"


def test_the_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
    lock = tmp_path / "locks" / "lock"
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiter:
            assert waiter.stdout is not None
            assert not select.select([waiter.stdout], [], [], 2.0)[0], "the second process must wait"
            holder.kill()
            assert waiter.stdout.readline() == "locked\n"
            waiter.kill()


def test_a_lock_can_be_taken_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), file_lock(tmp_path / "lock"):
        raise RuntimeError
    with file_lock(tmp_path / "lock"):
        pass


def test_only_old_leftovers_are_removed(tmp_path: Path) -> None:
    (tmp_path / "fresh").write_bytes(b"")
    (tmp_path / "old-folder").mkdir()
    (tmp_path / "old-file").write_bytes(b"")
    for name in ("old-folder", "old-file"):
        os.utime(tmp_path / name, (0, 0))
    remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["fresh"]


def test_a_disk_error_becomes_one_sentence_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be written") as error, translate_disk_errors(tmp_path):
        write_atomic(tmp_path / "file" / "below", b"")
    assert str(tmp_path / "file") in error.value.message
    assert "--home" in error.value.fix
