from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from clerestory.core.once import computed_once
from clerestory.core.provenance import PACKAGE, _imports_of, code_digest, imported_files

THREADS = 16


def in_threads(job: Callable[[], object]) -> list[object]:
    """The results of one job in many threads at the same moment."""
    barrier = threading.Barrier(THREADS)

    def run(_: int) -> object:
        barrier.wait()
        return job()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


def test_a_value_is_computed_once_by_one_thread_for_each_argument() -> None:
    calls: list[int] = []
    together = threading.Lock()

    @computed_once
    def square(x: int) -> int:
        assert together.acquire(blocking=False), "two threads compute at the same time"
        calls.append(x)
        together.release()
        return x * x

    assert in_threads(lambda: square(3)) == [9] * THREADS
    assert in_threads(lambda: square(4)) == [16] * THREADS
    assert calls == [3, 4]
    square.cache_clear()
    assert square(3) == 9
    assert calls == [3, 4, 3]


def test_a_failure_is_not_kept_and_a_function_may_call_itself() -> None:
    @computed_once
    def factorial(n: int) -> int:
        if n < 0:
            raise ValueError("negative")
        return 1 if n == 0 else n * factorial(n - 1)

    for _ in range(2):
        with pytest.raises(ValueError, match="negative"):
            factorial(-1)
    assert factorial(20) == 2432902008176640000


def test_the_code_behind_a_suite_is_read_by_many_threads_at_once() -> None:
    modules = [
        "clerestory." + ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        for file in sorted((PACKAGE / "stages").rglob("*.py"))
    ]
    expected = [imported_files(module, "stages") for module in modules]
    for function in (imported_files, _imports_of, code_digest):
        function.cache_clear()
    results = in_threads(lambda: [imported_files(module, "stages") for module in modules])
    assert results == [expected] * THREADS
